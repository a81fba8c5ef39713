"""Token ids from gigatoken: equal to those of Hugging Face tokenizers, an order of magnitude faster.

Each use is checked first: `first_difference` compares the two on hostile strings and on documents.
Hugging Face tokenizers encode the texts that gigatoken can't encode exactly.
"""

import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

LONGEST_RUN = 2**16  # characters; see FastEncoder.encode
# gigatoken caches every word it meets, in about 40 bytes each: after this many bytes it is loaded again.
RENEWED_AFTER = 2**26
DIGITS = frozenset("0123456789")
# White space in UTF-8 (Unicode's property White_Space), and in ASCII.
_SPACE = rb"[\t-\r ]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80"
_TWO_SPACES = re.compile(rb"(?:%s)(?:%s)\Z" % (_SPACE, _SPACE))
# Last bytes of the white space outside ASCII.
_MAY_END_SPACE = np.isin(np.arange(256), [*range(0x80, 0x8B), 0x9F, 0xA0, 0xA8, 0xA9, 0xAF])
_IS_SPACE = np.isin(np.arange(256), list(b"\t\n\v\f\r "))


class NotSuitedError(Exception):
    """Why gigatoken can't replace a tokenizer."""


class FastEncoder:
    """gigatoken with the content of a tokenizer.json; strings of special tokens in text stay text.

    Raises NotSuitedError if gigatoken isn't installed or refuses the tokenizer. `name` contains the version.
    """

    def __init__(self, definition: dict[str, Any]):
        try:
            import awkward
            import gigatoken
        except ImportError as error:
            raise NotSuitedError(f"can't be imported ({error})") from None
        changed, self.first_padding, self.single_digits = adapted(definition)
        self.awkward = awkward
        content = json.dumps(changed)
        self._load = lambda: _call_guarded(lambda: gigatoken.Tokenizer.from_json(content))
        self.backend, self._encoded = self._load(), 0
        self.name = f"gigatoken {metadata.version('gigatoken')}"

    def encode(self, texts: Sequence[bytes | np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Token ids (uint32) of texts (UTF-8), one after the other; the end of each text's ids (int64
        [texts]); and which texts (bool) the model's own tokenizer must encode.

        Those have a byte that the vocabulary lacks (Hugging Face tokenizers skip it and may merge the tokens
        around it), or a run of more than `LONGEST_RUN` characters without white space (the two once differed
        on such a run).
        """
        sizes = np.array([len(text) for text in texts], np.int64)
        self._encoded += int(sizes.sum())
        if self._encoded > RENEWED_AFTER:
            self.backend, self._encoded = None, 0  # freed before the new one is loaded
            self.backend = self._load()
        content = [b"" if _has_long_run(text) else text for text in texts]
        ids, ends = _call_guarded(lambda: self._ids(content))
        left = (np.diff(ends, prepend=0) == 0) & (sizes > 0)
        left[np.searchsorted(ends, np.flatnonzero(ids >= self.first_padding), "right")] = True
        return ids, ends, left

    def _ids(self, texts: list[bytes | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (uint32) of all texts, one after the other, and the end of each text's ids (int64 [texts])."""
        content = np.frombuffer(b"".join(texts), np.uint8)
        starts = np.cumsum([0, *map(len, texts)])
        edges = starts
        if self.single_digits:
            edges = np.sort(np.concatenate([starts, np.setdiff1d(digit_cuts(content, starts), starts)]))
        contents, index = self.awkward.contents, self.awkward.index
        characters = contents.NumpyArray(content, parameters={"__array__": "char"})
        pieces = contents.ListOffsetArray(
            index.Index64(edges), characters, parameters={"__array__": "string"}
        )
        encoded = self.backend.encode_batch(self.awkward.Array(pieces), parallel=False)
        ends = np.cumsum(self.awkward.to_numpy(self.awkward.num(encoded)))
        # The ids of a text end with those of its last piece.
        last = np.searchsorted(edges, starts[1:]) - 1
        return self.awkward.to_numpy(self.awkward.flatten(encoded)), np.where(last < 0, 0, ends[last])


def adapted(definition: dict[str, Any]) -> tuple[dict[str, Any], int, bool]:
    """A tokenizer.json that gigatoken reads and that treats the strings of special tokens as text.

    Returns the definition, the first id of bytes that the vocabulary lacks, and whether texts must be cut
    around single digits first (see `digit_cuts`). Such bytes get ids because gigatoken requires all 256.
    Raises NotSuitedError if gigatoken can't replace this tokenizer.
    """
    model = definition["model"]
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):
        raise NotSuitedError(f"doesn't know models of type {model.get('type')}")
    tokens = [token for token in definition.get("added_tokens") or [] if not token["special"]]
    first_padding = 1 + max([*vocabulary.values(), *(t["id"] for t in definition.get("added_tokens") or [])])
    steps = definition.get("pre_tokenizer") or {}
    steps = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    kinds = [step.get("type") for step in steps]
    changed = {**definition, "added_tokens": tokens, "post_processor": None}
    single_digits = (
        kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1]["use_regex"]
    )
    if single_digits:
        # A merge is a string in older files, a pair of strings in newer ones.
        if not DIGITS.isdisjoint("".join("".join(merge) for merge in model["merges"])):
            raise NotSuitedError("can't keep digits single where the tokenizer has merges of digits")
        changed["pre_tokenizer"] = steps[1]
    if "ByteLevel" in kinds:
        lacking = sorted(set(ByteLevel.alphabet()) - set(vocabulary))
        padding = {letter: first_padding + number for number, letter in enumerate(lacking)}
        changed["model"] = {**model, "vocab": {**vocabulary, **padding}}
    return changed, first_padding, single_digits


