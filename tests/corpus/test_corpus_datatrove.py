"""Repetition rules against datatrove's GopherRepetitionFilter, an independent implementation.

The verdicts on a document may only differ because of a definition that docs/filter-checks.md lists. The
tests give datatrove our definitions one by one. The fewest that make its verdict ours are the causes of the
difference. With all of them, both must always agree, including on the rule.
"""

import itertools
import random
import re
from collections import Counter

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import gopher_repetition_filter as peer
from plain_rules import lines_of, paragraphs_of, rules_of

from cpt.corpus.documentation import documents_of, source_files
from cpt.corpus.drops import Drop
from cpt.corpus.words import words_of


def check(text: str, rules: dict) -> Drop | None:
    return rules_of(rules).check(text)


THEIR_WORDS = peer.split_into_words


def mark_ends(text: str) -> list[str]:
    """Our words with another last character, so that the ends of joined words can be distinguished."""
    words = words_of(text)
    return [
        word[:-1] + chr(ord(word[-1]) + (0xF0000 if word[-1] < "\U00010000" else 0x80000)) for word in words
    ]


class Splitter:
    """Replaces the compiled expressions that datatrove splits lines and paragraphs with."""

    def __init__(self, split):
        self.split = split


# What differs, from datatrove's definition to ours: {definition: [(cause, how to split), ...]}.
STEPS = {
    "lines": [
        ("blank lines", lambda text: [line for line in text.split("\n") if line.strip()]),
        ("white space around lines", lines_of),
    ],
    "paragraphs": [
        ("white space in blank lines", lambda text: re.split(r"\n\s*\n", text)),
        ("white space around paragraphs", paragraphs_of),
    ],
    "words": [("word tokenizer", words_of), ("words joined without a space", mark_ends)],
}
LEVELS = sorted(itertools.product(range(3), repeat=3), key=sum)
# datatrove's rules in its order, under our names.
PEER_RULES = {
    "dup_para_frac": "duplicate_paragraphs",
    "dup_para_char_frac": "duplicate_paragraph_characters",
    "dup_line_frac": "duplicate_lines",
    "dup_line_char_frac": "duplicate_line_characters",
    **{f"top_{n}_gram": f"top_{n}_gram" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"duplicate_{n}_gram" for n in range(5, 11)},
}


def peer_verdict(text: str, levels: tuple[int, int, int], monkeypatch) -> str | None:
    """datatrove's verdict with our first `levels` steps for lines, paragraphs and words."""
    gopher = peer.GopherRepetitionFilter()
    lines, paragraphs, words = (
        STEPS[name][level - 1][1] if level else None for name, level in zip(STEPS, levels, strict=True)
    )
    if lines:
        gopher._line_splitter = Splitter(lines)
    if paragraphs:
        gopher.paragraph_exp = Splitter(paragraphs)
    split = (lambda text, language: words(text)) if words else THEIR_WORDS
    monkeypatch.setattr(peer, "split_into_words", split)
    verdict = gopher.filter(Document(text=text, id=""))
    return None if verdict is True else PEER_RULES[verdict[1]]


def broken_rules(text: str, rules: dict) -> set[str]:
    """All repetition rules that a text breaks: the threshold of each broken rule is removed in turn."""
    broken = set()
    while (drop := check(text, rules)) is not None:
        broken.add(drop.rule)
        rules = disable_rule(rules, drop.rule)
    return broken


def disable_rule(rules: dict, rule: str) -> dict:
    repetition = {
        key: dict(value) if isinstance(value, dict) else value for key, value in rules["repetition"].items()
    }
    if match := re.fullmatch(r"(top|duplicate)_(\d+)_gram", rule):
        key = {"top": "top_ngram_character_share", "duplicate": "duplicate_ngram_character_share"}[match[1]]
        repetition[key][int(match[2])] = 9.0
    else:
        key = rule.replace("characters", "character").removesuffix("s") + "_share"
        assert key in repetition
        repetition[key] = 9.0
    return {**rules, "repetition": repetition}


