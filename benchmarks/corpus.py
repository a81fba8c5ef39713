import logging
import multiprocessing
import os
import resource
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from systems import ASIDE, STAGES, Job, run_stage

from cpt.command import run
from cpt.errors import UserError
from cpt.files import write_text

# The measured processes import this module too, so functions import heavy packages themselves.
if TYPE_CHECKING:
    import pandas as pd

SHARD = Path("raw", "00000.parquet")
# One thread per process, so that CPU time is time on one core.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "ARROW_NUM_THREADS"), "1"
) | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def copy_documents(files: Sequence[Path], shard: Path, megabytes: float, copies: int) -> None:
    """Write about `megabytes` of text as one shard, with each document `copies` times.

    Each further copy has a line with its number, so that none is an exact duplicate.
    """
    from cpt.corpus.documents import RAW_SCHEMA, row_writer
    from cpt.corpus.sources import documents_in

    documents, left = [], megabytes * 1e6
    for document in chain.from_iterable(documents_in(file, file.name, "text") for file in files):
        if left <= 0:
            break
        if document.text:
            documents.append(document)
            left -= len(document.text.encode())
    shard.parent.mkdir(parents=True)
    with row_writer(shard, RAW_SCHEMA) as rows:
        for copy in range(copies):
            line = f"\nThis is copy {copy} of the document above, for the benchmark." if copy else ""
            for document in documents:
                rows.add(document.id, document.text + line, document.url)


