"""Candidates for an exam's items: what each asks about, the text around it, and answers of the same kind.

They depend only on the held-out text. cpt.evaluate.exam chooses among the candidates.
"""

import hashlib
import json
import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cpt.errors import UserError
from cpt.evaluate.exam_text import GLOSSARY, KINDS, Span, Words, cased_share, lines_of, spans_of, words_of
from cpt.files import write_text

TITLE_CHARACTERS = 120
BEFORE_CHARACTERS, AFTER_CHARACTERS = 200, 80  # of text around a blank
PASSAGE_CHARACTERS = 300  # before and after a sentence
CONTEXT_WORDS = 3  # next to a blank: an answer that elsewhere has the same words next to it may be right
PROPOSED = 4  # candidates for each item wanted
POOL = 8  # wrong answers to choose three from
CONTENT_LETTERS = 4  # shortest word that a question must not share with an answer
MOST_DOCUMENTS = 2  # that may have the same heading, or explain the same term
CASED = 0.5  # minimum share of letters with two cases to search for names
YEAR = re.compile(r"1[0-9]{3}|20[0-9]{2}")
Neighbours = tuple[tuple[str, ...], tuple[str, ...]]  # the words before and after a blank


@dataclass(frozen=True)
class Candidate:
    """A question and its possible answers: `pool` with the right one first, `counts` of each in the text.

    The text of an item is `before`, `space`, an answer and `after`, one after the other.
    """

    kind: str
    document: str
    url: str | None
    before: str
    space: str
    after: str
    passage: str
    pool: list[str]
    counts: list[int]


class Place(NamedTuple):
    """A blank: its span, its document's number, its answer and the words next to it."""

    number: int
    span: Span
    answer: str
    neighbours: Neighbours


