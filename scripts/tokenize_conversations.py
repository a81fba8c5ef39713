from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpt.arrays import save_array
from cpt.command import run
from cpt.config_sections import HeldOut
from cpt.corpus.answers import ConversationTokenizer
from cpt.corpus.conversation_tokens import ConversationTokenization
from cpt.corpus.documents import HELD_OUT_SCHEMA, load_keep, row_writer
from cpt.corpus.tokenization import kept_batches
from cpt.corpus.tokens import tokenizer_facts
from cpt.files import atomic, write_json
from cpt.progress import Progress
from cpt.provenance import provenance


def tokenize_conversations(
    documents: Path,
    keep: Path,
    model: Path,
    split: HeldOut,
    tokens: Path,
    ends: Path,
    mask: Path,
    held_out: Path,
    manifest: Path,
    drops: Path,
    examples: Path,
    quality: Path,
) -> None:
    """Turn conversations into token ids by the model's chat template, and mark what the assistant says.

    Args:
        documents: the filtered conversations (.parquet).
        keep: which of them to take (.npy).
        model: the base model's folder.
        split: the config's `held_out`.
        tokens: token ids, little-endian, to write.
        ends: end of each conversation in them (.npy), to write.
        mask: a byte for each token, 1 where it is the assistant's, to write.
        held_out: held-out conversations (.parquet), to write.
        manifest: counts and hashes (.json), to write.
        drops: counts per rule (.csv), to write.
        examples: dropped conversations to read (.jsonl), to write.
        quality: histograms of the quality measures (.csv), to write.
    """
    chosen = load_keep(keep, documents)
    tokenizer = ConversationTokenizer(model)
    with ExitStack() as outputs:
        tokens_file, mask_file, ends_file = (
            outputs.enter_context(open(outputs.enter_context(atomic(path)), "wb"))
            for path in (tokens, mask, ends)
        )
        aside = outputs.enter_context(row_writer(outputs.enter_context(atomic(held_out)), HELD_OUT_SCHEMA))
        progress = outputs.enter_context(
            Progress(f"tokenizing {documents}", int(chosen.sum()), "conversations")
        )
        done = ConversationTokenization(tokenizer, split, tokens_file, mask_file, aside)
        for batch in kept_batches(documents, chosen):
            done.add(*batch)
            progress.advance(len(batch[0]))
        save_array(ends_file, np.array(done.ends, np.uint64))
    done.table.write(drops, examples)
    done.histogram.write(quality)
    facts = {
        "documents": len(done.ends),
        "tokens": done.tokens,
        "answer_tokens": done.answer_tokens,
        "bytes": done.table.counts["kept"][1],
        **tokenizer_facts(tokenizer),
        "held_out_documents": done.table.counts["held_out"][0],
        "sha256": done.digest.hexdigest(),
        "mask_sha256": done.mask_digest.hexdigest(),
        "provenance": {**provenance({"held_out": split}), "encoder": tokenizer.encoder},
    }
    write_json(manifest, facts)


if __name__ == "__main__":
    run(tokenize_conversations)
