"""Length and repetition rules: hand-worked examples, and a plain reference on random and real text."""

import csv
import inspect
import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from paragraphs import PARAGRAPHS
from plain_rules import duplicates, lines_of, paragraphs_of, rules_of, split_words

from cpt.config import load
from cpt.config_presets import LANGUAGES
from cpt.config_sections import ColumnBounds, Filters
from cpt.corpus import repetition
from cpt.corpus.drops import Drop
from cpt.corpus.reflow import reflow
from cpt.corpus.repetition import count_lines, ngram_characters
from cpt.corpus.words import IDEOGRAPH, KANA, classes
from cpt.errors import UserError
from deduplicate import deduplicate
from filter_documents import filter_documents

ROOT = Path(__file__).resolve().parents[2]
PROSE = (
    "A sentence that is long enough to count as a line of its own.\n"
    "Another one, which says something else about quite other things.\n"
    "The third of them ends the document without repeating anything."
)


def check(text: str, filters: dict) -> Drop | None:
    return rules_of(filters).check(text)


def reference_top(text: str, n: int) -> int:
    found = split_words(text)
    grams = [" ".join(found[i : i + n]) for i in range(len(found) - n + 1)]
    if not grams:
        return 0
    gram, count = Counter(grams).most_common(1)[0]
    return len(gram) * count


def reference_duplicate(text: str, n: int) -> int:
    found = split_words(text)
    seen, characters, position = set(), 0, 0
    while position < len(found) - n + 1:
        gram = tuple(found[position : position + n])
        if gram in seen:
            characters += len("".join(gram))
            position += n
        else:
            seen.add(gram)
            position += 1
    return characters


def random_text(generator: random.Random) -> str:
    vocabulary = [
        "a",
        "bb",
        "ccc",
        "été",
        "x1",
        "日本語",
        "かな",
        "ไทยนี้",
        "e\u0301",
        "\uff0c",
        ".",
        ",",
        "(",
        "-",
        "'",
        "\U0001f600",
        "d_e",
        "F",
    ]
    chosen = vocabulary[: generator.randint(2, len(vocabulary))]
    separators = [" ", "  ", "\n", "", "\t"]
    return "".join(
        generator.choice(chosen) + generator.choice(separators) for _ in range(generator.randint(0, 150))
    )


def agree_with_reference(text: str) -> None:
    lengths = range(1, 11)
    top, duplicate = ngram_characters(text, lengths, lengths)
    assert top == {n: reference_top(text, n) for n in lengths}
    assert duplicate == {n: reference_duplicate(text, n) for n in lengths}


def test_ngrams_equal_a_plain_reference_on_random_text():
    generator = random.Random(0)
    for _ in range(400):
        agree_with_reference(random_text(generator))


def test_ngrams_equal_a_plain_reference_on_documentation():
    documented = [re, random, csv, json, inspect, np.einsum, np.ndarray, np.linalg.svd, np.histogram]
    texts = [reflow(inspect.getdoc(entry)) for entry in documented]
    for text in [*texts, "\n\n".join(texts), "\n".join(texts[:3] * 3)]:
        agree_with_reference(text)


ANY_CHARACTER = st.characters(exclude_categories=())  # lone surrogates as well


def test_any_text_has_a_verdict(filters):
    loose = {**filters, "length": {**filters["length"], "minimum_lines": 0}}
    table = rules_of(filters).names

    @settings(max_examples=200, deadline=None)
    @given(st.text(ANY_CHARACTER) | st.text("ab \n.") | st.text("é日\U0001f600\ud800\0\r\n "))
    def holds(text):
        agree_with_reference(text)
        for rules in (filters, loose):
            drop = check(text, rules)
            if drop:
                assert drop.rule in table
                assert drop.rule in ("empty", "minimum_lines") or 0 <= drop.threshold < drop.value < 3
            assert drop == check(text, rules)

    holds()