@cache
def _is_other_number() -> np.ndarray:
    """For each code point, whether it is numeric (Unicode categories Nd, Nl, No) and not in ASCII (bool)."""
    table = np.zeros(0x110000, bool)
    # Python's `isnumeric` contains these categories and is faster to compute.
    numeric = np.flatnonzero(np.strings.isnumeric(np.arange(0x110000, dtype="<u4").view("<U1")))
    for point in numeric[numeric >= 0x80].tolist():
        table[point] = unicodedata.category(chr(point))[0] == "N"
    return table


def digit_cuts(content: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Where to cut texts so that GPT-2's pattern gives the parts the same ids as a split around digits.

    `content` is the UTF-8 (uint8) of all texts, `starts` (int64) the start of each; returns positions in
    `content`, in any order. `ByteLevel` applies the pattern (Radford et al. 2019). If no merge contains an
    ASCII digit, isolating digits first changes one thing only. The pattern splits off the last of several
    white spaces before a digit, but not at the end of a text, so texts are cut after such white space.
    Numbers outside ASCII have several bytes, which may merge; each becomes a part of its own.
    """
    digits = np.flatnonzero(content - np.uint8(0x30) < 10)  # below "0" it wraps around
    digits = digits[digits > 1]
    before, before_that = content[digits - 1], content[digits - 2]
    begins = starts[np.searchsorted(starts, digits, "right") - 1]
    plain = _IS_SPACE[before] & _IS_SPACE[before_that] & (begins <= digits - 2)
    cuts = [digits[plain]]
    wide = _MAY_END_SPACE[before] | (_IS_SPACE[before] & _MAY_END_SPACE[before_that])
    for digit, begin in zip(digits[wide].tolist(), begins[wide].tolist(), strict=True):
        if _TWO_SPACES.search(content[max(begin, digit - 6) : digit].tobytes()):
            cuts.append(np.array([digit]))
    leading = np.flatnonzero(content >= 0xC0)
    if len(leading):
        first = content[leading].astype(np.int64)
        widths = 2 + (first >= 0xE0) + (first >= 0xF0)
        points = first & (0x7F >> widths)
        for number in range(1, 4):
            more = content[np.minimum(leading + number, len(content) - 1)] & 0x3F
            points = np.where(number < widths, points << 6 | more, points)
        isolated = _is_other_number()[points]
        cuts += [leading[isolated], (leading + widths)[isolated]]
    return np.concatenate(cuts)


def _has_long_run(text: bytes | np.ndarray) -> bool:
    if len(text) <= LONGEST_RUN:
        return False
    return max(map(len, bytes(text).decode().split()), default=0) > LONGEST_RUN


def _call_guarded(call: Callable[[], Any]) -> Any:
    """The call's result; NotSuitedError for anything gigatoken raises, including panics of its Rust code."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise NotSuitedError(f"refuses this tokenizer or text: {lines[0]}") from None


def hostile_strings(special: Iterable[str]) -> list[str]:
    """Strings on which tokenizers tend to differ; `special` are the strings of the model's special tokens."""
    spaces = [" " * n + end for n in (1, 2, 3, 9) for end in ("", "a", "7", "\n", "\n1", ".", "'s")]
    lines = ["\n" * n + end for n in (1, 2, 5) for end in ("", " x", "12", "\t9", "\r\n", "-")]
    hard = [
        "",
        "\r\n\r\n",
        "\t\t1",
        "a\u00a0\u00a0 1",
        "\u3000\u3000\uff13",
        "²³ ½",
        " ²",
        "१२३",
        "12345 1,000.50",
        "x  2024-11",
        "it's IT'S we'LL they're 'tis ''s",
        "ﬁ ﬃ",
        "e\u0301 e\u0302\u0323",
        "\u202eabc\u202c",
        "\ufeffa",
        "a\u200bb",
        "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
        "日本語 中文 한국어",
        "שלום مرحبا",
        "▁a ▁▁b",
        "Ġa ĊĊ",
        "<0x41> <unk> <s> </s>",
        "\ufffd\uffff",
        "a" * 700,
        "ab" * 500,
        "=-" * 300,
        "\x00a\x01\x04b\x7f\x85",
        "\U0010ffff\U000e0001",
        "x" + " " * 300 + "y",
    ]
    inside = [text for string in special for text in (string, f"x {string} y", f"a{string}b", string[:-1])]
    generator = random.Random(0)
    ranges = [(0x20, 0x7E)] * 4
    ranges += [(0x00, 0x1F), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x600, 0x6FF), (0x900, 0x97F)]
    ranges += [(0x2000, 0x206F), (0x2150, 0x218F), (0x3040, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xAD00)]
    ranges += [(0xFE00, 0xFE0F), (0xFF00, 0xFF60), (0x1F300, 0x1F6FF)]
    fragments = [" ", "  ", "\n", "\n\n", "\t", " \n ", "'s", "'LL", "123", "don't", " 7", "the ", "ing"]
    pool = [chr(generator.randint(*generator.choice(ranges))) for _ in range(2_000)]
    pool += fragments * (len(pool) // 2 // len(fragments))  # a third of what is drawn
    mixed = ["".join(generator.choices(pool, k=generator.randint(1, 100))) for _ in range(500)]
    return spaces + lines + hard + inside + mixed


def first_difference(
    encoder: FastEncoder, reference: Callable[[list[str]], list[np.ndarray]], texts: list[str]
) -> str | None:
    """A phrase on how the encoder differs from the reference on these texts; None if it doesn't.

    Raises NotSuitedError if the encoder fails on a text.
    """
    ids, ends, left = encoder.encode([text.encode() for text in texts])
    parts, unsure = np.split(ids, ends[:-1]), left.tolist()
    wrong = [
        text
        for text, mine, own, skipped in zip(texts, parts, reference(texts), unsure, strict=True)
        if not skipped and not np.array_equal(mine, own)
    ]
    if wrong:
        return f"gives other ids for {len(wrong)} of {len(texts)} texts, such as {min(wrong, key=len)[:60]!r}"
    if all(skipped for text, skipped in zip(texts, unsure, strict=True) if text):
        return "can't encode one of the texts exactly"
    return None
