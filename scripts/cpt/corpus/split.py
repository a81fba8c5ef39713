"""Documents kept out of training: which ones, in which order, and the first tokens of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from cpt.corpus.documents import BATCH_ROWS, HELD_OUT_SCHEMA, open_parquet, read_rows, require_columns
from cpt.corpus.tokens import ModelTokenizer
from cpt.errors import UserError
from cpt.token_windows import HeldOut

LONGEST_TOKEN = 64  # characters; a longer document is cut at so many times the tokens still wanted


def is_held_out(key: bytes | np.ndarray, share: float) -> tuple[bool, int]:
    """Whether documents with this key (UTF-8) are held out, and the number (uint64) that orders them.

    The number is the xxh3_64 of the key: uniform, so the ones below share * 2**64 are a sample of the
    keys, and the held-out ones in ascending order have no bias in any prefix.
    """
    order = xxhash.xxh3_64_intdigest(key)
    return order < share * 2**64, order


def split_key(group_by: str, url: np.ndarray, text: np.ndarray) -> np.ndarray:
    """What decides on a document's side of the split, by `held_out.group_by`; its text if it has no url."""
    if group_by == "text" or not len(url):
        return text
    slashes = np.flatnonzero(url == ord("/")) if group_by == "folder" else []
    return url[: slashes[-1] + 1] if len(slashes) else url


def gathered(shards: Sequence[Path], corpus: str) -> pa.Table:
    """The held-out documents of a corpus's shards in their order. Raises UserError if there are none."""
    files = [open_parquet(path, HELD_OUT_SCHEMA.names) for path in shards]
    batches = (batch for file in files for batch in file.iter_batches(BATCH_ROWS, use_threads=False))
    table = pa.Table.from_batches(batches, HELD_OUT_SCHEMA)
    if not table.num_rows:
        raise UserError(
            f"corpus {corpus}: no document was held out; raise held_out.share, or look at the "
            "corpus's drops.csv if its filters left none"
        )
    # Rows may move far: 64-bit offsets, so that the sorted text may exceed 2 GiB.
    wide = [pa.large_string() if pa.types.is_string(kind) else kind for kind in table.schema.types]
    table = table.cast(pa.schema(list(zip(table.schema.names, wide, strict=True))))
    return table.sort_by([("order", "ascending"), ("id", "ascending")])


def first_tokens(path: Path, tokenizer: ModelTokenizer, tokens: int) -> HeldOut:
    """Take documents in the file's order until there are `tokens` tokens.

    The document that goes over is cut at the end of a character and encoded again, so that its bytes are
    exactly those of its tokens; the count can miss `tokens` by a few.

    Raises UserError if the file isn't parquet with a `text` column, or has no text.
    """
    require_columns(path, open_parquet(path).schema_arrow, "text")
    found: list[np.ndarray] = []
    size, left = 0, tokens
    for (raw,) in read_rows(path, ["text"]):
        text = raw.decode()[: LONGEST_TOKEN * left]
        (ids,) = tokenizer.encode([text])
        if len(ids) > left:
            offsets = tokenizer.tokenizer.encode(text, add_special_tokens=False).offsets
            text = text[: offsets[left - 1][1]]
            (ids,) = tokenizer.encode([text])
        if len(ids):
            found.append(ids.astype(np.uint32))
            size += len(text.encode())
            left -= len(ids)
        if left <= 0:
            break
    if not found:
        raise UserError(
            f"{path}: no text to score; raise held_out.share, so that documents of this corpus are held out"
        )
    ends = np.cumsum([len(ids) for ids in found]).astype(np.int64)
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return HeldOut(np.concatenate(found), ends, size, start)
