import logging
from collections import Counter
from pathlib import Path

from cpt.arrays import load_array
from cpt.command import run
from cpt.config_evaluate import Scoring
from cpt.config_exam import Exam
from cpt.evaluate.answers import Answers, answers_file, remove_former
from cpt.evaluate.exam import (
    apart_from_training,
    facts_of,
    notice_nulls,
    read_candidates,
    require_enough,
    rows_of,
    take,
    task_yaml,
)
from cpt.evaluate.exam_candidates import write_lines
from cpt.evaluate.model import Device, load_model, out_of_memory_explained
from cpt.evaluate.scorer import Scorer
from cpt.files import read_json, sha256_of, write_json, write_text
from cpt.model_folders import weights_digest
from cpt.provenance import provenance


def make_exam(
    candidates: Path,
    manifest: Path,
    overlap: Path,
    model: Path,
    exam: Exam,
    settings: Scoring,
    answers: Path,
    questions: Path,
    task: Path,
    open_book: Path,
    report: Path,
    device: Device = "cuda",
) -> None:
    """Check candidates with the base model, and write those that pass as tasks of lm-eval (docs/exam.md).

    On a CPU the base model runs on one thread, so that the exam is the same on any number of cores.

    Args:
        candidates: questions of exam_candidates (JSON lines).
        manifest: what the candidates were made from (.json).
        overlap: exam_overlap's counts of their n-grams in training text (.npy).
        model: the base model's folder.
        exam: the config's `evaluate.exam`.
        settings: how models are scored.
        answers: folder where the base model's answers are kept; a job that resumes asks only for the rest.
        questions: the exam's items (JSON lines), to write.
        task: lm-eval's task (YAML), to write.
        open_book: the same with the passage above each question (YAML), to write.
        report: facts of the exam, and the scores of nulls and base model (.json), to write.
        device: where the model runs; without a GPU, cuda is refused.
    """
    made_from = read_json(manifest)
    refused: Counter[str] = Counter(made_from["refused"])
    kept = apart_from_training(read_candidates(candidates), load_array(overlap), refused)
    digest = weights_digest(model)
    loaded, tokenizer = load_model(model, settings.precision, 1, device)
    scorer = Scorer(loaded, tokenizer, settings.batch_tokens, settings.add_bos_token)
    file = answers_file(answers, "exam", digest, settings)
    scorer.answers = Answers(file)
    with out_of_memory_explained("evaluate.batch_tokens", settings.batch_tokens):
        items, dropped = take(scorer, kept, exam.wanted)
    refused["the document doesn't help with it"] = len(dropped)
    require_enough(len(items), exam, made_from["corpus"], made_from["corpus_documents"], refused)
    version = made_from["corpus_sha256"][:12]
    write_lines(questions, rows_of(items))
    write_text(task, task_yaml("exam", questions, "question", version))
    write_text(open_book, task_yaml("exam_open_book", questions, "open_book", version))
    facts = {
        "corpus": made_from["corpus"],
        "corpus_sha256": made_from["corpus_sha256"],
        "exam_sha256": sha256_of(questions),
        "model_sha256": digest,
        "writer": made_from["writer"],
        **facts_of(items, dropped),
        "refused": dict(sorted(refused.items())),
        "settings": settings,
    }
    notice_nulls(facts)
    write_json(report, {**facts, "provenance": provenance({"exam": exam, "settings": settings})})
    remove_former(file, "exam")
    logging.info("exam: %d items of %s", len(items), made_from["corpus"])


if __name__ == "__main__":
    run(make_exam)
