"""Words as hashes: the words that the regular expression finds, with different hashes."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_rules import split_words

from cpt.corpus import kernels
from cpt.corpus.words import hash_words, words_of
from cpt.errors import UserError

# Any text, including lone surrogates, and text of the characters that split words.
ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(
    "aé日本語かなไทยนี้བོད་\u0301\u200b\U0001f600\ufe0f_1.,-，'\n\r\t \u3000\0\ud800"  # noqa: RUF001
)


@settings(max_examples=400, deadline=None)
@given(ANY_TEXT, st.booleans())
def test_hashes_follow_the_definition(text, punctuation):
    expected = words_of(text, punctuation)
    hashes, ends = hash_words(text, punctuation)
    assert (hashes.dtype, ends.dtype) == (np.uint64, np.int32)
    assert np.diff(ends).tolist() == [len(word) for word in expected]
    assert ends[0] == 0
    if punctuation:
        assert expected == split_words(text)
    # Equal words have equal hashes, different words have different ones.
    assert len(set(hashes.tolist())) == len(set(expected)) == len(set(zip(hashes, expected, strict=True)))


def test_words_by_hand():
    text = "Don't: state-of-the-art (3.14, e.g. x.y/z) — np.dtype(float)... a_b??"
    assert words_of(text) == [
        "Don't",
        ":",
        "state",
        "-",
        "of",
        "-",
        "the",
        "-",
        "art",
        "(",
        "3.14",
        ",",
        "e.g",
        ".",
        "x.y/z",
        ")",
        "—",
        "np.dtype(float",
        ")",
        ".",
        ".",
        ".",
        "a_b",
        "?",
        "?",
    ]
    assert words_of("Don't, 3.14", punctuation=False) == ["Don", "t", "3", "14"]


def test_every_code_point_has_the_class_that_the_expression_gives_it():
    text = " ".join(f"a{chr(code)}b" for code in range(0x110000))
    assert np.diff(hash_words(text)[1]).tolist() == [len(word) for word in words_of(text)]


def test_a_million_words_have_different_hashes():
    generator = random.Random(0)
    text = " ".join(f"{number:x}" for number in generator.sample(range(2**40), 300_000))
    text += " " + " ".join(str(number) for number in range(700_000))
    hashes, _ = hash_words(text)
    assert len(np.unique(hashes)) == len(set(text.split()))


def test_order_of_characters_counts():
    hashes, _ = hash_words("ab ba ab a b abc aab aba baa")
    assert hashes[0] == hashes[2]
    assert len(set(hashes.tolist())) == 8


def test_a_text_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(kernels, "LARGEST", 10)
    with pytest.raises(UserError, match=r"a document has 11 bytes; split it into parts under 2 GiB"):
        hash_words("x" * 11)
