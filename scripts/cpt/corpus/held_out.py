"""The first tokens of a corpus's held-out documents."""

from pathlib import Path

import numpy as np

from cpt.corpus.documents import open_parquet, read_rows, require_text_column
from cpt.corpus.tokens import ModelTokenizer
from cpt.errors import UserError
from cpt.held_out import HeldOut

LONGEST_TOKEN = 64  # characters; a longer document is cut at so many times the tokens still wanted


def first_tokens(path: Path, tokenizer: ModelTokenizer, tokens: int) -> HeldOut:
    """Take documents in the file's order until there are `tokens` tokens.

    The document that goes over is cut at the end of a character and encoded again, so that its bytes are
    exactly those of its tokens; the count can miss `tokens` by a few.

    Raises UserError if the file isn't parquet with a `text` column, or has no text.
    """
    require_text_column(path, open_parquet(path).schema_arrow, "text")
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
    return HeldOut(np.concatenate(found), ends, size, tokenizer.eos_token_id)
