from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np

from cpt.arrays import save_array
from cpt.command import run
from cpt.config_sections import HeldOut, TokenQualityFilter
from cpt.corpus.documents import HELD_OUT_SCHEMA, load_keep, row_writer
from cpt.corpus.tokenization import Tokenization, kept_batches, kept_texts
from cpt.corpus.tokens import ModelTokenizer, tokenizer_facts
from cpt.files import atomic, write_json
from cpt.progress import Progress
from cpt.provenance import provenance


def tokenize_documents(
    documents: Path,
    keep: Path,
    model: Path,
    thresholds: TokenQualityFilter,
    split: HeldOut,
    tokens: Path,
    ends: Path,
    held_out: Path,
    manifest: Path,
    drops: Path,
    examples: Path,
    quality: Path,
    encoder: Literal["fastest", "tokenizers"] = "fastest",
) -> None:
    """Turn documents into token ids, with one EOS after each; set the held-out ones aside (paper 3.2.3).

    Each document begins with BOS if the base model's tokenizer adds it (`packing.add_bos`).

    Args:
        documents: the filtered documents (.parquet).
        keep: which of them to take (.npy).
        model: the base model's folder.
        thresholds: the config's `filters.token_quality`.
        split: the config's `held_out`.
        tokens: token ids, little-endian, to write.
        ends: end of each document in them (.npy), to write.
        held_out: held-out documents (.parquet), to write.
        manifest: counts and hashes (.json), to write.
        drops: counts per rule (.csv), to write.
        examples: dropped documents to read (.jsonl), to write.
        quality: histograms of the quality measures (.csv), to write.
        encoder: `fastest` (gigatoken if its ids are the same) or always Hugging Face `tokenizers`.
    """
    chosen = load_keep(keep, documents)
    tokenizer = ModelTokenizer(model)
    if encoder == "fastest":
        tokenizer.use_fast(kept_texts(documents, chosen))
    with ExitStack() as outputs:
        tokens_file = outputs.enter_context(open(outputs.enter_context(atomic(tokens)), "wb"))
        ends_file = outputs.enter_context(open(outputs.enter_context(atomic(ends)), "wb"))
        aside = outputs.enter_context(row_writer(outputs.enter_context(atomic(held_out)), HELD_OUT_SCHEMA))
        progress = outputs.enter_context(Progress(f"tokenizing {documents}", int(chosen.sum()), "documents"))
        done = Tokenization(tokenizer, thresholds, split, tokens_file, aside)
        for batch in kept_batches(documents, chosen):
            for count in done.add(*batch):
                progress.advance(count)
        save_array(ends_file, np.array(done.ends, np.uint64))
    done.require_some(documents)
    done.table.write(drops, examples)
    done.histogram.write(quality)
    facts = {
        "documents": len(done.ends),
        "tokens": done.tokens,
        "bytes": done.table.counts["kept"][1],
        **tokenizer_facts(tokenizer),
        "held_out_documents": done.table.counts["held_out"][0],
        "sha256": done.digest.hexdigest(),
        # The encoder doesn't change the tokens, so it belongs to what may differ between equal results.
        "provenance": {
            **provenance({"token_quality": thresholds, "held_out": split}),
            "encoder": tokenizer.encoder,
        },
    }
    write_json(manifest, facts)


if __name__ == "__main__":
    run(tokenize_documents)
