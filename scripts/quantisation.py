import csv
from collections.abc import Sequence
from pathlib import Path

from cpt.command import run as run_stage
from cpt.cpu import set_up_products
from cpt.evaluate import bits
from cpt.evaluate.model import Device, out_of_memory_explained, set_up_device
from cpt.files import atomic, one_for_each, read_json
from cpt.model.gguf_file import read_back
from cpt.token_windows import load_held_out


def quantisation(
    model: Path,
    files: Sequence[Path],
    held_out: Sequence[Path],
    scores: Sequence[Path],
    table: Path,
    kinds: list[str],
    corpora: list[str],
    sequence_length: int,
    batch_size: int,
    device: Device = "cuda",
    threads: int = 1,
) -> None:
    """Measure what GGUF files lost against the model that they were written from, in bits per byte.

    Args:
        model: Hugging Face model folder.
        files: GGUF files.
        held_out: held-out tokens (.npz) of each corpus.
        scores: bits_per_byte.json of the model on each corpus.
        table: CSV to write, a row for each file and corpus.
        kinds: types of the files, in their order.
        corpora: names of the corpora, in their order.
        sequence_length: tokens that a window of a document has at most.
        batch_size: windows at once.
        device: what the model computes on; without a GPU, cuda is refused.
        threads: CPU threads, on a CPU.
    """
    set_up_products()
    set_up_device(threads, device)
    rows = []
    for kind, file in one_for_each(kinds, files):
        loaded = read_back(file, model).to(device)
        for (corpus, tokens), score in one_for_each(one_for_each(corpora, held_out), scores):
            with out_of_memory_explained("evaluate.batch_size", batch_size):
                measured = bits.bits_per_byte(loaded, load_held_out(tokens), sequence_length, batch_size)
            rows.append(
                {
                    "kind": kind,
                    "megabytes": round(file.stat().st_size / 1e6, 3),
                    "corpus": corpus,
                    "bits_per_byte": measured["bits_per_byte"],
                    "bits_per_byte_of_model": read_json(score)["bits_per_byte"],
                }
            )
    with atomic(table) as path, open(path, "w", encoding="utf-8", newline="") as written:
        writer = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    run_stage(quantisation)
