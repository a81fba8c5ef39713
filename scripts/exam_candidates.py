import logging
from collections import Counter
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from cpt.command import run
from cpt.config_exam import Exam
from cpt.evaluate.exam_candidates import (
    PROPOSED,
    Index,
    corpus_digest,
    held_out_documents,
    propose,
    write_lines,
)
from cpt.evaluate.exam_writer import WRITTEN, Client, write_candidates
from cpt.files import write_json
from cpt.progress import NOTICE
from cpt.provenance import provenance


def exam_candidates(
    documents: Path, corpus: str, exam: Exam, answers: Path, candidates: Path, manifest: Path
) -> None:
    """Propose questions for the domain's own exam, from held-out documents alone (docs/exam.md).

    Args:
        documents: the corpus's held-out documents (.parquet).
        corpus: the corpus's name.
        exam: the config's `evaluate.exam`.
        answers: file where a writer's answers are kept; a job that resumes asks only for the rest.
        candidates: questions, each with a pool of answers (JSON lines), to write.
        manifest: what the questions were made from (.json), to write.
    """
    texts = held_out_documents(documents)
    refused: Counter[str] = Counter()
    if exam.writer:
        proposed, most = (
            write_candidates(Client(exam.writer, answers).ask, texts, refused),
            WRITTEN * exam.wanted,
        )
    else:
        index = Index(texts)
        proposed, most = propose(texts, index, refused), PROPOSED * exam.wanted
        for notice in index.notices(corpus):
            logging.log(NOTICE, notice)
    chosen = list(islice(proposed, most))
    write_lines(candidates, map(asdict, chosen))
    facts = {
        "corpus": corpus,
        "corpus_sha256": corpus_digest(texts),
        "corpus_documents": len(texts),
        "candidates": len(chosen),
        "refused": dict(sorted(refused.items())),
        "writer": exam.writer,
    }
    write_json(manifest, {**facts, "provenance": provenance({"exam": exam})})


if __name__ == "__main__":
    run(exam_candidates)
