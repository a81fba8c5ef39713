# ruff: noqa: RUF001
"""Finds what an exam may ask about in a text: names, numbers, defined terms and headings."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

KINDS = ("entity", "number", "term", "heading")
SCRIPTS_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
WORD = re.compile(rf"[{SCRIPTS_WITHOUT_SPACES}]|[^\W_{SCRIPTS_WITHOUT_SPACES}]+(?:['’][^\W\d_]+)?")
# A sentence ends at a mark and white space or, in a script without spaces, at the mark alone.
SENTENCE_END = re.compile(r"[.!?؟۔।]+[\"'”’)\]]*(?=\s|$)|[。！？]+[”’」』）]*")
ABBREVIATION = re.compile(
    r"(?:\b[A-Za-z]|\b(?:e\.g|i\.e|etc|vs|cf|al|Fig|Eq|No|Dr|Mr|Mrs|Ms|St|Jr|Inc|approx))\.$"
)
NUMBER = re.compile(r"(?<![\w.,/^_$+−\[-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w/^_]|[.,:]\d|-\w)")
# English only: a defined term follows these words.
DEFINED = re.compile(
    r"\b(?:is|are|was|were|be|being|often|also|commonly|sometimes|usually) "
    r"(?:called|known as|termed|referred to as) (?:an? |the )?"
)
DEFINED_END = re.compile(
    r"[.,;:()\[\]—–\"“”]|\s(?:and|or|which|that|because|in|of|for|by|if|when|as|since|to|is|are|was|were|with|"
    r"on|at|from|after|but|while|where|who|has|have)\s"
)
GLOSSARY = re.compile(r"^(\w[\w' -]{0,40}\w) ?(?:: |– |— )(?=\S)")
PARTICLES = {"upon", "out", "into", "on", "back", "for", "off"}  # after "called" in another sense
CONNECTORS = {"of", "de", "von", "van", "der", "du", "la"}
FREQUENT = 60  # number of words that mean little
FEWEST_WORDS, MOST_CHARACTERS = 8, 400  # of a sentence that is asked about
HEADING_CHARACTERS, SECTION_CHARACTERS = 70, 120  # maximum of a heading, minimum of the paragraph below


class Span(NamedTuple):
    """A part of a text that can be asked about, and the sentence around it, as character positions."""

    kind: str
    begin: int
    end: int
    sentence: tuple[int, int]


def words_of(text: str) -> list[str]:
    """Returns the words in lower case, without punctuation; in a script without spaces, its characters."""
    return WORD.findall(text.casefold())


def lines_of(text: str) -> Iterator[tuple[int, int]]:
    """Yields begin and end of each non-empty line, without the white space around it."""
    for match in re.finditer(r"[^\n]*\S", text):
        begin = match.end() - len(match.group().lstrip())
        yield begin, match.end()


def sentences_of(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yields begin and end of each sentence in a line; text without a mark at its end is no sentence."""
    start = begin
    for match in SENTENCE_END.finditer(text, begin, end):
        if ABBREVIATION.search(text, start, match.end()):
            continue
        while start < match.end() and text[start].isspace():
            start += 1
        yield start, match.end()
        start = match.end()


def is_prose(sentence: str) -> bool:
    """Whether a sentence is neither too short nor too long, and consists of words, not symbols."""
    plain = sum(character.isalpha() or character.isspace() for character in sentence)
    initials = re.findall(r"\b[A-Z]\.", sentence)  # of authors, in lists of references
    return (
        len(words_of(sentence)) >= FEWEST_WORDS
        and len(sentence) <= MOST_CHARACTERS
        and plain >= 0.8 * len(sentence)
        and not re.search(r">>>|[|=<>{}\\`]|://|^\[", sentence)
        and len(initials) < 2
    )


def cased_share(texts: Iterable[str]) -> float:
    """Returns the share of letters that have an upper and a lower case; 0 without letters."""
    cased = letters = 0
    for text in texts:
        for character, count in Counter(text).items():
            letters += count * character.isalpha()
            cased += count * (character.lower() != character.upper())
    return cased / letters if letters else 0.0


