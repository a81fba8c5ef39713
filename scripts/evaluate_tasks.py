from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.config_evaluate import EXAM_TASKS, ScoredTask, Scoring
from cpt.evaluate.answers import Answers, answers_file, remove_former
from cpt.evaluate.model import Device, load_model, out_of_memory_explained
from cpt.evaluate.scorer import Scorer
from cpt.evaluate.tasks import content_of, evaluate_task, write_samples
from cpt.files import write_json
from cpt.model_folders import weights_digest
from cpt.provenance import provenance


def evaluate_tasks(
    model: Path,
    benchmarks: Path,
    manifest: Path,
    scores: Sequence[Path],
    samples: Sequence[Path],
    columns: dict[str, ScoredTask],
    settings: Scoring,
    answers: Path,
    fetched: Path | None = None,
    exam: Path | None = None,
    include_path: Path | None = None,
    task_code: bool = False,
    device: Device = "cuda",
    threads: int = 1,
) -> None:
    """Score a model on tasks with lm-eval (paper section 3.4.3).

    Args:
        model: Hugging Face model folder.
        benchmarks: folder that fetch_benchmarks wrote.
        manifest: manifest of the benchmarks.
        scores: results (JSON) to write, one for each column.
        samples: items with their answers (JSON lines) to write, one for each column.
        columns: task, items and shots of each column, by name, in the order of the files.
        settings: how models are scored.
        answers: folder where answers are kept; a job that resumes asks the model only for the rest.
        fetched: folder with what fetch_task has written, for tasks beyond the seven test sets.
        exam: folder of the domain's own exam.
        include_path: folder of lm-eval's YAML files for own tasks.
        task_code: whether own tasks may run code.
        device: where the model runs; without a GPU, cuda is refused.
        threads: number of threads, on a CPU.
    """
    digest = weights_digest(model)
    loaded, tokenizer = load_model(model, settings.precision, threads, device)
    scorer = Scorer(loaded, tokenizer, settings.batch_tokens, settings.add_bos_token)
    settings_json = settings.model_dump(mode="json")
    for (column, entry), result_file, samples_file in zip(columns.items(), scores, samples, strict=True):
        task, items = entry.task, settings.items if entry.items is None else entry.items
        if exam and task in EXAM_TASKS:
            place, items = {"include_path": exam}, entry.items  # the exam has its own size
        else:
            place = {"fetched": fetched, "include_path": include_path, "task_code": task_code}
        kept = answers_file(answers, column, digest, settings)
        scorer.label, scorer.answers, scorer.cuts, scorer.endings = column, Answers(kept), {}, {}
        with out_of_memory_explained("evaluate.batch_tokens", settings.batch_tokens):
            result, rows = evaluate_task(
                scorer, benchmarks, task, items, settings.seed, column=column, shots=entry.shots, **place
            )
        write_samples(samples_file, rows)
        result |= {
            "benchmark_sha256": content_of(entry, manifest, fetched, exam),
            "settings": settings_json,
            "model_sha256": digest,
            "provenance": provenance(
                {**settings_json, "column": column, "task": entry}, {"items": settings.seed}
            ),
        }
        write_json(result_file, result)
        remove_former(kept, column)


if __name__ == "__main__":
    run(evaluate_tasks)