def measure_stage(system: str, stage: str, job: Job, folder: Path) -> dict[str, Any]:
    """Run a stage of a system in a process of its own; returns its seconds, peak memory and counts.

    `process_seconds` are the CPU time of the whole process.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        result = process.submit(run_stage, system, stage, job, folder).result()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**result, "process_seconds": seconds}


def summary(runs: "pd.DataFrame", inputs: dict[str, tuple[int, int]]) -> "pd.DataFrame":
    """Returns the medians over the repeats for each system and stage; the stage `all` sums a repeat's stages.

    `inputs` are the tokens and bytes that each system reads; `kept` is the share of the tokens that come out.
    """
    import pandas as pd

    repeats = runs[~runs["stage"].isin(ASIDE)].groupby(["system", "repeat"], as_index=False)
    whole = repeats.agg({"seconds": "sum", "process_seconds": "sum", "memory_mb": "max", "tokens": "last"})
    several = runs.groupby("system")["stage"].transform("nunique") > 1
    rows = pd.concat([whole.assign(stage="all"), runs[several]])
    order = {system: number for number, system in enumerate(inputs)}
    rows = rows.sort_values("system", key=lambda systems: systems.map(order), kind="stable")
    table = rows.groupby(["system", "stage"], sort=False).agg(
        repeats=("repeat", "nunique"),
        seconds=("seconds", "median"),
        process_seconds=("process_seconds", "median"),
        peak_memory_mb=("memory_mb", "max"),
        tokens=("tokens", "first"),
    )
    sizes = pd.DataFrame.from_dict(inputs, "index", columns=["input_tokens", "input_bytes"])
    table = table.join(sizes, on="system")
    table["tokens_per_second_per_core"] = (table["input_tokens"] / table["seconds"]).round().astype(int)
    table["megabytes_per_second"] = (table["input_bytes"] / 1e6 / table["seconds"]).round(3)
    table["peak_memory_mb"] = table["peak_memory_mb"].round().astype(int)
    table["kept"] = table["tokens"] / table["input_tokens"]
    return table


def log_ratios(table: "pd.DataFrame") -> None:
    """Log the speed of our two systems relative to the others', and what each system keeps of the tokens.

    A system that drops documents has fewer to tokenize, so this also logs the ratio by the tokens kept.
    """
    whole = table.xs("all", level="stage")
    for system, row in whole.iterrows():
        logging.info(
            "%s: keeps %.1f %% of the tokens of %.1f MB; %.2f CPU s, %.2f with start-up and imports; %d x",
            system,
            100 * row["kept"],
            row["input_bytes"] / 1e6,
            row["seconds"],
            row["process_seconds"],
            row["repeats"],
        )
    seconds = whole[["seconds", "process_seconds"]].div(whole["input_tokens"], axis=0)
    for ours in whole.index.intersection(["ours-gigatoken", "ours-hf"]):
        for other in whole.index.intersection(["datasets-map", "datatrove", "limit-hf", "limit-gigatoken"]):
            ratio, started = seconds.loc[other] / seconds.loc[ours]
            logging.info(
                "%s: %.3g times the rate of %s; %.3g times by the tokens that come out; %.3g times with "
                "start-up and imports",
                ours,
                ratio,
                other,
                ratio * whole["kept"][ours] / whole["kept"][other],
                started,
            )


def prepare(root: Path, files: Sequence[Path], job: Job, megabytes: float, copies: int) -> tuple[int, int]:
    """Write the documents under `root`; returns their tokens and bytes."""
    copy_documents(files, root / SHARD, megabytes, copies)
    counts = measure_stage("limit-hf", "tokenize", job._replace(raw=root / SHARD), root)
    logging.info("%.1f MB of text, %s tokens", counts["bytes"] / 1e6, f"{counts['tokens']:,}")
    return counts["tokens"], counts["bytes"]


def measure_all(roots: dict[str, Path], small: Sequence[str], repeats: int, job: Job) -> "pd.DataFrame":
    """Returns measure_stage's result for each system, stage and repeat; `roots`: the systems' documents."""
    import pandas as pd

    runs = []
    for repeat in range(1, repeats + 1):
        for system, root in roots.items():
            if repeat > 1 and system in small:
                continue
            with tempfile.TemporaryDirectory(dir=root) as folder:
                for stage in STAGES[system]:
                    if stage in ASIDE and job.benchmarks is None:
                        continue
                    result = measure_stage(system, stage, job._replace(raw=root / SHARD), Path(folder))
                    runs.append({"system": system, "stage": stage, "repeat": repeat, **result})
                    logging.info(
                        "repeat %d, %s, %s: %.2f s, %.0f MB, %s tokens left",
                        repeat,
                        system,
                        stage,
                        result["seconds"],
                        result["memory_mb"],
                        f"{result['tokens']:,}" if "tokens" in result else "-",
                    )
    return pd.DataFrame(runs)


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
    """Measure what the corpus pipeline costs per core, beside other pipelines, on the same documents.

    Systems: `ours-gigatoken` and `ours-hf` (filter, deduplicate, tokenize, pack), `datasets-map` (tokenize
    and group with datasets.map, in the style of transformers' run_clm), `datatrove` (reader, Gopher
    repetition filter, exact deduplication, tokenizer), `limit-hf` and `limit-gigatoken` (the bare tokenizers,
    texts in memory). Every stage is a process of its own. Its time is CPU time without start-up and imports,
    but with loading of compiled code and with loading and checking the tokenizer. The log also has the ratios
    with start-up and imports. The systems take turns, and the medians of the repeats go into the table.

    With `--benchmarks`, our `decontaminate` is measured too. It isn't part of `all`, as no other system has
    that stage.

    The documents are one shard of 64 MB of text by default; a shard of FineWeb-Edu has about 3,500 MB. So
    one-time costs of a job (compiled code, the tokenizer and its check) weigh 50 times as much here.

    All rates have the same numerator, whatever a system drops: the input's tokens (with one end-of-sequence
    token per document) and bytes. The log says what each system keeps of the tokens, and the ratios by the
    tokens kept.

    Args:
        raw: files of documents (.parquet).
        model: a model folder, for its tokenizer.
        config: config.yaml, or a merged one, with the stages' settings.
        table: CSV file to write.
        benchmarks: the folder with items.parquet, to decontaminate.
        megabytes: text to use, in MB (10^6 bytes).
        copies: number of copies of the text, with small edits.
        repeats: runs of each system.
        systems: systems to measure; default: all.
        small: systems too slow for all the text; they run once, on a part, to which their rates refer.
        small_megabytes: text of that part, in MB.
    """
    import yaml

    from cpt.config import load

    systems = systems or list(STAGES)
    if unknown := {*systems, *small} - {*STAGES}:
        raise UserError(f"there is no system {min(unknown)}; name some of {', '.join(STAGES)}")
    os.environ.update(ONE_THREAD)
    settings = load(yaml.safe_load(config.read_text(encoding="utf-8")))
    sections = {name: getattr(settings, name) for name in Job._fields if hasattr(settings, name)}
    job = Job(raw=Path(), model=model.resolve(), benchmarks=benchmarks, **sections)
    with tempfile.TemporaryDirectory(prefix="bench-corpus.") as temporary:
        parts = {"small": (small_megabytes, 1), "whole": (megabytes, copies)}
        part_by_system = {system: "small" if system in small else "whole" for system in systems}
        counts = {
            part: prepare(Path(temporary, part), raw, job, *size)
            for part, size in parts.items()
            if part in part_by_system.values()
        }
        runs = measure_all(
            {name: Path(temporary, part) for name, part in part_by_system.items()}, small, repeats, job
        )
    rates = summary(runs, {system: counts[part] for system, part in part_by_system.items()})
    columns = ["tokens_per_second_per_core", "megabytes_per_second", "peak_memory_mb"]
    text = rates[columns].to_csv(lineterminator="\n")
    write_text(table, text)
    log_ratios(rates)
    for line in text.splitlines():
        logging.info(line)


if __name__ == "__main__":
    run(corpus)
