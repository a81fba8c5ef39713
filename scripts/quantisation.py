import csv
from collections.abc import Sequence
from pathlib import Path

from cpt.command import run as run_stage
from cpt.cpu import set_up_products
from cpt.evaluate import bits
from cpt.evaluate.model import Device, out_of_memory_explained, set_up_device
from cpt.files import atomic, one_for_each
from cpt.model.gguf_file import read_back
from cpt.report.held_out import held_out_rows, read_losses
from cpt.token_windows import load_held_out


def quantisation(
    model: Path,
    files: Sequence[Path],
    held_out: Sequence[Path],
    losses: Sequence[Path],
    table: Path,
    kinds: list[str],
    corpora: list[str],
    sequence_length: int,
    batch_size: int,
    device: Device = "cuda",
    threads: int = 1,
    seed: int = 0,
) -> None:
    """Measure what GGUF files lost against the model that they were written from, in bits per byte.

    Args:
        model: Hugging Face model folder.
        files: GGUF files.
        held_out: held-out tokens (.npz) of each corpus.
        losses: bits_per_byte.{corpus}.documents.csv of the model on each corpus.
        table: CSV to write, a row for each file and corpus.
        kinds: types of the files, in their order.
        corpora: names of the corpora, in their order.
        sequence_length: most tokens in a window of a document.
        batch_size: windows per batch.
        device: where the model runs; without a GPU, cuda is refused.
        threads: number of threads, on a CPU.
        seed: seed of the resampling, for the interval of the difference.
    """
    set_up_products()
    set_up_device(threads, device)
    rows = []
    for kind, file in one_for_each(kinds, files):
        loaded = read_back(file, model).to(device)
        for (corpus, tokens), path in one_for_each(one_for_each(corpora, held_out), losses):
            original = read_losses(path)
            with out_of_memory_explained("evaluate.batch_size", batch_size):
                nats = bits.document_losses(loaded, load_held_out(tokens), sequence_length, batch_size)
            row = held_out_rows([original, original._replace(path=file, nats=nats)], seed)[1]
            rows.append(
                {
                    "kind": kind,
                    "megabytes": round(file.stat().st_size / 1e6, 3),
                    "corpus": corpus,
                    "bits_per_byte": row["score"],
                    "bits_per_byte_of_model": row["base_score"],
                    "difference_ci_low": row.get("difference_ci_low"),
                    "difference_ci_high": row.get("difference_ci_high"),
                    "documents": row["n"],
                    "groups": row["groups"],
                }
            )
    with atomic(table) as path, open(path, "w", encoding="utf-8", newline="") as written:
        writer = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    run_stage(quantisation)
