from pathlib import Path

import numpy as np

from cpt.arrays import write_array
from cpt.command import run
from cpt.corpus.documents import open_parquet
from cpt.corpus.similarity import texts_of
from cpt.evaluate.model import Device, out_of_memory_explained, set_up_device
from cpt.model.classifier import load_classifier, scores_of
from cpt.progress import Progress


def edu_scores(
    raw: Path,
    text_column: str,
    classifier: Path,
    batch_size: int,
    scores: Path,
    device: Device = "cuda",
    threads: int = 1,
) -> None:
    """Score each document of a raw shard with a classifier.

    Args:
        raw: the raw shard (.parquet).
        text_column: the column that holds the text.
        classifier: folder of the classifier.
        batch_size: documents per batch.
        scores: a score for each document (.npy), to write.
        device: where the model runs; without a GPU, cuda is refused.
        threads: number of threads, on a CPU.
    """
    set_up_device(threads, device)
    model, tokenizer = load_classifier(classifier)
    texts = (bytes(text).decode() for text in texts_of([raw], text_column))
    parts = [np.empty(0, np.float32)]
    with (
        Progress(f"scoring {raw}", open_parquet(raw).metadata.num_rows, "documents") as progress,
        out_of_memory_explained("evaluate.batch_size", batch_size),
    ):
        for part in scores_of(texts, model.to(device), tokenizer, batch_size):
            parts.append(part)
            progress.advance(len(part))
    write_array(scores, np.concatenate(parts))


if __name__ == "__main__":
    run(edu_scores)
