"""What the corpus pipeline costs per core, beside other ways to do it, on the same documents in one run.

Systems: `ours-gigatoken` and `ours-hf` (filter, deduplicate, tokenize, pack), `datasets-map` (tokenize and
group with datasets.map, in the style of transformers' run_clm), `datatrove` (reader, Gopher repetition
filter, exact deduplication, tokenizer), `limit-hf` and `limit-gigatoken` (the bare tokenizers, texts in
memory). Every stage is a process of its own. What counts is its CPU time without start-up and imports;
loading compiled code, loading the tokenizer and proving it count. The ratios are logged with start-up and
imports as well. The systems take turns, and the medians of the repeats go into the table.

With `--benchmarks`, our `decontaminate` is measured too. It is no part of `all`, as no other system does it.

The documents are one shard, as FineWeb-Edu's are: 64 MB of text by default, where its have about 3,500, so
what a job costs once (compiled code, the tokenizer and its proof) weighs 50 times as much as there.
`--copies` makes the shard larger; `--megabytes` says how much text a copy has.

`--small` names systems that run only once, on the first `--small-megabytes`; their rates are those there.

All rates have the same numerator, whatever a system drops: the input's tokens (with one end-of-sequence token
per document) and bytes. What each system keeps of the tokens, and the ratios with that taken into account,
are logged.
"""

import argparse
import csv
import io
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from systems import ASIDE, SYSTEMS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from cpt.command import command_parser, run
from cpt.corpus.documents import RAW_SCHEMA, as_name, read_rows, row_writer, valid_text
from cpt.errors import UserError
from cpt.files import write_text

# One thread per process, so that CPU time is time on one core.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "ARROW_NUM_THREADS"), "1"
) | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def copy_documents(files: list[Path], folder: Path, megabytes: float, copies: int) -> None:
    """Write about so many megabytes of text as one shard, and each document again for each further copy.

    A line with its number tells a copy from the others, so that none is an exact duplicate.
    """
    folder.mkdir()
    with row_writer(folder / "00000.parquet", RAW_SCHEMA) as rows:
        for copy in range(copies):
            left = megabytes * 1e6
            for file in files:
                for raw, name, url in read_rows(file, ["text", "id", "url"]) if left > 0 else ():
                    text, _ = valid_text(raw)
                    if text and left > 0:
                        left -= len(text.encode())
                        if copy:
                            text += f"\nThis is copy {copy} of the document above, for the benchmark."
                        rows.add(as_name(name) or f"{file.stem}/{rows.count}", text, as_name(url) or "")


