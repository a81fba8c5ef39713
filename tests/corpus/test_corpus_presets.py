"""The filters' presets, and the config key of every rule."""

from pathlib import Path

import pytest
import yaml

from cpt.config import load
from cpt.config_sections import DocumentFilters
from cpt.corpus.drops import key_of
from cpt.corpus.filters import Rules
from cpt.corpus.tokenization import RULES as TOKEN_RULES
from cpt.digest import plain
from cpt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
MANUAL = """max_wal_size

Maximum size to let the WAL grow during automatic checkpoints. This is a soft limit; WAL size can exceed it.
Default
1GB
Context
sighup
min_wal_size

As long as WAL disk usage stays below this setting, old WAL files are always recycled at a checkpoint.
Default
80MB
Context
sighup
"""


def load_filters(**filters):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["filters"] |= filters
    return load(config).filters


def test_web_is_what_it_was():
    filters = load_filters()
    assert filters.preset == "web" and filters == load_filters(preset="web")
    assert filters.length.model_dump() == {
        "minimum_lines": 3,
        "short_line_characters": 30,
        "maximum_short_line_share": 0.67,
    }
    assert filters.repetition.model_dump() == {
        "duplicate_line_share": 0.30,
        "duplicate_paragraph_share": 0.30,
        "duplicate_line_character_share": 0.20,
        "duplicate_paragraph_character_share": 0.20,
        "top_ngram_character_share": {2: 0.20, 3: 0.18, 4: 0.16},
        "duplicate_ngram_character_share": {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
    }
    assert filters.private is None


def test_a_manual_passes_as_reference_and_own_keys_override_the_preset():
    reference = load_filters(preset="reference")
    assert Rules(load_filters()).check(MANUAL).rule == "short_lines"
    assert Rules(reference).check(MANUAL) is None
    assert Rules(reference).check("Contents\n1.1 Overview\n1.2 Details\n1.3 Index").rule == "short_lines"
    own = load_filters(
        preset="reference",
        length={"minimum_lines": 1},
        repetition={"top_ngram_character_share": {4: None, "2": 0.3}},
    )
    assert own.length.minimum_lines == 1 and own.length.maximum_short_line_share == 0.92
    assert own.repetition.top_ngram_character_share == {2: 0.3, 3: 0.42, 4: 1.0}
    assert own.repetition.duplicate_line_share == reference.repetition.duplicate_line_share
    for key in type(reference.repetition).model_fields:  # a manual is never judged harder than a web page
        web, manual = (getattr(section.repetition, key) for section in (load_filters(), reference))
        assert all(manual[n] > web[n] for n in web) if isinstance(web, dict) else manual > web
    # A stage gets these settings and doesn't apply the preset again.
    assert DocumentFilters.model_validate(plain(own.document_filters)) == own.document_filters
    with pytest.raises(UserError, match=r"filters\.preset: input should be 'web' or 'reference'"):
        load_filters(preset="book")


@pytest.mark.parametrize("preset", ["web", "reference"])
def test_every_rule_has_a_key_of_the_config(preset):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["filters"] = {"preset": preset}
    config["corpora"]["fineweb_edu"]["where"] = {"score": {"minimum": 4}}
    merged = load(config).model_dump(by_alias=True)
    for rule in ["where_score", *Rules(load_filters()).names, *TOKEN_RULES]:
        value = merged
        for step in key_of(rule, "fineweb_edu").split("."):
            value = value[int(step) if step.isdecimal() else step]
        assert value is not None
