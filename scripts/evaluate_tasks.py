"""Score a model on benchmark tasks, zero-shot, with lm-eval (paper section 3.4.3)."""

import argparse
from importlib import metadata
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.digest import settings_digest
from cpt.evaluate.answers import Answers
from cpt.evaluate.model import load_model, out_of_memory_explained
from cpt.evaluate.scorer import Scorer
from cpt.evaluate.tasks import evaluate_task, write_samples
from cpt.files import atomic, read_json, sha256_of, write_json
from cpt.provenance import provenance

SETTINGS = ("items", "seed", "batch_tokens", "precision", "add_bos_token")
PACKAGES = ("torch", "transformers", "tokenizers", "lm_eval")


def main(arguments: argparse.Namespace) -> None:
    folder = arguments.output
    settings = {name: arguments.settings[name] for name in SETTINGS}
    contents = {
        task: entry["content_sha256"] for task, entry in read_json(arguments.manifest)["tasks"].items()
    }
    digest = sha256_of(arguments.model / "model.safetensors")
    model, tokenizer = load_model(arguments.model, settings["precision"], arguments.threads)
    scorer = Scorer(model, tokenizer, settings["batch_tokens"], settings["add_bos_token"])
    # Answers belong to one model and one way of scoring. They outlive the job: Snakemake deletes the outputs
    # of a job that begins again, as when another task joins it.
    versions = [metadata.version(package) for package in PACKAGES]
    how = {name: settings[name] for name in ("batch_tokens", "precision", "add_bos_token")}
    key = settings_digest([digest, how, arguments.code, versions])
    for task in arguments.tasks:
        kept = folder / ".answers" / f"{task}.{key}.jsonl"
        scorer.label, scorer.answers = task, Answers(kept)
        with out_of_memory_explained("evaluate.batch_tokens", settings["batch_tokens"]):
            result, samples = evaluate_task(
                *(scorer, arguments.benchmarks, task),
                *(settings["items"], settings["seed"], arguments.include_path),
            )
        with atomic(folder / f"{task}.samples.jsonl") as temporary:
            write_samples(temporary, samples)
        origin = provenance({**settings, "task": task}, arguments.code, {"items": settings["seed"]})
        result |= {
            "benchmark_sha256": contents.get(task.removesuffix("_continuation")),
            "settings": settings,
            "model_sha256": digest,
            "provenance": origin,
        }
        write_json(folder / f"{task}.json", result)
        for former in kept.parent.glob(f"{task}.*.jsonl"):
            if former != kept:
                former.unlink()


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face model folder")
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of fetch_benchmarks")
    parser.add_argument("--manifest", type=Path, required=True, help="its manifest")
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--include-path", type=Path, help="folder of lm-eval's YAML files for own tasks")
    parser.add_argument("--settings", type=json_value, required=True, help=f"JSON with {', '.join(SETTINGS)}")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, where there is no GPU")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for TASK.json and TASK.samples.jsonl"
    )
    run(main, parser)
