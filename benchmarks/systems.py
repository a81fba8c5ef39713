"""The systems that corpus.py measures: functions that run each of their stages in this process.

Each function imports the packages and stages that it uses, so that a stage without them doesn't pay for
them.
"""

import os
import resource
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from importlib import import_module
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from cpt.config_sections import Decontaminate, Deduplicate, Filters, HeldOut, Packing
from cpt.errors import UserError
from cpt.files import read_json

# A stage that no other system has: measured, but not part of a system's sum; no stage uses its result.
ASIDE = ("decontaminate",)
BATCH = 1_000  # documents
Result = dict[str, float]  # seconds and, where the stage knows it, tokens (that come out of it)


class Job(NamedTuple):
    """A system's input: one shard of documents (`raw`, .parquet, alone in its folder), and settings."""

    raw: Path
    model: Path
    benchmarks: Path | None
    filters: Filters
    deduplicate: Deduplicate
    decontaminate: Decontaminate
    held_out: HeldOut
    packing: Packing


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Returns the CPU seconds that this process and its finished children take for `work`."""

    def used() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    before = used()
    work()
    return used() - before


def run_stage(system: str, stage: str, job: Job, folder: Path) -> Result:
    """Run one stage of one system; `memory_mb` is this process's peak memory in MB (10^6 bytes)."""
    result = STAGES[system][stage](job, folder)
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    return {**result, "memory_mb": peak}


# ------------------------------------------------------------------------------------------- this project
def time_stage(name: str, **values: Any) -> Result:
    """Time one of the workflow's stages; its imports don't count."""
    stage = getattr(import_module(name), name)
    return {"seconds": cpu_seconds(lambda: stage(**values))}


def ours_filter(job: Job, folder: Path) -> Result:
    return time_stage(
        "filter_documents",
        raw=job.raw,
        text_column="text",
        where={},
        filters=job.filters,
        normalize=job.deduplicate.normalize,
        **{name: folder / f"filtered.{name}" for name in ("documents", "drops", "examples")},
    )


def ours_deduplicate(job: Job, folder: Path) -> Result:
    return time_stage(
        "deduplicate",
        corpora={"bench": 1},
        documents=[folder / "filtered.documents"],
        partitions=job.deduplicate.partitions,
        keep=[folder / "keep"],
        table=folder / "duplicates.csv",
    )


def ours_decontaminate(job: Job, folder: Path) -> Result:
    return time_stage(
        "decontaminate",
        shard="00000",
        documents=folder / "filtered.documents",
        unique=folder / "keep",
        benchmarks=job.benchmarks,
        settings=job.decontaminate,
        keep=folder / "decontaminated.npy",
        report=folder / "decontaminated.json",
    )


def ours_tokenize(job: Job, folder: Path, encoder: str) -> Result:
    import awkward  # noqa: F401
    import gigatoken  # noqa: F401

    names = ("tokens", "ends", "held_out", "manifest", "drops", "examples", "quality")
    result = time_stage(
        "tokenize_documents",
        documents=folder / "filtered.documents",
        keep=folder / "keep" / "00000.keep.npy",
        model=job.model,
        thresholds=job.filters.token_quality,
        split=job.held_out,
        encoder=encoder,
        **{name: folder / f"tokens.{name}" for name in names},
    )
    manifest = read_json(folder / "tokens.manifest")
    if encoder == "fastest" and not manifest["provenance"]["encoder"].startswith("gigatoken"):
        raise UserError(f"gigatoken isn't used for {job.model}; remove ours-gigatoken from --systems")
    return {**result, "tokens": manifest["tokens"]}


def ours_pack(job: Job, folder: Path) -> Result:
    result = time_stage(
        "pack",
        mixture="bench",
        shares={"bench": 1.0},
        shards={"bench": 1},
        tokens=[folder / "tokens.tokens"],
        ends=[folder / "tokens.ends"],
        manifests=[folder / "tokens.manifest"],
        packing=job.packing,
        packed=folder / "packed",
        contents=folder / "packed.json",
    )
    return {**result, "tokens": read_json(folder / "packed" / "ledger.json")["tokens"]}


# ------------------------------------------------------------------------------------------ datasets.map
def datasets_map(job: Job, folder: Path) -> Result:
    """Tokenize in one map, concatenate and cut in another, as transformers' run_clm example does."""
    os.environ["HF_HOME"] = str(folder / "home")
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    length = job.packing.sequence_length
    counts = {}

    def grouped(batch: dict[str, list]) -> dict[str, list]:
        joined = {key: list(chain(*values)) for key, values in batch.items()}
        whole = len(joined["input_ids"]) // length * length
        cut = {key: [ids[i : i + length] for i in range(0, whole, length)] for key, ids in joined.items()}
        return {**cut, "labels": [list(ids) for ids in cut["input_ids"]]}

    def work() -> None:
        tokenizer = AutoTokenizer.from_pretrained(job.model)
        data = datasets.load_dataset(
            "parquet", data_files=[str(job.raw)], split="train", cache_dir=str(folder)
        )
        data = data.map(
            lambda batch: tokenizer(batch["text"]), batched=True, remove_columns=data.column_names
        )
        counts["tokens"] = data.map(grouped, batched=True).num_rows * length

    return {"seconds": cpu_seconds(work), **counts}


