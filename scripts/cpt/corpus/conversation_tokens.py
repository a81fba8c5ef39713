"""Tokenizes a shard's conversations, with masks of answers, and those held out to measure the loss on."""

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from cpt.config_sections import HeldOut as Split
from cpt.corpus.answers import ConversationTokenizer
from cpt.corpus.conversations import messages_of
from cpt.corpus.documents import RowWriter, read_rows
from cpt.corpus.drops import DropTable
from cpt.corpus.quality import QualityHistogram, quality_of
from cpt.corpus.split import is_held_out
from cpt.errors import UserError
from cpt.token_windows import HeldOut


class ConversationTokenization:
    """Writes the tokens of conversations and the mask of the assistant's; sets held-out ones aside.

    Only the template's own text separates two conversations. Conversations with the same first question
    stay on one side of the split. A conversation whose messages contain the template's markup between turns
    (`control_text`) is dropped: the model would read turns that nobody wrote.

    Attributes: `table` and `histogram` (what was dropped, and measures of the others), `ends` (of the
    conversations written, in tokens), `tokens` and `answer_tokens` (written), `digest` and `mask_digest`
    (SHA-256 of tokens and mask).
    """

    def __init__(
        self,
        tokenizer: ConversationTokenizer,
        split: Split,
        output: BinaryIO,
        mask: BinaryIO,
        aside: RowWriter,
    ):
        self.tokenizer, self.split, self.output, self.mask, self.aside = tokenizer, split, output, mask, aside
        self.table = DropTable(["control_text", "held_out"], "bytes", "tokens")
        self.histogram = QualityHistogram()
        self.ends: list[int] = []
        self.tokens = self.answer_tokens = 0
        self.digest, self.mask_digest = hashlib.sha256(), hashlib.sha256()

    def add(self, names: pa.Array, urls: pa.Array, texts: pa.Array) -> None:
        """Write a batch of conversations (large strings)."""
        rows, rendered = [], []
        for row in zip(names.to_pylist(), urls.to_pylist(), texts.to_pylist(), strict=True):
            name, url, text = row
            messages = messages_of(text)
            place = next(
                (n for n, m in enumerate(messages, 1) if self.tokenizer.control.search(m.content)), 0
            )
            if place:
                self.table.count("control_text", len(text.encode()), 0)
                self.table.example("control_text", place, len(messages), name, url, text)
                continue
            question = next(message.content for message in messages if message.role == "user")
            rows.append((*is_held_out(question.encode(), self.split.share), *row))
            rendered.append(self.tokenizer.rendered(messages, name))
        for (out, order, *row), (ids, answered) in zip(
            rows, self.tokenizer.encode_rendered(rendered), strict=True
        ):
            size = len(row[2].encode())
            self.table.count("held_out" if out else "kept", size, len(ids))
            self.histogram.add(
                quality_of(ids, np.array([len(ids)]), np.array([size]), self.tokenizer.unknown_id)
            )
            if out:
                self.aside.add(order, *row)
                continue
            counted = answered.astype(np.uint8)
            self.tokens += len(ids)
            self.answer_tokens += int(counted.sum())
            self.ends.append(self.tokens)
            self.output.write(ids)
            self.digest.update(ids)
            self.mask.write(counted)
            self.mask_digest.update(counted)


def first_answers(path: Path, tokenizer: ConversationTokenizer, tokens: int) -> HeldOut:
    """The first whole conversations of a file, in its order, with `tokens` tokens or more if it has them.

    Bytes are those of the answers. Raises UserError if there are no conversations.
    """
    pairs, sizes, groups, left = [], [], [], tokens
    for number, (group, name, raw) in enumerate(read_rows(path, ["group", "id", "text"])):
        messages = messages_of(raw.decode())
        pairs += tokenizer.encode_rendered([tokenizer.rendered(messages, name.decode())])
        sizes.append(
            sum(len(message.content.encode()) for message in messages if message.role == "assistant")
        )
        groups.append(number if group is None else group)
        left -= len(pairs[-1][0])
        if left <= 0:
            break
    if not pairs:
        raise UserError(f"{path}: no conversation to score; raise held_out.share")
    ids, targets = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    ends = np.cumsum([len(part) for part, _ in pairs]).astype(np.int64)
    start, sizes, groups = tokenizer.eos_token_id, np.array(sizes, np.int64), np.array(groups, np.int64)
    return HeldOut(ids.astype(np.uint32), ends, sizes, start, targets, groups)
