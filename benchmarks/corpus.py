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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from systems import ASIDE, STAGES, Job

from cpt.command import run
from cpt.config import load
from cpt.corpus.documents import RAW_SCHEMA, as_name, read_rows, row_writer, valid_text
from cpt.errors import UserError
from cpt.files import write_text
from cpt.stage import arguments

# One thread per process, so that CPU time is time on one core.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "ARROW_NUM_THREADS"), "1"
) | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def copy_documents(files: Sequence[Path], folder: Path, megabytes: float, copies: int) -> None:
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
    command = [sys.executable, str(Path(__file__).with_name("systems.py"))]
    command += arguments(system=system, stage=stage, job=job, folder=folder)
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
        kept[system] = times[system, [*STAGES[system]][-1]][0]["tokens"] / tokens
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


def prepare(root: Path, files: Sequence[Path], job: Job, megabytes: float, copies: int) -> tuple[int, int]:
    """Write the documents, and the job as job.json beside them; returns their tokens and bytes."""
    root.mkdir()
    copy_documents(files, root / "raw", megabytes, copies)
    job = job.model_copy(update={"raw": root / "raw"})
    (root / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    counts = measured("limit-hf", "tokenize", root / "job.json", root)
    logging.info("%.1f MB of text, %s tokens", counts["bytes"] / 1e6, f"{counts['tokens']:,}")
    return counts["tokens"], counts["bytes"]


def measure_all(
    roots: dict[str, Path], small: Sequence[str], repeats: int, decontaminate: bool
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What `measured` returns for each (system, stage) and repeat; `roots` are the systems' documents."""
    times: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for repeat in range(repeats):
        for system, root in roots.items():
            if repeat and system in small:
                continue
            with tempfile.TemporaryDirectory(dir=root) as folder:
                for stage in STAGES[system]:
                    if stage in ASIDE and not decontaminate:
                        continue
                    found = measured(system, stage, root / "job.json", Path(folder))
                    times.setdefault((system, stage), []).append(found)
                    logging.info(
                        "repeat %d, %s, %s: %.2f s, %.0f MB, %s tokens left",
                        *(repeat + 1, system, stage, found["seconds"], found["memory_mb"]),
                        f"{found['tokens']:,}" if "tokens" in found else "-",
                    )
    return times


def corpus(
    raw: Sequence[Path],
    model: Path,
    config: Path,
    table: Path,
    benchmarks: Path | None = None,
    megabytes: float = 64.0,
    copies: int = 1,
    repeats: int = 3,
    systems: Sequence[str] = (),
    small: Sequence[str] = (),
    small_megabytes: float = 8.0,
) -> None:
    """What the corpus pipeline costs per core, beside other ways to do it, on the same documents in one run.

    Systems: `ours-gigatoken` and `ours-hf` (filter, deduplicate, tokenize, pack), `datasets-map` (tokenize
    and group with datasets.map, in the style of transformers' run_clm), `datatrove` (reader, Gopher
    repetition filter, exact deduplication, tokenizer), `limit-hf` and `limit-gigatoken` (the bare tokenizers,
    texts in memory). Every stage is a process of its own. What counts is its CPU time without start-up and
    imports; loading compiled code, loading the tokenizer and proving it count. The ratios are logged with
    start-up and imports as well. The systems take turns, and the medians of the repeats go into the table.

    With `--benchmarks`, our `decontaminate` is measured too. It is no part of `all`, as no other system does
    it.

    The documents are one shard, as FineWeb-Edu's are: 64 MB of text by default, where its have about 3,500.
    What a job costs once (compiled code, the tokenizer and its proof) weighs 50 times as much as there.

    All rates have the same numerator, whatever a system drops: the input's tokens (with one end-of-sequence
    token per document) and bytes. What each system keeps of the tokens, and the ratios with that taken into
    account, are logged.

    Args:
        raw: files of documents (.parquet).
        model: a model folder, for its tokenizer.
        config: config.yaml, or one that is merged: the stages' settings.
        table: what was measured (.csv), to write.
        benchmarks: the folder with items.parquet, to decontaminate.
        megabytes: how much text to use.
        copies: how often to use it, each time with small edits.
        repeats: of each system.
        systems: those to measure; all without it.
        small: systems too slow for all of it; they run once, and their rates are those of their part.
        small_megabytes: how much text they get.
    """
    systems = systems or list(STAGES)
    if unknown := {*systems, *small} - {*STAGES}:
        raise UserError(f"there is no system {min(unknown)}; name some of {', '.join(STAGES)}")
    settings = load(yaml.safe_load(config.read_text(encoding="utf-8")))
    sections = {name: getattr(settings, name) for name in Job.model_fields if hasattr(settings, name)}
    job = Job(raw=Path(), model=model.resolve(), benchmarks=benchmarks, **sections)
    with tempfile.TemporaryDirectory(prefix="bench-corpus.") as temporary:
        parts = {"small": (small_megabytes, 1), "whole": (megabytes, copies)}
        part_of = {system: "small" if system in small else "whole" for system in systems}
        counts = {
            part: prepare(Path(temporary, part), raw, job, *size)
            for part, size in parts.items()
            if part in part_of.values()
        }
        roots = {system: Path(temporary, part) for system, part in part_of.items()}
        times = measure_all(roots, small, repeats, benchmarks is not None)
    inputs = {system: counts[part] for system, part in part_of.items()}
    rows = list(rows_of(times, inputs))
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, text.getvalue())
    log_ratios(times, inputs)
    for line in text.getvalue().splitlines():
        logging.info(line)


if __name__ == "__main__":
    run(corpus)