def digest(*parts: object) -> bytes:
    """Returns a sort key of candidates and answers: pseudo-random, and the same on every machine."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def corpus_digest(documents: Iterable[dict[str, Any]]) -> str:
    """Returns the SHA-256 (hex) of id and text of all held-out documents, in order."""
    hasher = hashlib.sha256()
    for document in documents:
        hasher.update(digest(document["id"], document["text"]))
    return hasher.hexdigest()


def held_out_documents(path: Path) -> list[dict[str, Any]]:
    """Read id, url and text of a corpus's held-out documents. Raises UserError if the file can't be read."""
    try:
        return pq.read_table(path, columns=["id", "url", "text"]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: no held-out documents ({error}); delete it and run again") from None


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


class Shown(NamedTuple):
    """The text of a question, in lower case, and its words."""

    text: str
    words: frozenset[str]

    @classmethod
    def of(cls, text: str) -> "Shown":
        return cls(text.casefold(), frozenset(words_of(text)))

    def has(self, answer: str) -> bool:
        """Whether a meaningful word of an answer (a long word or a number) occurs here.

        For an answer without spaces between words (Chinese, Thai, ...): whether the whole answer occurs here.
        """
        words = words_of(answer)
        if all(len(word) == 1 for word in words):
            return answer.casefold() in self.text
        return any(word in self.words for word in words if len(word) >= CONTENT_LETTERS or word.isdigit())


def form_of(kind: str, answer: str) -> tuple:
    """Returns the form of an answer; answers of the same form fit into the same blank."""
    if kind == "number":
        whole, _, decimals = answer.partition(".")
        zeros = len(whole) - len(whole.rstrip("0"))
        return bool(YEAR.fullmatch(answer)), len(whole), len(decimals), "," in answer, zeros
    size = len(words_of(answer))
    return min(size, 3), answer.isupper(), answer[0].isupper(), answer.endswith("s"), "_" in answer


def _number(answer: str) -> float:
    return float(answer.replace(",", ""))


def _starts_with_vowel(answer: str) -> bool:
    return answer[:1].casefold() in "aeiou"


class Index:
    """An index of the held-out text: all places of answers in order, and answers by form and neighbour."""

    def __init__(self, documents: Sequence[dict[str, Any]]):
        self.texts = [document["text"] for document in documents]
        words = Words(self.texts)
        self.cased = cased_share(self.texts) >= CASED
        self.lines = Counter(line for text in self.texts for line in _distinct_lines(text))
        self.counts: dict[str, Counter] = {kind: Counter() for kind in KINDS}
        self.neighbours: set[tuple[str, str, tuple[str, ...]]] = set()
        self.places: list[Place] = []
        answers: dict[tuple, set[str]] = defaultdict(set)
        for number, text in enumerate(self.texts):
            for span in spans_of(text, words, self.cased):
                place = Place(number, span, text[span.begin : span.end], _neighbours(text, span))
                self.places.append(place)
                self.counts[span.kind][place.answer] += 1
                for side, near in enumerate(place.neighbours):
                    self.neighbours.add((place.answer.casefold(), str(side), near))
                if not self.is_generic(place):
                    for key in self._keys(place):
                        answers[key].add(place.answer)
        order = {kind: _number if kind == "number" else digest for kind in KINDS}
        self.answers = {
            key: sorted(alternatives, key=lambda answer, key=key: (order[key[0]](answer), answer))
            for key, alternatives in answers.items()
        }

    def notices(self, corpus: str) -> list[str]:
        """Returns messages on what can't be asked about because of the corpus's language."""
        if self.cased:
            return []
        return [
            f"evaluate.exam: {corpus} is written without capitals, by which names are found; the exam asks "
            "about numbers, headings and explained terms alone"
        ]

    def is_generic(self, place: Place) -> bool:
        """Whether an answer at the start of a line, such as a heading, starts lines in many documents."""
        opens = place.span.sentence[0] == place.span.begin
        return opens and self.lines[place.answer.casefold()] > MOST_DOCUMENTS

    def _keys(self, place: Place) -> list[tuple]:
        """Returns the keys of answers of the same form: first those after the same word, then all."""
        key = (place.span.kind, form_of(place.span.kind, place.answer))
        return [(*key, place.neighbours[0][-1:]), key]

    def alike(self, place: Place) -> Iterator[str]:
        """Yields answers of the same form as a place's own, in an order that depends on the place; for
        numbers, only those of similar size."""
        *near, everywhere = (self.answers[key] for key in self._keys(place) if key in self.answers)
        if place.span.kind == "number":  # one of another size is easily ruled out
            middle = bisect(everywhere, _number(place.answer), key=_number)
            close = everywhere[max(0, middle - 2 * POOL) : middle + 2 * POOL]
            yield from sorted(close, key=lambda answer: digest(place.answer, place.neighbours, answer))
            return
        for answers in (*near, everywhere):
            start = int.from_bytes(digest(place.answer, place.neighbours)[:8]) % len(answers)
            yield from islice(chain(answers[start:], answers[:start]), 50 * POOL)

    def pool(self, place: Place, shown: Shown) -> list[str]:
        """Returns wrong answers to a blank that pass every check, at most POOL."""
        own, (left, right) = set(words_of(place.answer)), place.neighbours
        article = left[-1:] in (("a",), ("an",))

        def fits(other: str) -> bool:
            name = other.casefold()
            return (
                own.isdisjoint(words_of(other))
                and not shown.has(other)
                and (name, "0", left) not in self.neighbours
                and (name, "1", right) not in self.neighbours
                and not (article and _starts_with_vowel(other) != _starts_with_vowel(place.answer))
            )

        # Half of them are at least as frequent as the right answer, so that frequency doesn't reveal it.
        count = self.counts[place.span.kind][place.answer]
        frequent: dict[str, str] = {}
        others: dict[str, str] = {}
        for other in self.alike(place):
            name, often = other.casefold(), self.counts[place.span.kind][other] >= count
            half = frequent if often else others
            if name not in frequent and name not in others and len(half) < POOL and fits(other):
                half[name] = other
                if len(frequent) >= POOL // 2 and len(frequent) + len(others) >= POOL:
                    break
        frequent_answers = list(frequent.values())[: max(POOL // 2, POOL - len(others))]
        return [*frequent_answers, *others.values()][:POOL]


def _distinct_lines(text: str) -> set[str]:
    """Returns the distinct lines of a document, cut at the colon or dash after a term that they explain."""
    lines = (text[begin:end] for begin, end in lines_of(text))
    return {(match[1] if (match := GLOSSARY.match(line)) else line).casefold() for line in lines}


def _neighbours(text: str, span: Span) -> Neighbours:
    left = words_of(text[max(0, span.begin - 80) : span.begin])[-CONTEXT_WORDS:]
    return tuple(left), tuple(words_of(text[span.end : span.end + 80])[:CONTEXT_WORDS])


def _question(text: str, span: Span) -> tuple[str, str]:
    """Returns the text before a blank, with the document's first line above it, and the text after it."""
    begin = max(0, span.begin - BEFORE_CHARACTERS)
    line = text.rfind("\n", 0, span.sentence[0]) + 1
    if span.sentence[0] == span.begin:
        begin = text.find("\n", begin, span.begin) + 1 or begin
    elif line >= begin:
        begin = line
    else:  # begin at the first sentence within BEFORE_CHARACTERS
        end = re.search(r"[.!?\u3002\uff01\uff1f]\s*", text[begin : span.sentence[0]])
        begin = begin + end.end() if end else span.sentence[0]
    before = text[begin : span.begin].lstrip()
    title = text.strip().partition("\n")[0].strip()
    if title and len(title) <= TITLE_CHARACTERS and begin > text.find(title) + len(title):
        before = f"{title}\n\n{before}"
    after = text[span.end : span.sentence[1]]
    if len(after) > AFTER_CHARACTERS:
        cut = after.rfind(" ", 0, AFTER_CHARACTERS)
        after = after[: cut if cut > 0 else AFTER_CHARACTERS]
    return before, after.rstrip()