class Words:
    """The lower-case words of a corpus, and the most frequent of them, which mean little."""

    def __init__(self, texts: Iterable[str]):
        counts: Counter = Counter()
        for text in texts:
            counts.update(word for word in re.findall(r"\b[^\W\d_]+\b", text) if word.islower())
        self.small = set(counts)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        self.frequent = set(ranked[: min(FREQUENT, len(ranked) // 10)])


def names_in(text: str, begin: int, end: int, words: Words) -> Iterator[tuple[int, int]]:
    """Yields runs of up to four capitalised words inside a sentence, not at its beginning.

    A run doesn't begin with a frequent word. A single word is no name if it also occurs in lower case.
    """
    run: list[re.Match] = []
    for match in [*re.finditer(r"\S+", text[begin:end]), None]:
        word = match and match.group().strip("\"'“”‘’()[],.;:!?")
        joined = bool(run) and not re.search(r"[,.;:!?)\]\"”]$", run[-1].group())
        if match and run and joined and word and (word[0].isupper() or word in CONNECTORS):
            run.append(match)
            continue
        while run and run[-1].group() in CONNECTORS:
            run.pop()
        while run and run[0].group().casefold() in words.frequent:
            del run[0]
        if run and run[0].start() and len(run) <= 4:
            first, last = run[0].group(), run[-1].group()
            start = run[0].start() + len(first) - len(first.lstrip("\"'“”‘’(["))
            stop = run[-1].end() - len(last) + len(last.rstrip("\"'“”‘’()[],.;:!?"))
            name = text[begin + start : begin + stop]
            name = name.removesuffix("’s").removesuffix("'s")
            is_name = len(run) > 1 or name.casefold() not in words.small
            if is_name and not re.search(r"\b\w\b", name) and re.fullmatch(r"[\w .'’-]+", name):
                yield begin + start, begin + start + len(name)
        run = [match] if match and word and word[0].isupper() else []


def spans_of(text: str, words: Words, cased: bool) -> Iterator[Span]:
    """Yields all spans of a document that can be asked about, in order; names only if `cased`."""
    lines = list(lines_of(text))
    for (begin, end), following in zip(lines, [*lines[1:], None], strict=True):
        line = text[begin:end]
        if following and _is_heading(line) and following[1] - following[0] >= SECTION_CHARACTERS:
            yield Span("heading", begin, end, (begin, following[1]))
            continue
        match = GLOSSARY.match(line)
        if match and _is_term(match[1], words):
            yield Span("term", begin, begin + match.end(1), (begin, following[1] if following else end))
        for first, last in sentences_of(text, begin, end):
            if not is_prose(text[first:last]):
                continue
            for match in NUMBER.finditer(text, first, last):
                if len(match.group()) > 1:  # a single digit is guessed too often
                    yield Span("number", *match.span(), (first, last))
            for match in DEFINED.finditer(text, first, last):
                stop = DEFINED_END.search(text, match.end(), last)
                term = text[match.end() : stop.start()].rstrip() if stop else ""
                if _is_term(term, words):
                    yield Span("term", match.end(), match.end() + len(term), (first, last))
            if cased:
                for place in names_in(text, first, last, words):
                    yield Span("entity", *place, (first, last))


def _is_term(term: str, words: Words) -> bool:
    named = words_of(term)
    plain = not any(word.isdigit() or word in PARTICLES for word in named)
    return 1 <= len(named) <= 3 and plain and words.frequent.isdisjoint(named)


def _is_heading(line: str) -> bool:
    words = words_of(line)
    return (
        3 <= len(line) <= HEADING_CHARACTERS
        and line[-1].isalnum()
        and line[0].isalnum()
        and bool(words)
        and not re.search(r"[|=<>{}\\`:]", line)
        and not line[0].islower()
        and sum(character.isalpha() or character.isspace() for character in line) >= 0.9 * len(line)
    )
