"""Splits off held-out documents: which ones, in which order, and their first tokens."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from cpt.corpus.documents import (
    BATCH_ROWS,
    HELD_OUT_SCHEMA,
    column_of,
    open_parquet,
    read_rows,
    require_columns,
    utf8_of,
)
from cpt.corpus.tokens import ModelTokenizer
from cpt.errors import UserError
from cpt.token_windows import FEWEST_GROUPS, HeldOut

DOCUMENTS = 2 * FEWEST_GROUPS  # the least number to measure on, if there are that many
LONGEST_TOKEN = 64  # characters; before encoding, a document is cut to this many per token it may give


def is_held_out(key: bytes | np.ndarray, share: float) -> tuple[bool, int]:
    """Whether documents with this key (UTF-8) are held out, and their order (uint64).

    The order is the key's xxh3_64, which is uniform: keys below share * 2**64 are a random sample, and so is
    any prefix of the held-out keys in ascending order.
    """
    order = xxhash.xxh3_64_intdigest(key)
    return order < share * 2**64, order


def split_key(group_by: str, url: np.ndarray, text: np.ndarray) -> np.ndarray:
    """The key that decides a document's side of the split (`held_out.group_by`); without url its text."""
    if group_by == "text" or not len(url):
        return text
    slashes = np.flatnonzero(url == ord("/")) if group_by == "folder" else []
    return url[: slashes[-1] + 1] if len(slashes) else url


def gathered(shards: Sequence[Path], corpus: str) -> pa.Table:
    """The held-out documents of a corpus's shards: `group` (int32), `id`, `url` and `text`.

    A group is the documents with the same key of the split. One document of each group comes before a second
    of any, so that every prefix samples all groups. Groups are sorted by the hash of their key, documents of
    a group by the hash of their text: the order depends on neither shards nor the documents' names.

    Raises UserError if no document is held out.
    """
    files = [open_parquet(path, HELD_OUT_SCHEMA.names) for path in shards]
    batches = (batch for file in files for batch in file.iter_batches(BATCH_ROWS, use_threads=False))
    table = pa.Table.from_batches(batches, HELD_OUT_SCHEMA)
    if not table.num_rows:
        raise UserError(
            f"corpus {corpus}: no document was held out; raise held_out.share, or look at the "
            "corpus's drops.csv if its filters left none"
        )
    # 64-bit offsets, so that the sorted text may exceed 2 GiB.
    wide = [pa.large_string() if pa.types.is_string(kind) else kind for kind in table.schema.types]
    table = table.cast(pa.schema(list(zip(table.schema.names, wide, strict=True))))
    orders = np.concatenate([np.from_dlpack(part) for part in table.column("order").chunks])
    keys, groups = np.unique(orders, return_inverse=True)
    texts = (text for part in table.column("text").chunks for text in utf8_of(part))
    hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(groups))
    # Each document's position in its group, from 0 on.
    inside = np.lexsort((hashes, groups))
    sizes = np.bincount(groups, minlength=len(keys))
    rounds = np.empty(len(groups), np.int64)
    rounds[inside] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table = table.drop_columns(["order"]).add_column(0, "group", column_of(groups, pa.int32()))
    return table.take(column_of(np.lexsort((groups, rounds)), pa.int64()))


def first_tokens(path: Path, tokenizer: ModelTokenizer, tokens: int) -> HeldOut:
    """The beginnings of a file's documents, in its order, until there are `tokens` tokens.

    At most a 60th (`DOCUMENTS`) of the tokens come from one document, so that no long document dominates the
    measurement. This limit is doubled while the file would give too few tokens. A document is cut at the end
    of a character and encoded again, so that its bytes are exactly those of its tokens; the count can miss
    `tokens` by a few.

    Raises UserError if the file isn't parquet with a `text` column, or has no text.
    """
    require_columns(path, open_parquet(path).schema_arrow, "text")
    most = max(1, tokens // DOCUMENTS)
    beginnings = _beginnings(path, tokenizer, tokens, most)
    while most < tokens and sum(len(ids) for _, ids, _ in beginnings) < tokens:
        most *= 2
        beginnings = _beginnings(path, tokenizer, tokens, most)
    if not beginnings:
        raise UserError(
            f"{path}: no text to score; raise held_out.share, so that documents of this corpus are held out"
        )
    groups, parts, sizes = zip(*beginnings, strict=True)
    ends = np.cumsum([len(ids) for ids in parts]).astype(np.int64)
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return HeldOut(
        np.concatenate(parts), ends, np.array(sizes, np.int64), start, groups=np.array(groups, np.int64)
    )


def _beginnings(
    path: Path, tokenizer: ModelTokenizer, tokens: int, most: int
) -> list[tuple[int, np.ndarray, int]]:
    """Group, ids (uint32) and bytes of the first documents, each cut to at most `most` tokens."""
    beginnings: list[tuple[int, np.ndarray, int]] = []
    left = tokens
    for number, (group, raw) in enumerate(read_rows(path, ["group", "text"])):
        limit = min(most, left)
        text = raw.decode()[: LONGEST_TOKEN * limit]
        (ids,) = tokenizer.encode([text])
        if len(ids) > limit:
            offsets = tokenizer.tokenizer.encode(text, add_special_tokens=False).offsets
            text = text[: offsets[limit - 1][1]]
            (ids,) = tokenizer.encode([text])
        if len(ids):
            beginnings.append((number if group is None else group, ids.astype(np.uint32), len(text.encode())))
            left -= len(ids)
        if left <= 0:
            break
    return beginnings
