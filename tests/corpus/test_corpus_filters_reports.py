"""Filters that are off, that select languages, or that drop much, and the reports on them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from filtering import PROSE, check, run
from paragraphs import PARAGRAPHS
from plain_rules import rules_of

from cpt.config import load
from cpt.config_presets import LANGUAGES
from cpt.config_sections import ColumnBounds
from cpt.errors import UserError
from deduplicate import deduplicate

ROOT = Path(__file__).resolve().parents[2]


def test_a_share_of_one_is_no_rule(filters):
    filters["length"] = {"minimum_lines": 0, "short_line_characters": 0, "maximum_short_line_share": 1.0}
    assert check("aaa bb", filters).rule == "top_2_gram"
    filters["repetition"]["top_ngram_character_share"] = {2: 1.0, 3: 1.0, 4: 1.0}
    assert check("aaa bb", filters) is None
    assert not any(rule.startswith("top") for rule in rules_of(filters).names)


def test_documents_in_other_languages_are_dropped(save_table, tmp_path, filters):
    texts = [PROSE, PARAGRAPHS["Chinese"], PARAGRAPHS["Japanese"], PARAGRAPHS["Arabic"], PARAGRAPHS["Korean"]]
    raw = save_table(tmp_path / "raw.parquet", {"text": texts, "language": ["xx"] * 5})
    where = {"language": ColumnBounds(**{"in": ["en", "zh", "ar"]})}
    paths = run(raw, tmp_path, filters, where=where)
    assert pq.read_table(paths["documents"])["row"].to_pylist() == [0, 1, 3]
    examples = [json.loads(line) for line in paths["examples"].read_text().splitlines()]
    assert [(entry["rule"], entry["threshold"]) for entry in examples] == [("where_language", 0.5)] * 2
    assert all(0 <= entry["value"] < 0.5 for entry in examples)
    certain = {"language": ColumnBounds(**{"in": ["zh"], "minimum": 0.999999})}
    assert len(pq.read_table(run(raw, tmp_path, filters, where=certain)["documents"])) == 0


def test_the_codes_are_those_of_the_model():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert set(LanguageIdentifier.from_model_file(MODEL_FILE).labels) == LANGUAGES
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    for where, message in (
        (
            {"language": {"in": ["english"]}},
            "english can't be identified; choose among the codes ace af",
        ),
        ({"language": {"minimum": 0.5}}, "`in` is for `language`"),
        ({"score": {"in": ["en"]}}, "score: `in` is for `language`"),
    ):
        config["corpora"]["fineweb_edu"]["where"] = where
        with pytest.raises(UserError, match=message):
            load(config)


def drop_tables(save_table, folder: Path, filters: dict, texts: list[str]) -> dict:
    """Run `filter_documents`; returns the arguments of `deduplicate`."""
    raw = save_table(folder / "raw.parquet", {"text": texts, "id": [f"n{i}" for i in range(len(texts))]})
    paths = run(raw, folder, filters)
    lists = {name: [path] for name, path in paths.items()}
    return {
        "corpora": {"c": 1},
        **lists,
        "partitions": 1,
        "keep": [folder / "keep"],
        "table": folder / "d.csv",
    }


def test_a_rule_that_drops_much_is_reported_with_examples(save_table, tmp_path, filters, caplog):
    texts = [PROSE + f"\n{number}" for number in range(6)] + ["short\nlines\nonly"] * 4
    arguments = drop_tables(save_table, tmp_path, filters, texts)
    deduplicate(**arguments, warn_share=0.3)
    assert caplog.messages == [
        "corpus c: filters.length.maximum_short_line_share dropped 4 documents (40.00 %), such as n6 (1, "
        "threshold 0.67); n7 (1, threshold 0.67); n8 (1, threshold 0.67)"
    ]
    caplog.clear()
    deduplicate(**arguments, warn_share=0.4)
    assert caplog.messages == []


def test_a_corpus_of_which_nothing_is_left_stops_and_names_the_key(save_table, tmp_path, filters):
    arguments = drop_tables(save_table, tmp_path, filters, ["short\nlines\nonly"] * 3 + ["", "a\nb"])
    message = (
        "c: not one of its 5 documents is left; change the thresholds .*maximum_short_line_share dropped 3"
    )
    with pytest.raises(UserError, match=message):
        deduplicate(**arguments, warn_share=0.3)
    assert not (tmp_path / "keep").exists()
