"""Turn documents into token ids, with one EOS after each; set the held-out ones aside (paper 3.2.3)."""

import argparse
import hashlib
import itertools
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpt.arrays import save_array
from cpt.command import command_parser, json_value, run
from cpt.corpus.documents import HELD_OUT_SCHEMA, as_name, load_keep, read_rows, row_writer
from cpt.corpus.drops import DropTable
from cpt.corpus.quality import QualityHistogram
from cpt.corpus.tokens import TOKEN_RULES, ModelTokenizer, check_tokens, is_held_out, quality_of
from cpt.files import atomic, write_json
from cpt.progress import Progress
from cpt.provenance import provenance


def documents(path: Path, keep: np.ndarray) -> Iterator[tuple[str | None, str | None, str, int]]:
    """(id, url, text, its size in UTF-8 bytes) of the documents that are kept so far."""
    rows = itertools.compress(read_rows(path, ["id", "url", "text"]), keep)
    return ((as_name(name), as_name(url), text.decode(), len(text)) for name, url, text in rows)


def main(arguments: argparse.Namespace) -> None:
    quality, held_out = arguments.settings["token_quality"], arguments.settings["held_out"]
    keep = load_keep(arguments.keep, arguments.input)
    tokenizer = ModelTokenizer(arguments.model)
    if arguments.encoder == "fastest":
        tokenizer.use_fast(text for _, _, text, _ in documents(arguments.input, keep))
    table = DropTable([*TOKEN_RULES, "held_out"], "bytes", "tokens")
    histogram = QualityHistogram()
    ends: list[int] = []
    total = 0
    digest = hashlib.sha256()
    eos = np.array([tokenizer.eos_token_id], tokenizer.dtype).tobytes()
    ahead, texts = itertools.tee(documents(arguments.input, keep))
    with ExitStack() as outputs:
        tokens = outputs.enter_context(open(outputs.enter_context(atomic(arguments.tokens)), "wb"))
        ends_file = outputs.enter_context(open(outputs.enter_context(atomic(arguments.ends)), "wb"))
        aside = outputs.enter_context(
            row_writer(outputs.enter_context(atomic(arguments.held_out)), HELD_OUT_SCHEMA)
        )
        progress = outputs.enter_context(
            Progress(f"tokenizing {arguments.input}", int(keep.sum()), "documents")
        )
        encoded = tokenizer.encode(text for _, _, text, _ in ahead)
        for (name, url, text, size), ids in zip(texts, encoded, strict=True):
            found = quality_of(ids, size, tokenizer.unknown_id)
            histogram.add(found)
            drop = check_tokens(found, quality)
            out, order = is_held_out(
                (url or text) if held_out["group_by"] == "url" else text, held_out["share"]
            )
            if drop:
                table.count(drop.rule, size, len(ids) + 1)
                value = drop.value if math.isfinite(drop.value) else None
                table.example(drop.rule, value, drop.threshold, name, url, text)
            elif out:
                table.count("held_out", size, len(ids) + 1)
                aside.add(order, name, url, text)
            else:
                table.count("kept", size, len(ids) + 1)
                for block in (ids.data, eos):
                    tokens.write(block)
                    digest.update(block)
                total += len(ids) + 1
                ends.append(total)
            progress.advance()
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