def test_any_lengths_may_be_asked_for():
    text = "one two three one two three four one two three four five six one two " * 3
    assert ngram_characters(text, [], [8, 5]) == ({}, {n: reference_duplicate(text, n) for n in (8, 5)})
    assert ngram_characters(text, [3], []) == ({3: reference_top(text, 3)}, {})
    assert ngram_characters(text, [], []) == ({}, {})


def test_top_ngram_by_hand():
    # "of the" stands three times: 6 characters each.
    assert ngram_characters("of the x of the y of the", [2], [])[0] == {2: 18}
    # One occurrence counts as well, and the first of equals is taken.
    assert ngram_characters("aaa bb c", [2], [])[0] == {2: len("aaa bb")}
    assert ngram_characters("alone", [1, 2], [])[0] == {1: 5, 2: 0}


def test_duplicate_ngram_by_hand():
    # The second "a b c d e" is a duplicate of 5 characters and is jumped over.
    assert ngram_characters("a b c d e a b c d e", [], [5])[1] == {5: 5}
    assert ngram_characters("a b c d e f", [], [5])[1] == {5: 0}


def test_lines_and_paragraphs():
    assert lines_of("\n a \r\n\n \t\nb\n") == ["a", "b"]
    assert paragraphs_of("\n\na\nb\n \n\nc\n") == ["a\nb", "c"]
    assert duplicates(["x", "yy", "x", "yy", "x"]) == (3, 4)


def width(letter: str) -> int:
    """Ideographs are as wide as three letters, kana and Korean syllables as two."""
    kind = classes()[ord(letter)]
    return 3 if kind == IDEOGRAPH else 2 if kind == KANA or "가" <= letter <= "힣" else 1


def agree_on_lines(text: str) -> None:
    lines, paragraphs = lines_of(text), paragraphs_of(text) if text.strip() else []
    short = sum(sum(width(letter) for letter in line) <= 3 for line in lines)
    expected = (len(text), len(lines), short, *duplicates(lines), len(paragraphs), *duplicates(paragraphs))
    assert count_lines(text, 3) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.text(ANY_CHARACTER)
    | st.text("ab\n \r\t\u3000é", max_size=60)
    | st.lists(
        st.sampled_from(
            ["\n", "\n\n", " \n\t\n ", " ", "x", "1234567é", "two words", "\x85", "字", "か", "한"]
        )
    ).map("".join)
)
def test_lines_equal_the_definition(text):
    agree_on_lines(text)


def test_many_lines_equal_the_definition():
    generator = random.Random(0)
    agree_on_lines("\n".join(str(generator.randrange(700)) * 4 for _ in range(1000)))
    agree_on_lines(" \n \n".join(str(generator.randrange(70)) * 9 for _ in range(100)))


def test_a_document_of_many_words_is_counted_in_parts(monkeypatch):
    monkeypatch.setattr(repetition, "PART_WORDS", 100)
    text = random_text(random.Random(7)) * 9
    found = split_words(text)
    parts = [" ".join(found[i : i + 100]) for i in range(0, len(found), 100)]
    assert len(parts) > 3
    whole = [ngram_characters(part, [2, 3], [5, 7]) for part in parts]
    assert ngram_characters(" ".join(found), [2, 3], [5, 7]) == tuple(
        {n: sum(part[kind][n] for part in whole) for n in whole[0][kind]} for kind in (0, 1)
    )


@pytest.mark.parametrize(
    ("text", "rule", "value"),
    [
        ("", "empty", 0),
        (" \n\t", "empty", 0),
        ("one\n\n\ntwo", "minimum_lines", 2),
        ("short\nlines\nonly", "short_lines", 1.0),
        (
            "\n".join(["The very same line, long enough to pass the first rule."] * 3),
            "duplicate_lines",
            2 / 3,
        ),
    ],
)
def test_rules_by_hand(filters, text, rule, value):
    drop = check(text, filters)
    assert (drop.rule, drop.value) == (rule, pytest.approx(value))


