"""Turn documents into token ids, with one EOS after each; set the held-out ones aside (paper 3.2.3)."""

import argparse
import hashlib
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from cpt.arrays import save_array
from cpt.command import command_parser, json_value, run
from cpt.corpus.documents import (
    HELD_OUT_SCHEMA,
    as_strings,
    column_of,
    load_keep,
    read_batches,
    row_writer,
    utf8_of,
)
from cpt.corpus.drops import DropTable
from cpt.corpus.quality import QualityHistogram, quality_of
from cpt.corpus.tokens import TOKEN_RULES, ModelTokenizer, check_tokens, is_held_out
from cpt.files import atomic, write_json
from cpt.progress import Progress
from cpt.provenance import provenance


def kept_batches(path: Path, keep: np.ndarray) -> Iterator[tuple[pa.Array, pa.Array, pa.Array]]:
    """Ids, URLs and texts (large strings) of the documents that are kept so far."""
    begin = 0
    for batch in read_batches(path, ["id", "url", "text"]):
        columns = [as_strings(batch.pop(key)) for key in ("id", "url", "text")]
        mine = keep[begin : begin + len(columns[0])]
        begin += len(mine)
        chosen = column_of(mine, pa.bool_())
        yield tuple(column if mine.all() else column.filter(chosen) for column in columns)


def sample(path: Path, keep: np.ndarray) -> Iterator[str]:
    """The texts, as strings."""
    return (text.as_py() for _, _, texts in kept_batches(path, keep) for text in texts)


def main(arguments: argparse.Namespace) -> None:
    quality, held_out = arguments.settings["token_quality"], arguments.settings["held_out"]
    keep = load_keep(arguments.keep, arguments.input)
    tokenizer = ModelTokenizer(arguments.model)
    if arguments.encoder == "fastest":
        tokenizer.use_fast(sample(arguments.input, keep))
    table = DropTable([*TOKEN_RULES, "held_out"], "bytes", "tokens")
    histogram = QualityHistogram()
    ends: list[int] = []
    total = 0
    digest = hashlib.sha256()
    eos = np.array([tokenizer.eos_token_id], tokenizer.dtype)
    with ExitStack() as outputs:
        tokens = outputs.enter_context(open(outputs.enter_context(atomic(arguments.tokens)), "wb"))
        ends_file = outputs.enter_context(open(outputs.enter_context(atomic(arguments.ends)), "wb"))
        aside = outputs.enter_context(
            row_writer(outputs.enter_context(atomic(arguments.held_out)), HELD_OUT_SCHEMA)
        )
        progress = outputs.enter_context(
            Progress(f"tokenizing {arguments.input}", int(keep.sum()), "documents")
        )
        for names, urls, texts in kept_batches(arguments.input, keep):
            contents, keys = list(utf8_of(texts)), list(utf8_of(urls))
            number = 0  # of a document in the batch
            for ids, inside in tokenizer.encode_batches(contents):
                sizes = np.array([len(text) for text in contents[number : number + len(inside)]])
                found = quality_of(ids, inside, sizes, tokenizer.unknown_id)
                histogram.add(found)
                kept = []
                for drop, size, mine in zip(
                    check_tokens(found, quality), sizes.tolist(), np.split(ids, inside[:-1]), strict=True
                ):
                    by_url = held_out["group_by"] == "url" and len(keys[number])
                    key = keys[number] if by_url else contents[number]
                    out, order = is_held_out(key, held_out["share"])
                    rule = drop.rule if drop else "held_out" if out else "kept"
                    table.count(rule, size, len(mine) + 1)
                    if rule == "kept":
                        kept += (mine, eos)
                        total += len(mine) + 1
                        ends.append(total)
                    elif not drop or table.wants(rule):
                        document = (column[number].as_py() for column in (names, urls, texts))
                        if drop:
                            value = drop.value if math.isfinite(drop.value) else None
                            table.example(rule, value, drop.threshold, *document)
                        else:
                            aside.add(order, *document)
                    number += 1
                if kept:
                    block = np.concatenate(kept)
                    tokens.write(block)
                    digest.update(block)
                progress.advance(len(inside))
        save_array(ends_file, np.array(ends, np.uint64))
    table.write(arguments.drops, arguments.examples)
    histogram.write(arguments.quality)
    manifest = {
        "documents": len(ends),
        "tokens": total,
        "bytes": table.counts["kept"][1],
        "dtype": tokenizer.dtype.name,
        "eos_token_id": tokenizer.eos_token_id,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_sha256": tokenizer.sha256,
        "held_out_documents": table.counts["held_out"][0],
        "sha256": digest.hexdigest(),
        # Which encoder was used says nothing of the tokens, so it stands with what may differ.
        "provenance": {**provenance(arguments.settings, arguments.code), "encoder": tokenizer.encoder},
    }
    write_json(arguments.manifest, manifest)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="filtered documents (.parquet)")
    parser.add_argument("--keep", type=Path, required=True, help="which of them to take (.npy)")
    parser.add_argument("--model", type=Path, required=True, help="the base model's folder")
    parser.add_argument(
        "--encoder",
        choices=["fastest", "tokenizers"],
        default="fastest",
        help="gigatoken where its ids are the same, or always Hugging Face tokenizers",
    )
    parser.add_argument(
        "--settings", type=json_value, required=True, help="{token_quality: .., held_out: ..}"
    )
    parser.add_argument("--tokens", type=Path, required=True, help="token ids, little-endian")
    parser.add_argument("--ends", type=Path, required=True, help="end of each document in them (.npy)")
    parser.add_argument("--held-out", type=Path, required=True, help="documents kept out (.parquet)")
    parser.add_argument("--manifest", type=Path, required=True, help="counts and hashes (.json)")
    parser.add_argument("--drops", type=Path, required=True, help="counts per rule (.csv)")
    parser.add_argument("--examples", type=Path, required=True, help="dropped documents to read (.jsonl)")
    parser.add_argument(
        "--quality", type=Path, required=True, help="histograms of the quality measures (.csv)"
    )
    run(main, parser)