# --------------------------------------------------------------------------------------------- datatrove
def content(document: Any) -> bytes:
    """Returns what datatrove hashes, as bytes: xxhash 4 refuses str."""
    return document.text.encode()


def trove_filter(job: Job, folder: Path) -> Result:
    from datatrove.pipeline.filters import GopherRepetitionFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    limits = job.filters.repetition
    rules = GopherRepetitionFilter(
        dup_line_frac=limits.duplicate_line_share,
        dup_para_frac=limits.duplicate_paragraph_share,
        dup_line_char_frac=limits.duplicate_line_character_share,
        dup_para_char_frac=limits.duplicate_paragraph_character_share,
        top_n_grams=tuple(limits.top_ngram_character_share.items()),
        dup_n_grams=tuple(limits.duplicate_ngram_character_share.items()),
    )
    return run_datatrove(
        folder, ParquetReader(str(job.raw.parent)), rules, ParquetWriter(str(folder / "filtered"))
    )


def trove_deduplicate(job: Job, folder: Path) -> Result:
    from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig, ExactDedupSignature, ExactFindDedups
    from datatrove.pipeline.readers import ParquetReader

    config = ExactDedupConfig(content_getter=content)
    signatures, duplicates = str(folder / "signatures"), str(folder / "duplicates")
    signed = run_datatrove(
        folder, ParquetReader(str(folder / "filtered")), ExactDedupSignature(signatures, config)
    )
    lookup = run_datatrove(folder, ExactFindDedups(signatures, duplicates, config))
    return {"seconds": signed["seconds"] + lookup["seconds"]}


def trove_tokenize(job: Job, folder: Path) -> Result:
    from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig, ExactDedupFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from tokenizers import Tokenizer

    definition = str(job.model / "tokenizer.json")
    tokenizer = Tokenizer.from_file(definition)
    eos = tokenizer.id_to_token(read_json(job.model / "config.json")["eos_token_id"])
    result = run_datatrove(
        folder,
        ParquetReader(str(folder / "filtered")),
        ExactDedupFilter(str(folder / "duplicates"), ExactDedupConfig(content_getter=content)),
        DocumentTokenizer(str(folder / "tokens"), definition, eos_token=eos),
    )
    size = sum(path.stat().st_size for path in (folder / "tokens").glob("*.ds"))
    return {**result, "tokens": size // (2 if tokenizer.get_vocab_size() < 2**16 else 4)}


def run_datatrove(folder: Path, *steps: Any) -> Result:
    """Run a datatrove pipeline as one task in this process."""
    from datatrove.executor import LocalPipelineExecutor

    logs = str(folder / "logs")
    executor = LocalPipelineExecutor(list(steps), tasks=1, logging_dir=logs, skip_completed=False)
    with redirect_stderr(StringIO()):  # pages of statistics
        return {"seconds": cpu_seconds(executor.run)}


# ---------------------------------------------------------------------------------------- bare tokenizers
def limit_hf(job: Job, folder: Path) -> Result:
    """Time Hugging Face tokenizers alone, on texts in memory; the ids are thrown away."""
    from cpt.corpus.tokens import ModelTokenizer

    tokenizer = ModelTokenizer(job.model).tokenizer

    def tokens_in(batch: list[str]) -> int:
        encoded = tokenizer.encode_batch(batch, add_special_tokens=False)
        return sum(len(encoding) + 1 for encoding in encoded)

    return bare(job, tokens_in)


def limit_gigatoken(job: Job, folder: Path) -> Result:
    """Time gigatoken alone, without what makes its ids exact (see cpt.corpus.fast_tokens)."""
    from cpt.corpus.fast_tokens import FastEncoder

    encoder = FastEncoder(read_json(job.model / "tokenizer.json"))

    def tokens_in(batch: list[str]) -> int:
        ids = encoder.backend.encode_batch(batch, parallel=False)
        return len(encoder.awkward.flatten(ids)) + len(batch)

    return bare(job, tokens_in)


def bare(job: Job, tokens_in: Callable[[list[str]], int]) -> Result:
    from cpt.corpus.documents import read_rows

    texts = [text.decode() for (text,) in read_rows(job.raw, ["text"])]
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    counts: list[int] = []
    seconds = cpu_seconds(lambda: counts.extend(map(tokens_in, batches)))
    return {"seconds": seconds, "tokens": sum(counts), "bytes": sum(len(text.encode()) for text in texts)}


OURS = {
    "filter": ours_filter,
    "deduplicate": ours_deduplicate,
    "decontaminate": ours_decontaminate,
    "tokenize": partial(ours_tokenize, encoder="fastest"),
    "pack": ours_pack,
}
STAGES = {
    "ours-gigatoken": OURS,
    "ours-hf": {**OURS, "tokenize": partial(ours_tokenize, encoder="tokenizers")},
    "datasets-map": {"tokenize_and_group": datasets_map},
    "datatrove": {"filter": trove_filter, "deduplicate": trove_deduplicate, "tokenize": trove_tokenize},
    "limit-hf": {"tokenize": limit_hf},
    "limit-gigatoken": {"tokenize": limit_gigatoken},
}