def test_line_characters_by_hand(filters):
    # 1 of 4 lines is a duplicate (under 0.30), but it has 100 of 281 characters (over 0.20).
    text = "\n".join(["x" * 100, "b" * 39, "c" * 39, "x" * 100])
    drop = check(text, filters)
    assert (drop.rule, drop.threshold) == ("duplicate_line_characters", 0.20)
    assert drop.value == pytest.approx(100 / 281)


def test_good_text_is_kept(filters):
    assert check(PROSE, filters) is None


def test_blank_lines_are_no_lines(filters):
    assert check(PROSE.replace("\n", "\n\n\n\n"), filters) is None


def run(raw, folder, filters, text_column="text", where=None) -> dict[str, Path]:
    """Run the stage; returns its outputs."""
    paths = {name: folder / name for name in ("documents", "drops", "examples")}
    filter_documents(raw, text_column, where or {}, Filters.model_validate(filters), "none", **paths)
    return paths


def test_every_document_is_accounted_for(save_table, tmp_path, filters):
    texts = [PROSE, None, "", "a\nb", PROSE.upper(), "short\nlines\nonly"]
    raw = save_table(tmp_path / "raw.parquet", {"content": texts, "id": [f"n{i}" for i in range(6)]})
    outputs = run(raw, tmp_path / "0", filters, "content")
    again = run(raw, tmp_path / "1", filters, "content")
    assert all(path.read_bytes() == again[name].read_bytes() for name, path in outputs.items())
    kept = pq.read_table(outputs["documents"]).to_pylist()
    assert [(row["row"], row["id"], row["url"]) for row in kept] == [(0, "n0", None), (4, "n4", None)]
    with open(outputs["drops"]) as file:
        table = {row["rule"]: (int(row["documents"]), int(row["bytes"])) for row in csv.DictReader(file)}
    assert list(table) == ["read", *rules_of(filters).names, "kept"]
    assert table["read"] == (6, sum(len(text or "") for text in texts))
    assert table["empty"][0] == 2
    for column in (0, 1):
        assert table["read"][column] == sum(row[column] for row in table.values()) - table["read"][column]
    examples = [json.loads(line) for line in outputs["examples"].read_text().splitlines()]
    assert [(entry["rule"], entry["id"]) for entry in examples] == [
        ("empty", "n1"),
        ("empty", "n2"),
        ("minimum_lines", "n3"),
        ("short_lines", "n5"),
    ]


def test_bounds_on_columns_come_first_and_every_document_is_accounted_for(save_table, tmp_path, filters):
    texts = [f"{PROSE}\n{number}" for number in range(7)] + [None]
    scores = [4.0, 3.99, None, float("nan"), 5.0, 5.01, 4.5, 1.0]
    tokens = [9, 9, 9, 9, 9, 9, 8, 9]
    raw = save_table(tmp_path / "raw.parquet", {"text": texts, "score": scores, "tokens": tokens})
    both = {"score": ColumnBounds(minimum=4, maximum=5), "tokens": ColumnBounds(minimum=9)}
    paths = run(raw, tmp_path, filters, where=both)
    assert pq.read_table(paths["documents"])["row"].to_pylist() == [0, 4]
    with open(paths["drops"]) as file:
        table = {row["rule"]: int(row["documents"]) for row in csv.DictReader(file)}
    assert list(table) == ["read", "where_score", "where_tokens", *rules_of(filters).names, "kept"]
    assert {rule: count for rule, count in table.items() if count} == {
        "read": 8,
        "where_score": 5,  # also the document without text
        "where_tokens": 1,
        "kept": 2,
    }
    examples = [json.loads(line) for line in paths["examples"].read_text().splitlines()]
    found = [(entry["rule"], entry["value"], entry["threshold"]) for entry in examples]
    missing = ("where_score", None, 4)
    assert found == [
        *(("where_score", 3.99, 4), missing, missing),
        *(("where_score", 5.01, 5), ("where_score", 1.0, 4), ("where_tokens", 8.0, 9)),
    ]
    both["quality"] = both.pop("score")
    with pytest.raises(UserError, match=r"raw\.parquet: there is no column 'quality'.*`where`"):
        run(raw, tmp_path, filters, where=both)


