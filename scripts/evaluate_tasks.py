from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.config_runs import Scoring
from cpt.evaluate.answers import Answers, answers_file, remove_former
from cpt.evaluate.model import Device, load_model, out_of_memory_explained
from cpt.evaluate.scorer import Scorer
from cpt.evaluate.tasks import evaluate_task, write_samples
from cpt.files import read_json, write_json
from cpt.model_folders import weights_digest
from cpt.provenance import provenance


def evaluate_tasks(
    model: Path,
    benchmarks: Path,
    manifest: Path,
    scores: Sequence[Path],
    samples: Sequence[Path],
    tasks: list[str],
    settings: Scoring,
    answers: Path,
    include_path: Path | None = None,
    device: Device = "cuda",
    threads: int = 1,
) -> None:
    """Score a model on benchmark tasks, zero-shot, with lm-eval (paper section 3.4.3).

    Args:
        model: Hugging Face model folder.
        benchmarks: folder of fetch_benchmarks.
        manifest: its manifest.
        scores: results (JSON) to write, one for each task.
        samples: items with their log-likelihoods (JSON lines) to write, one for each task.
        tasks: to score, in the order of the files.
        settings: how models are scored.
        answers: folder where answers are kept, so that a killed job asks the model only for the rest.
        include_path: folder of lm-eval's YAML files for own tasks.
        device: what the model computes on; without a GPU, cuda is refused.
        threads: CPU threads, on a CPU.
    """
    contents = {task: entry["content_sha256"] for task, entry in read_json(manifest)["tasks"].items()}
    digest = weights_digest(model)
    loaded, tokenizer = load_model(model, settings.precision, threads, device)
    scorer = Scorer(loaded, tokenizer, settings.batch_tokens, settings.add_bos_token)
    used = settings.model_dump(mode="json")
    for task, result_file, samples_file in zip(tasks, scores, samples, strict=True):
        kept = answers_file(answers, task, digest, settings)
        scorer.label, scorer.answers = task, Answers(kept)
        with out_of_memory_explained("evaluate.batch_tokens", settings.batch_tokens):
            result, items = evaluate_task(
                scorer, benchmarks, task, settings.items, settings.seed, include_path
            )
        write_samples(samples_file, items)
        result |= {
            "benchmark_sha256": contents.get(task.removesuffix("_continuation")),
            "settings": used,
            "model_sha256": digest,
            "provenance": provenance({**used, "task": task}, {"items": settings.seed}),
        }
        write_json(result_file, result)
        remove_former(kept, task)


if __name__ == "__main__":
    run(evaluate_tasks)