def measured(system: str, stage: str, job: Path, folder: Path) -> dict[str, Any]:
    """Run a stage of a system in a process of its own; returns its seconds, peak memory and counts.

    `process_seconds` are the CPU time of the whole process.
    """
    command = [
        sys.executable,
        str(Path(__file__).with_name("systems.py")),
        system,
        stage,
        str(job),
        str(folder),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise UserError(f"benchmark of {system}, stage {stage}, failed:\n{done.stderr[-3000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**json.loads(done.stdout.splitlines()[-1]), "process_seconds": used}


def whole_repeats(times: dict[tuple[str, str], list[dict[str, Any]]], system: str) -> list[dict[str, float]]:
    """A system's stages together, for each repeat: sums of seconds, and the largest memory."""
    stages = [runs for (name, stage), runs in times.items() if name == system and stage not in ASIDE]
    return [
        {
            **{key: sum(run[key] for run in repeat) for key in ("seconds", "process_seconds")},
            "memory_mb": max(run["memory_mb"] for run in repeat),
        }
        for repeat in zip(*stages, strict=True)
    ]


def rows_of(
    times: dict[tuple[str, str], list[dict[str, Any]]], inputs: dict[str, tuple[int, int]]
) -> Iterator[dict[str, str | float]]:
    """The table: medians over the repeats for each system and stage; `all` sums the stages of a repeat.

    `inputs` are the tokens and bytes that each system was given.
    """
    for system in dict.fromkeys(system for system, _ in times):
        stages = {stage: runs for (name, stage), runs in times.items() if name == system}
        whole = whole_repeats(times, system)
        tokens, size = inputs[system]
        for stage, runs in {"all": whole, **(stages if len(stages) > 1 else {})}.items():
            seconds = statistics.median(run["seconds"] for run in runs)
            yield {
                "system": system,
                "stage": stage,
                "tokens_per_second_per_core": round(tokens / seconds),
                "megabytes_per_second": round(size / 1e6 / seconds, 3),
                "peak_memory_mb": round(max(run["memory_mb"] for run in runs)),
            }


def log_ratios(
    times: dict[tuple[str, str], list[dict[str, Any]]], inputs: dict[str, tuple[int, int]]
) -> None:
    """Log how many times as fast as the others our two ways are, and what each system keeps of the tokens.

    A system that drops documents has fewer to tokenize, so the ratio of what comes out is told as well.
    """
    seconds: dict[str, dict[str, float]] = {}  # per token of the input
    kept: dict[str, float] = {}
    for system in dict.fromkeys(system for system, _ in times):
        repeats = whole_repeats(times, system)
        tokens, size = inputs[system]
        kept[system] = times[system, SYSTEMS[system][-1]][0]["tokens"] / tokens
        used = {key: statistics.median(run[key] for run in repeats) for key in ("seconds", "process_seconds")}
        seconds[system] = {key: value / tokens for key, value in used.items()}
        logging.info(
            "%s: keeps %.1f %% of the tokens of %.1f MB; %.2f CPU s, %.2f with start-up and imports; %d x",
            *(system, 100 * kept[system], size / 1e6, *used.values(), len(repeats)),
        )
    for ours in ("ours-gigatoken", "ours-hf"):
        for other in ("datasets-map", "datatrove", "limit-hf", "limit-gigatoken"):
            if ours in seconds and other in seconds:
                ratio, started = (seconds[other][key] / seconds[ours][key] for key in seconds[ours])
                logging.info(
                    "%s: %.3g times the rate of %s; %.3g times by the tokens that come out; %.3g times with "
                    "start-up and imports",
                    *(ours, ratio, other, ratio * kept[ours] / kept[other], started),
                )


def prepare(
    root: Path, files: list[Path], arguments: argparse.Namespace, config: dict[str, Any], small: bool
) -> tuple[Path, tuple[int, int]]:
    """Write the documents and the job that names them; returns the job, and its tokens and bytes."""
    root.mkdir()
    megabytes = arguments.small_megabytes if small else arguments.megabytes
    copy_documents(files, root / "raw", megabytes, 1 if small else arguments.copies)
    job = root / "job.json"
    names = ("filters", "deduplicate", "decontaminate", "held_out", "packing")
    job.write_text(
        json.dumps(
            {
                "raw": str(root / "raw"),
                "shards": 1,
                "model": str(arguments.model.resolve()),
                "benchmarks": str(arguments.benchmarks),
                "config": {key: config[key] for key in names},
            }
        )
    )
    counts = measured("limit-hf", "tokenize", job, root)
    logging.info("%.1f MB of text, %s tokens", counts["bytes"] / 1e6, f"{counts['tokens']:,}")
    return job, (counts["tokens"], counts["bytes"])


def main(arguments: argparse.Namespace) -> None:
    files = sorted(path for folder in arguments.input for path in folder.glob("*.parquet"))
    if not files:
        raise UserError(f"{', '.join(map(str, arguments.input))}: no parquet files there; name their folder")
    config = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    times: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-corpus.") as temporary:
        root = Path(temporary)
        jobs = {
            small: prepare(root / ("small" if small else "whole"), files, arguments, config, small)
            for small in {system in arguments.small for system in arguments.systems}
        }
        inputs = {system: jobs[system in arguments.small][1] for system in arguments.systems}
        for repeat in range(arguments.repeats):
            for system in arguments.systems:
                if repeat and system in arguments.small:
                    continue
                with tempfile.TemporaryDirectory(dir=root) as folder:
                    for stage in SYSTEMS[system]:
                        if stage in ASIDE and not arguments.benchmarks:
                            continue
                        found = measured(system, stage, jobs[system in arguments.small][0], Path(folder))
                        times.setdefault((system, stage), []).append(found)
                        logging.info(
                            "repeat %d, %s, %s: %.2f s, %.0f MB, %s tokens left",
                            *(repeat + 1, system, stage, found["seconds"], found["memory_mb"]),
                            f"{found['tokens']:,}" if "tokens" in found else "-",
                        )
    rows = list(rows_of(times, inputs))
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(arguments.output, table.getvalue())
    log_ratios(times, inputs)
    for line in table.getvalue().splitlines():
        logging.info(line)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--input", type=Path, nargs="+", required=True, help="folders of parquet files")
    parser.add_argument("--model", type=Path, required=True, help="a model folder, for its tokenizer")
    parser.add_argument("--benchmarks", type=Path, help="the folder with items.parquet, to decontaminate")
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="for the stages' settings")
    parser.add_argument("--megabytes", type=float, default=64.0, help="how much text to use")
    parser.add_argument("--copies", type=int, default=1, help="how often to use it, with small edits")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument(
        "--small", nargs="+", choices=SYSTEMS, default=[], help="systems too slow for all of it"
    )
    parser.add_argument("--small-megabytes", type=float, default=8.0, help="how much text they get")
    parser.add_argument("--output", type=Path, required=True, help="the table (.csv)")
    run(main, parser)
