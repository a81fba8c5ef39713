import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpt.arrays import write_array
from cpt.command import run
from cpt.config_sections import HeldOut
from cpt.corpus.documents import load_keep
from cpt.corpus.overlap import Document, HeldOutText, documents_of
from cpt.corpus.shards import names_of
from cpt.progress import Progress


def exam_overlap(
    corpora: dict[str, int],
    documents: Sequence[Path],
    keep: Sequence[Path],
    splits: dict[str, HeldOut],
    candidates: Path,
    overlap: Path,
) -> None:
    """Look for the questions of the domain's exam in the training text.

    Args:
        corpora: number of shards by corpus in training; lists of files have all shards in this order.
        documents: the filtered documents (.parquet).
        keep: which of them are trained on or held out (.npy).
        splits: the config's `held_out` for each corpus.
        candidates: questions of exam_candidates (JSON lines).
        overlap: each question's n-grams, and those in training text (int64 [2, candidates], .npy), to write.
    """
    questions = HeldOutText()
    for number, row in enumerate(map(json.loads, candidates.open(encoding="utf-8"))):
        text = f"{row['before']}{row['space']}{row['pool'][0]}{row['after']}"
        questions.add("exam", Document(number, None, None, np.frombuffer(text.encode(), np.uint8), True))
    questions.index()
    with Progress("looking for the exam in training text", len(documents), "shards") as progress:
        for (corpus, _), path, lists in zip(names_of(corpora), documents, keep, strict=True):
            for document in documents_of(path, load_keep(lists, path), splits[corpus]):
                if not document.held_out:
                    questions.compare(document)
            progress.advance()
    write_array(overlap, np.stack([questions.sizes, questions.shared()]).astype(np.int64))


if __name__ == "__main__":
    run(exam_overlap)
