"""Any content: readers, filters, tokenizer windows and the contamination index against plain references."""

import gzip
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_rules import rules_of

from cpt.corpus import tokens
from cpt.corpus.contamination import SHORTEST_ITEM, Items
from cpt.corpus.documents import valid_text
from cpt.corpus.drops import Drop
from cpt.corpus.kernels import as_utf8
from cpt.corpus.reflow import reflow
from cpt.corpus.sources import documents_in
from cpt.corpus.tokens import encode_long
from cpt.corpus.words import with_single_spaces, words_of
from cpt.errors import UserError

QUICK = settings(max_examples=100, deadline=None)
ANY_CHARACTER = st.characters(exclude_categories=())  # lone surrogates as well
ANY_TEXT = st.text(ANY_CHARACTER) | st.text("aé日\U0001f600 .,\n\r\t\0\ud800\u2028\u0130")
share = st.floats(0, 1)


@st.composite
def thresholds(draw) -> dict:
    """Any settings that the config's `filters` allows."""
    names = ("duplicate_line_share", "duplicate_paragraph_share")
    names += ("duplicate_line_character_share", "duplicate_paragraph_character_share")
    ngrams = st.dictionaries(st.integers(1, 12), share, max_size=4)
    return {
        "length": {
            "minimum_lines": draw(st.integers(0, 4)),
            "short_line_characters": draw(st.integers(0, 40)),
            "maximum_short_line_share": draw(share),
        },
        "repetition": {
            **{name: draw(share) for name in names},
            "top_ngram_character_share": draw(ngrams),
            "duplicate_ngram_character_share": draw(ngrams),
        },
    }


def loosened(rules: dict, active: str) -> dict:
    """Settings under which only the rule `active` can drop a text that isn't empty."""
    infinite = float("inf")
    keys = {
        "duplicate_lines": "duplicate_line_share",
        "duplicate_paragraphs": "duplicate_paragraph_share",
        "duplicate_line_characters": "duplicate_line_character_share",
        "duplicate_paragraph_characters": "duplicate_paragraph_character_share",
    }
    length, repetition = dict(rules["length"]), dict(rules["repetition"])
    if active != "minimum_lines":
        length["minimum_lines"] = 0
    if active != "short_lines":
        length["maximum_short_line_share"] = infinite
    for rule, key in keys.items():
        if rule != active:
            repetition[key] = infinite
    for kind in ("top", "duplicate"):
        key = f"{kind}_ngram_character_share"
        repetition[key] = {
            n: bound if active == f"{kind}_{n}_gram" else infinite for n, bound in repetition[key].items()
        }
    return {"length": length, "repetition": repetition}


@QUICK
@given(ANY_TEXT, thresholds())
def test_the_first_rule_that_would_drop_a_text_alone_is_the_verdict(text, rules):
    names = rules_of(rules).names
    alone = (rules_of(loosened(rules, rule)).check(text) for rule in names)
    first = next((drop for drop in alone if drop), None)
    assert rules_of(rules).check(text) == first
    assert first is None or (first.rule in names and isinstance(first, Drop))


@QUICK
@given(st.none() | ANY_TEXT | st.binary())
def test_valid_text_is_utf8_and_says_whether_it_changed(value):
    text, replaced = valid_text(value)
    if value is None:
        assert (text, replaced) == (None, False)
    else:
        unchanged = text.encode() if isinstance(value, bytes) else text
        assert (unchanged == value) == (not replaced)
        assert valid_text(text) == (text, False)


@QUICK
@given(ANY_TEXT)
def test_line_ends_and_repeated_normalization_change_nothing(text):
    once = with_single_spaces(as_utf8(text))
    assert with_single_spaces(once).tobytes() == once.tobytes()
    assert with_single_spaces(as_utf8(text.replace("\n", "\r\n"))).tobytes() == once.tobytes()


LINES = st.sampled_from(
    [">>> f(1)", ".. note:: so", "::", "====", "- item", ":param x: y", "| a | b |", "  code"]
)