def test_counts_add_up_for_any_documents(save_table, tmp_path, filters):
    document = st.none() | st.text("ab. \n\r\0é", max_size=300) | st.just(PROSE) | st.binary(max_size=30)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(document, max_size=20))
    def holds(documents):
        values = [text.encode() if isinstance(text, str) else text for text in documents]
        raw = save_table(tmp_path / "raw.parquet", {"text": pa.array(values, pa.binary())})
        paths = run(raw, tmp_path, filters)
        with open(paths["drops"]) as file:
            table = {row["rule"]: (int(row["documents"]), int(row["bytes"])) for row in csv.DictReader(file)}
        texts = [(value or b"").decode(errors="replace") for value in values]
        assert table["read"] == (len(values), sum(len(text.encode()) for text in texts))
        read = table.pop("read")
        assert read == tuple(map(sum, zip(*table.values(), strict=True)))
        kept = pq.read_table(paths["documents"]).to_pylist()
        assert [row["text"] for row in kept] == [texts[row["row"]] for row in kept]
        assert table["kept"] == (len(kept), sum(len(row["text"].encode()) for row in kept))

    holds()


def test_a_missing_text_column_is_named(save_table, tmp_path, filters):
    raw = save_table(tmp_path / "raw.parquet", {"body": ["x"]})
    with pytest.raises(UserError, match=r"there is no column 'text'; its columns are body; .*text_column"):
        run(raw, tmp_path, filters)
    assert not (tmp_path / "documents").exists()


# ------------------------------------------------------------------- presets, languages, and what takes much
def test_a_share_of_one_is_no_rule(filters):
    filters["length"] = {"minimum_lines": 0, "short_line_characters": 0, "maximum_short_line_share": 1.0}
    assert check("aaa bb", filters).rule == "top_2_gram"
    filters["repetition"]["top_ngram_character_share"] = {2: 1.0, 3: 1.0, 4: 1.0}
    assert ngram_characters("a b\nc d", [4], [])[0][4] / 7 <= 1 and check("aaa bb", filters) is None
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
            "english can't be told from other languages; known codes: ace af",
        ),
        ({"language": {"minimum": 0.5}}, "`in` is for `language`"),
        ({"score": {"in": ["en"]}}, "score: `in` is for `language`"),
    ):
        config["corpora"]["fineweb_edu"]["where"] = where
        with pytest.raises(UserError, match=message):
            load(config)


def drop_tables(save_table, folder: Path, filters: dict, texts: list[str]) -> dict:
    """What `deduplicate` is called with, after `filter_documents`."""
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


def test_a_rule_that_takes_much_is_reported_with_examples(save_table, tmp_path, filters, caplog):
    texts = [PROSE + f"\n{number}" for number in range(6)] + ["short\nlines\nonly"] * 4
    given = drop_tables(save_table, tmp_path, filters, texts)
    deduplicate(**given, warn_share=0.3)
    assert caplog.messages == [
        "corpus c: filters.length.maximum_short_line_share dropped 4 documents (40.00 %), such as n6 (1, "
        "threshold 0.67); n7 (1, threshold 0.67); n8 (1, threshold 0.67)"
    ]
    caplog.clear()
    deduplicate(**given, warn_share=0.4)
    assert caplog.messages == []


def test_a_corpus_of_which_nothing_is_left_stops_and_names_the_key(save_table, tmp_path, filters):
    given = drop_tables(save_table, tmp_path, filters, ["short\nlines\nonly"] * 3 + ["", "a\nb"])
    with pytest.raises(UserError, match=r"c: not one of its 5 documents.*maximum_short_line_share dropped 3"):
        deduplicate(**given, warn_share=0.3)
    assert not (tmp_path / "keep").exists()
