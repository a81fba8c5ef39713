"""Encodes documents to the same token ids as the model's own tokenizer."""

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Encoding, Tokenizer

from cpt.corpus.fast_tokens import FastEncoder, NotSuitedError, first_difference, hostile_strings
from cpt.errors import UserError
from cpt.files import read_json, sha256_of
from cpt.progress import NOTICE
from cpt.sizes import token_bytes

BATCH_BYTES = 2**21  # of texts encoded at once
SAMPLE_CHARACTERS = 2**18  # of documents on which encoders are compared
# A longer document is encoded in windows that overlap; see `encode_long`.
LONGEST = 2**20
WINDOW = 2**18
OVERLAP = 2**14
MARGIN = 2**11
# Stages run in parallel as processes, one thread each.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class ModelTokenizer:
    """The tokenizer in a model folder, for text that is data: it adds no special tokens, and the strings of
    special tokens inside the text stay text.

    Attributes: `eos_token_id` and `vocab_size` (from config.json), `bos_token_id` (None: no BOS before a
    document, as the folder's tokenizer adds none to a text), `unknown_id` (None: it has none), `dtype`
    (uint16 or uint32, little-endian), `sha256` (of tokenizer.json), `encoder` (the library that encodes:
    Hugging Face tokenizers, or gigatoken after a successful `use_fast`; the ids are the same).
    """

    def __init__(self, model: Path):
        path = model / "tokenizer.json"
        config = read_json(model / "config.json")
        for key in ("eos_token_id", "vocab_size"):
            if type(config.get(key)) is not int:
                raise UserError(
                    f"{model / 'config.json'}: {key} must be one whole number, but is {config.get(key)!r}; "
                    "import the base model again"
                )
        self.eos_token_id, self.vocab_size = config["eos_token_id"], config["vocab_size"]
        if not 0 <= self.eos_token_id < self.vocab_size:
            raise UserError(
                f"{model / 'config.json'}: eos_token_id {self.eos_token_id} is outside the vocabulary of "
                f"{self.vocab_size}; import the base model again"
            )
        self.dtype = np.dtype(f"<u{token_bytes(self.vocab_size)}")
        self.sha256 = sha256_of(path)
        self.definition = read_json(path)
        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True
        if dropout := self.definition["model"].pop("dropout", None):
            message = "%s: its BPE dropout of %s is switched off, so that a text has one encoding"
            logging.log(NOTICE, message, path, dropout)
            self.tokenizer.model.dropout = None
        bos = config.get("bos_token_id")
        added = bos not in (None, self.eos_token_id) and self.tokenizer.encode("").ids[:1] == [bos]
        self.bos_token_id: int | None = bos if added else None
        self.unknown_id = _unknown_id(self.definition["model"], self.tokenizer)
        self.path = path
        self.fast: FastEncoder | None = None

    @property
    def encoder(self) -> str:
        """Name and version of the library that encodes."""
        return self.fast.name if self.fast else f"tokenizers {tokenizers.__version__}"

    def use_fast(self, sample: Iterable[str]) -> bool:
        """Use gigatoken from now on if it passes a test; else warn why not. Returns whether it is used.

        The test: the same ids as Hugging Face tokenizers on hostile strings and on the first
        `SAMPLE_CHARACTERS` characters of the texts of `sample`.
        """
        special = [token["content"] for token in self.definition.get("added_tokens") or []]
        texts = [*hostile_strings(special), *_beginning(sample)]
        try:
            fast = FastEncoder(self.definition)
            problem = first_difference(fast, self._encode_exactly, texts)
        except NotSuitedError as error:
            problem = str(error)
        if problem:
            logging.warning("%s: encoding with Hugging Face tokenizers, as gigatoken %s", self.path, problem)
            return False
        self.fast = fast
        return True

    def encode(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Token ids of each text, in order: arrays of `dtype`, without EOS; see `encode_batches`."""
        for ids, ends in self.encode_batches(text.encode() for text in texts):
            yield from np.split(ids, ends[:-1])

    def count(self, text: str) -> int:
        """The number of a text's tokens."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_batches(self, texts: Iterable[bytes | np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Token ids of texts (UTF-8), in order, some texts at a time.

        Yields the ids (of `dtype`, without EOS) of one or more texts, one after the other, and the end of
        each text's ids (int64 [texts]). Memory is bounded by `BATCH_BYTES` and the longest text. Raises
        UserError if an id lies outside the model's vocabulary.
        """
        batch: list[bytes | np.ndarray] = []
        size = 0
        for text in texts:
            if len(text) > LONGEST and len(string := bytes(text).decode()) > LONGEST:
                if batch:
                    yield self._encode_batch(batch)
                ids = self._encode_long(string)
                yield ids, np.array([len(ids)])
                batch, size = [], 0
                continue
            batch.append(text)
            size += len(text)
            if size >= BATCH_BYTES:
                yield self._encode_batch(batch)
                batch, size = [], 0
        if batch:
            yield self._encode_batch(batch)

    def _encode_batch(self, texts: list[bytes | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        ids, ends = np.empty(0, np.uint32), np.zeros(len(texts), np.int64)
        left = np.ones(len(texts), bool)
        if self.fast:
            try:
                ids, ends, left = self.fast.encode(texts)
            except NotSuitedError as error:
                logging.warning(
                    "%s: going on with Hugging Face tokenizers, as gigatoken %s", self.path, error
                )
                self.fast = None
        if left.any():
            exact = iter(self._encode_exactly([bytes(texts[n]).decode() for n in np.flatnonzero(left)]))
            parts = [
                next(exact) if is_left else part
                for part, is_left in zip(np.split(ids, ends[:-1]), left.tolist(), strict=True)
            ]
            ids, ends = np.concatenate(parts), np.cumsum([len(part) for part in parts])
        return self.checked(ids), ends

    def _encode_exactly(self, texts: list[str]) -> list[np.ndarray]:
        encoded = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encoded]

    def _encode_long(self, text: str) -> np.ndarray:
        ids = bytearray()  # grows in place, so that the ids are held once
        for part in encode_long(self.tokenizer, text):
            ids += self.checked(part).data
        return np.frombuffer(ids, self.dtype)

    def checked(self, ids: np.ndarray) -> np.ndarray:
        """The ids as `dtype`. Raises UserError if one lies outside the model's vocabulary."""
        if len(ids) and int(ids.max()) >= self.vocab_size:
            raise UserError(
                f"{self.path}: gives token id {int(ids.max())}, but the model's vocab_size is "
                f"{self.vocab_size}; the tokenizer isn't this model's: take both from one release"
            )
        return ids.astype(self.dtype)


def tokenizer_facts(tokenizer: ModelTokenizer) -> dict[str, Any]:
    """The tokenizer's entries in a token shard's manifest; packing requires that all shards' are equal."""
    return {
        "dtype": tokenizer.dtype.name,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_sha256": tokenizer.sha256,
    }


def _beginning(texts: Iterable[str]) -> list[str]:
    """The first texts, up to `SAMPLE_CHARACTERS` characters in all."""
    sample, left = [], SAMPLE_CHARACTERS
    for text in texts:
        sample.append(text[:left])
        left -= len(text)
        if left <= 0:
            break
    return sample


def _unknown_id(model: dict[str, Any], tokenizer: Tokenizer) -> int | None:
    if model.get("unk_id") is not None:  # Unigram
        return model["unk_id"]
    return tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else None


def encode_long(tokenizer: Tokenizer, text: str) -> Iterator[np.ndarray]:
    """Token ids (uint32), in parts, of a text too long to be encoded at once; equal to encoding it whole.

    Two windows of `WINDOW` characters overlap by `OVERLAP`. They are joined at a token boundary in the
    middle of the overlap, but only if their tokens agree all over it, apart from a margin at either end.
    Then the text outside a window didn't influence the tokens near the joint. If they don't agree (in a
    long run of one character, say), window and overlap are doubled, at worst until one window holds the
    whole rest.
    """
    begin = skipped = 0  # of the window, and its characters that earlier windows covered
    window, overlap = WINDOW, OVERLAP
    current = _encode(tokenizer, text[begin : begin + window])
    while begin + window < len(text):
        following = begin + window - overlap
        after = _encode(tokenizer, text[following : following + window])
        joint = _joint(current, after, following - begin, overlap)
        if joint is None:
            window, overlap = 2 * window, 2 * overlap
            current = _encode(tokenizer, text[begin : begin + window])
            continue
        (ids, starts), position = current, joint + following - begin
        yield ids[(starts >= skipped) & (starts < position)]
        begin, skipped, current = following, joint, after
        if window > WINDOW:
            window, overlap = WINDOW, OVERLAP
            current = _encode(tokenizer, text[begin : begin + window])
    ids, starts = current
    yield ids[starts >= skipped]


def _encode(tokenizer: Tokenizer, text: str) -> tuple[np.ndarray, np.ndarray]:
    encoding: Encoding = tokenizer.encode(text, add_special_tokens=False)
    starts = np.array(encoding.offsets, np.int64).reshape(-1, 2)[:, 0]
    return np.array(encoding.ids, np.uint32), starts


def _joint(
    left: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray], shift: int, overlap: int
) -> int | None:
    """A token boundary (in characters of `right`) at which the two windows may be joined, or None."""
    parts = []
    for (ids, starts), offset in ((left, shift), (right, 0)):
        inside = (starts - offset >= MARGIN) & (starts - offset < overlap - MARGIN)
        parts.append((ids[inside], starts[inside] - offset))
    (left_ids, left_starts), (right_ids, right_starts) = parts
    if not len(left_ids) or not np.array_equal(left_ids, right_ids):
        return None
    if not np.array_equal(left_starts, right_starts):
        return None
    # Several tokens of one character have the same start, so all go to the same side.
    return int(left_starts[np.searchsorted(left_starts, overlap // 2) % len(left_starts)])