def causes(text: str, rules: dict, monkeypatch) -> list[str]:
    """Why datatrove's verdict on a text isn't ours; [] if it is. Fails on an unexplained difference."""
    if not text.strip():
        assert check(text, rules).rule == "empty"
        return ["no text but white space"] if peer_verdict(text, (0, 0, 0), monkeypatch) is None else []
    broken = broken_rules(text, rules)
    expected = next((rule for rule in PEER_RULES.values() if rule in broken), None)
    assert peer_verdict(text, (2, 2, 2), monkeypatch) == expected, f"unexplained: {text!r}"
    for levels in LEVELS:
        if (peer_verdict(text, levels, monkeypatch) is None) == (expected is None):
            # The last step names the cause, as the steps before it didn't suffice.
            return [steps[level - 1][0] for steps, level in zip(STEPS.values(), levels, strict=True) if level]
    raise AssertionError("not reached: all steps give our verdict")


@pytest.fixture
def repetition(filters) -> dict:
    """The config's filters without the length rules, which datatrove doesn't have."""
    length = {"minimum_lines": 0, "short_line_characters": 0, "maximum_short_line_share": 1.0}
    return {**filters, "length": length}


def generated(generator: random.Random) -> str:
    """Paragraphs of sentences of a few words, some repeated, with many kinds of line ends."""
    vocabulary = [
        "the",
        "cell",
        "don't",
        "3.14",
        "e.g.",
        "mass",
        "U.S.",
        "(x)",
        "état",
        "日本",
        "--",
        "a_b",
        "x.y/z",
    ]
    chosen = generator.sample(vocabulary, generator.randint(4, len(vocabulary)))
    sentences = [
        " ".join(generator.choices(chosen, k=generator.randint(3, 25))) + generator.choice([".", "", "!"])
        for _ in range(generator.randint(1, 12))
    ]
    ends = generator.sample(["\n", "\n\n", " \n", "\n \n", "\r\n\r\n", "\n\n\n", " "], 3)
    return "".join(
        generator.choice(sentences) + generator.choice(ends) for _ in range(generator.randint(1, 16))
    )


def test_generated_text(repetition, monkeypatch):
    generator = random.Random(0)
    counts = Counter()
    for _ in range(1500):
        counts[tuple(causes(generated(generator), repetition, monkeypatch))] += 1
    assert 1400 < counts[()] < 1500


def test_installed_documentation(repetition, monkeypatch):
    documents = [document.text for file in source_files(["numpy"], "x") for document in documents_of(file)]
    chosen = documents[:: max(1, len(documents) // 400)]
    counts = Counter(tuple(causes(text, repetition, monkeypatch)) for text in chosen)
    assert counts[()] > 0.95 * len(chosen)


NUMBERS = random.Random(0)
UNIQUE = [" ".join(f"{NUMBERS.getrandbits(40):x}" for _ in range(9)) for _ in range(20)]


@pytest.mark.parametrize(
    ("cause", "dropped_by_us", "text"),
    [
        ("no text but white space", True, " \n\t"),
        # Four equal lines of one blank each, among nine.
        ("blank lines", False, "\n \n".join(UNIQUE[:5])),
        # Three of eight lines repeat "yes".
        ("white space around lines", True, "\n".join([*UNIQUE[:4], "yes", " yes", "yes ", "\tyes"])),
        # Two of four paragraphs repeat "yes".
        ("white space in blank lines", True, "\n \n".join(["\n".join(UNIQUE), "yes", "yes", "yes"])),
        ("white space around paragraphs", True, "\n\n".join(["\n".join(UNIQUE), "yes", " yes", "yes "])),
        # spaCy splits "don't" into "do" and "n't", which makes a 2-gram that occurs five times.
        (
            "word tokenizer",
            False,
            "We don't know and you don't care while they don't mind or others don't run since all don't win, "
            "having lost earlier today",
        ),
        # Five different runs of five words, all of them "abcdef" when joined.
        (
            "words joined without a space",
            False,
            "ab c d e f a bc d e f a b cd e f a b c de f a b c d ef and something different afterwards",
        ),
    ],
)
def test_each_difference_by_hand(cause, dropped_by_us, text, repetition, monkeypatch):
    assert causes(text, repetition, monkeypatch) == [cause]
    assert (check(text, repetition) is not None) == dropped_by_us


def test_all_rules_have_a_peer(repetition):
    assert {*PEER_RULES.values()} == {*rules_of(repetition).names} - {"empty", "minimum_lines", "short_lines"}