@QUICK
@given(st.lists(ANY_TEXT | LINES, max_size=12).map("\n".join))
def test_reflow_takes_any_text(text):
    flowed = reflow(text)
    assert flowed == reflow(text)
    assert flowed == flowed.strip("\n")
    assert "\n\n\n" not in flowed.replace("\r", "")


@QUICK
@given(
    st.lists(
        st.sampled_from(["the ", "rain", "\n", "  ", "日本", "\U0001f600", "x", "xx", "1 "]), max_size=400
    )
)
def test_long_texts_get_the_tokens_of_the_whole(byte_level, parts):
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("WINDOW", 120), ("OVERLAP", 40), ("MARGIN", 10)):
            patch.setattr(tokens, name, value)
        assert [int(i) for part in encode_long(byte_level, text) for i in part] == byte_level.encode(
            text, add_special_tokens=False
        ).ids


SENTENCES = st.lists(
    st.sampled_from(
        [
            "a",
            "B",
            "été",
            "\u0130",
            "ΑΣ",
            "Σ",
            "ß",
            "日本語",
            "ไทยนี้",
            "e\u0301",
            "\u200b",
            "x_1",
            "-",
            "\n",
            "'",
        ]
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(SENTENCES, min_size=1, max_size=5), SENTENCES, st.integers(2, 14))
def test_contamination_equals_a_plain_reference(save_table, items, document, n):
    texts, text = [" ".join(item) for item in items], " ".join(document)
    with tempfile.TemporaryDirectory() as folder:
        table = {"task": ["t"] * len(items), "item": list(range(len(items))), "text": texts}
        index = Items([save_table(Path(folder) / "items.parquet", table)], n)
    here = words_of(text.lower(), punctuation=False)
    expected = {}
    for number, item in enumerate(texts):
        own = words_of(item.lower(), punctuation=False)
        length = min(n, len(own))
        grams = {tuple(own[i : i + length]) for i in range(len(own) - length + 1)}
        shared = [tuple(here[i : i + length]) for i in range(len(here) - length + 1)]
        hit = next((gram for gram in shared if gram in grams), None)
        if hit and (length == n or length >= SHORTEST_ITEM):
            expected[number] = " ".join(hit)
    assert {hit.item: hit.ngram for hit in index.hits(text)} == expected


def write_lines(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@QUICK
@given(
    st.lists(st.tuples(st.none() | ANY_TEXT, st.none() | st.integers() | ANY_TEXT), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\n\n \n"]),
    st.booleans(),
    st.sampled_from(["x.jsonl", "x.jsonl.gz"]),
)
def test_json_lines_come_back(rows, ending, marked, name):
    lines = [json.dumps({"text": text, "id": identity, "more": [1]}).encode() for text, identity in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write_lines(path, b"\xef\xbb\xbf" * marked + ending.join(lines))
        read = list(documents_in(path, name, "text"))
    assert [document.text for document in read] == [valid_text(text)[0] for text, _ in rows]
    for row, (document, (_, identity)) in enumerate(zip(read, rows, strict=True)):
        expected_id = valid_text(identity if identity is None else str(identity))[0]
        assert document.id == (expected_id or f"{name}:{row}")


HOSTILE_LINES = st.sampled_from(
    [
        b'{"text": ' + b"[" * 100_000,
        b'{"text": "a", "id": ' + b"9" * 5_000 + b"}",
        b"NaN",
        b'{"text": "\\ud800"}',
    ]
)


@QUICK
@given(
    st.binary()
    | st.lists(HOSTILE_LINES | ANY_TEXT.map(lambda text: text.encode("utf-8", "replace"))).map(b"\n".join),
    st.sampled_from(["x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.txt", "x.md", "x.parquet"]),
)
def test_any_bytes_are_read_or_refused_with_the_files_name(content, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        try:
            read = list(documents_in(path, name, "text"))
        except UserError as error:
            assert name in str(error)
            return
    for document in read:
        assert document.text is None or document.text.encode().decode() == document.text
    if name.endswith((".txt", ".md")):
        (document,) = read
        assert document.text == content.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
