"""The filters on texts: an English text that passes, the verdict on one text, and the whole stage."""

from pathlib import Path

from plain_rules import rules_of

from cpt.config_sections import Filters
from cpt.corpus.drops import Drop
from filter_documents import filter_documents

PROSE = (
    "A sentence that is long enough to count as a line of its own.\n"
    "Another one, which says something else about quite other things.\n"
    "The third of them ends the document without repeating anything."
)


def check(text: str, filters: dict) -> Drop | None:
    return rules_of(filters).check(text)


def run(raw, folder, filters, text_column="text", where=None) -> dict[str, Path]:
    """Run the stage; returns its outputs."""
    paths = {name: folder / name for name in ("documents", "drops", "examples")}
    filter_documents(raw, text_column, where or {}, Filters.model_validate(filters), "none", **paths)
    return paths