def passage_around(text: str, begin: int, end: int) -> str:
    """Returns the text around a sentence, cut at spaces."""
    first, last = begin - PASSAGE_CHARACTERS, end + PASSAGE_CHARACTERS
    first = text.find(" ", first, begin) + 1 or begin if first > 0 else 0
    last = text.rfind(" ", end, last) if last < len(text) else len(text)
    return text[first : max(last, end)].strip()


def _order_by_turns(places: Iterable[Place], documents: Sequence[dict[str, Any]]) -> Iterator[Place]:
    """Returns places in the order of trial: kinds in turn, and within each kind documents in turn."""
    rank: Counter = Counter()
    entries: dict[str, list[tuple[int, bytes, Place]]] = defaultdict(list)
    keyed = ((digest(documents[place.number]["id"], place.span), place) for place in places)
    for key, place in sorted(keyed, key=lambda entry: entry[0]):
        rank[place.span.kind, place.number] += 1
        entries[place.span.kind].append((rank[place.span.kind, place.number], key, place))
    turns = zip_longest(*(sorted(entries[kind]) for kind in KINDS if kind in entries))
    return (entry[2] for entry in chain.from_iterable(turns) if entry is not None)


def propose(documents: Sequence[dict[str, Any]], index: Index, refused: Counter) -> Iterator[Candidate]:
    """Yields candidates in the order in which they are used; `refused` counts the other places by reason."""
    sentences: set[tuple[int, int, int]] = set()
    questions: set[tuple[str, ...]] = set()
    for place in _order_by_turns(index.places, documents):
        candidate, reason = _candidate(documents[place.number], place, index)
        sentence = (place.number, *place.span.sentence)
        opening = index.texts[place.number][place.span.sentence[0] : place.span.begin]
        question = tuple(words_of(opening + candidate.after)) if candidate else ()
        if candidate and sentence in sentences:
            reason = "its sentence has a question already"
        elif candidate and question in questions:
            reason = "the same question was asked already"
        if candidate is None or reason:
            refused[reason] += 1
            continue
        sentences.add(sentence)
        questions.add(question)
        yield candidate


def _candidate(document: dict[str, Any], place: Place, index: Index) -> tuple[Candidate | None, str | None]:
    text, answer = index.texts[place.number], place.answer
    if index.is_generic(place):
        return None, "many documents have the same heading or term"
    before, after = _question(text, place.span)
    shown = Shown.of(f"{before} {after}")
    if len(words_of(before)) < CONTEXT_WORDS:
        return None, "too little text before the blank"
    if shown.has(answer) or answer.casefold() in shown.text:
        return None, "a word of the answer stands in the question"
    pool = index.pool(place, shown)
    if len(pool) < 3:
        return None, "fewer than three wrong answers of its kind"
    stripped = before.rstrip()
    candidate = Candidate(
        kind=place.span.kind,
        document=document["id"],
        url=document["url"],
        before=stripped,
        space=before[len(stripped) :],
        after=after,
        passage=passage_around(text, *place.span.sentence),
        pool=[answer, *pool],
        counts=[index.counts[place.span.kind][each] for each in (answer, *pool)],
    )
    return candidate, None
