"""Score a model on one benchmark task, zero-shot, with lm-eval (paper section 3.4.3)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.digest import settings_digest
from cpt.evaluate.model import load_model
from cpt.evaluate.scorer import Scorer
from cpt.evaluate.tasks import DEFINITIONS, evaluate_task, write_samples
from cpt.files import atomic, sha256_of, write_json
from cpt.provenance import provenance

SETTINGS = ("items", "seed", "batch_size", "precision", "add_bos_token")


def main(arguments: argparse.Namespace) -> None:
    output = arguments.output
    settings = {name: arguments.settings[name] for name in SETTINGS}
    digest = sha256_of(arguments.model / "model.safetensors")
    model, tokenizer = load_model(arguments.model, settings["precision"], arguments.threads)
    scorer = Scorer(model, tokenizer, settings["batch_size"], settings["add_bos_token"], arguments.task)
    output.parent.mkdir(parents=True, exist_ok=True)
    # lm-eval's cache of answers knows only the question, so its name says whose answers these are.
    key = settings_digest([digest, settings, arguments.code])
    result, samples = evaluate_task(
        scorer,
        arguments.benchmarks,
        arguments.task,
        settings["items"],
        settings["seed"],
        output.with_name(f".{output.stem}.{key}.answers"),
    )
    with atomic(arguments.samples) as temporary:
        write_samples(temporary, samples)
    result |= {"settings": settings, "model_sha256": digest}
    origin = provenance({**settings, "task": arguments.task}, arguments.code, {"items": settings["seed"]})
    write_json(output, {**result, "provenance": origin})
    for leftover in output.parent.glob(f".{output.stem}.*.answers_rank0.db*"):
        leftover.unlink()


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face model folder")
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of fetch_benchmarks")
    parser.add_argument("--task", choices=list(DEFINITIONS), required=True)
    parser.add_argument("--settings", type=json_value, required=True, help=f"JSON with {', '.join(SETTINGS)}")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, where there is no GPU")
    parser.add_argument("--output", type=Path, required=True, help="scores (JSON) to write")
    parser.add_argument("--samples", type=Path, required=True, help="answers per item (JSONL) to write")
    run(main, parser)
