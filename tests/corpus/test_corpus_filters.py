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
from filtering import PROSE, check, run
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_rules import duplicates, lines_of, paragraphs_of, rules_of, split_words

from cpt.config_sections import ColumnBounds
from cpt.corpus import repetition
from cpt.corpus.reflow import reflow
from cpt.corpus.repetition import count_lines, ngram_characters
from cpt.corpus.words import IDEOGRAPH, KANA, classes
from cpt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def reference_top(text: str, n: int) -> int:
    words = split_words(text)
    grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return 0
    gram, count = Counter(grams).most_common(1)[0]
    return len(gram) * count


def reference_duplicate(text: str, n: int) -> int:
    words = split_words(text)
    seen, characters, position = set(), 0, 0
    while position < len(words) - n + 1:
        gram = tuple(words[position : position + n])
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


def test_any_lengths_may_be_requested():
    text = "one two three one two three four one two three four five six one two " * 3
    assert ngram_characters(text, [], [8, 5]) == ({}, {n: reference_duplicate(text, n) for n in (8, 5)})
    assert ngram_characters(text, [3], []) == ({3: reference_top(text, 3)}, {})
    assert ngram_characters(text, [], []) == ({}, {})


def test_top_ngram_by_hand():
    # "of the" occurs three times, with 6 characters each.
    assert ngram_characters("of the x of the y of the", [2], [])[0] == {2: 18}
    # One occurrence counts as well; of equally frequent n-grams, the first is used.
    assert ngram_characters("aaa bb c", [2], [])[0] == {2: len("aaa bb")}
    assert ngram_characters("alone", [1, 2], [])[0] == {1: 5, 2: 0}


def test_duplicate_ngram_by_hand():
    # The second "a b c d e" is a duplicate of 5 characters and is skipped.
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
    words = split_words(text)
    parts = [" ".join(words[i : i + 100]) for i in range(0, len(words), 100)]
    assert len(parts) > 3
    whole = [ngram_characters(part, [2, 3], [5, 7]) for part in parts]
    assert ngram_characters(" ".join(words), [2, 3], [5, 7]) == tuple(
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
    drops = [(entry["rule"], entry["value"], entry["threshold"]) for entry in examples]
    missing = ("where_score", None, 4)
    assert drops == [
        ("where_score", 3.99, 4),
        missing,
        missing,
        ("where_score", 5.01, 5),
        ("where_score", 1.0, 4),
        ("where_tokens", 8.0, 9),
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
