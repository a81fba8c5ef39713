"""The systems that corpus.py measures: what each of their stages does, in this process.

Other systems' packages, and our stages, are imported where they are used, so that they don't weigh on a stage
that does without them.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cpt.command import run
from cpt.config_sections import Decontaminate, Deduplicate, Filters, HeldOut, Packing
from cpt.files import read_json

# What no other system does is measured, but isn't counted in a system's sum; its result isn't used.
ASIDE = ("decontaminate",)
BATCH = 1_000  # documents


class Job(BaseModel):
    """What a system works on: the documents are one shard, the only file in `raw`."""

    raw: Path
    model: Path
    benchmarks: Path | None
    filters: Filters
    deduplicate: Deduplicate
    decontaminate: Decontaminate
    held_out: HeldOut
    packing: Packing

    @property
    def shard(self) -> Path:
        return self.raw / "00000.parquet"


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process and of its finished children for a piece of work."""

    def used() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    before = used()
    work()
    return used() - before


def peak_megabytes() -> float:
    """The most memory that this process has held at a time."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


# ------------------------------------------------------------------------------------------- this project
def seconds_of(name: str, **values: Any) -> float:
    """CPU seconds of one of the workflow's stages, without its imports."""
    stage = getattr(import_module(name), name)
    return cpu_seconds(lambda: stage(**values))


def ours_filter(job: Job, folder: Path, _: str) -> dict[str, Any]:
    seconds = seconds_of(
        "filter_documents",
        raw=job.shard,
        text_column="text",
        where={},
        filters=job.filters,
        normalize=job.deduplicate.normalize,
        **{name: folder / f"filtered.{name}" for name in ("documents", "drops", "examples")},
    )
    return {"seconds": seconds}


def ours_deduplicate(job: Job, folder: Path, _: str) -> dict[str, Any]:
    seconds = seconds_of(
        "deduplicate",
        corpora={"bench": 1},
        documents=[folder / "filtered.documents"],
        partitions=job.deduplicate.partitions,
        keep=[folder / "keep.npy"],
        table=folder / "duplicates.csv",
    )
    return {"seconds": seconds}


def ours_decontaminate(job: Job, folder: Path, _: str) -> dict[str, Any]:
    seconds = seconds_of(
        "decontaminate",
        documents=folder / "filtered.documents",
        unique=folder / "keep.npy",
        benchmarks=job.benchmarks,
        settings=job.decontaminate,
        keep=folder / "decontaminated.npy",
        report=folder / "decontaminated.json",
    )
    return {"seconds": seconds}


def ours_tokenize(job: Job, folder: Path, system: str) -> dict[str, Any]:
    import awkward  # noqa: F401
    import gigatoken  # noqa: F401

    names = ("tokens", "ends", "held_out", "manifest", "drops", "examples", "quality")
    seconds = seconds_of(
        "tokenize_documents",
        documents=folder / "filtered.documents",
        keep=folder / "keep.npy",
        model=job.model,
        thresholds=job.filters.token_quality,
        split=job.held_out,
        encoder="fastest" if system == "ours-gigatoken" else "tokenizers",
        **{name: folder / f"tokens.{name}" for name in names},
    )
    manifest = read_json(folder / "tokens.manifest")
    if system == "ours-gigatoken" and not manifest["provenance"]["encoder"].startswith("gigatoken"):
        raise SystemExit(f"gigatoken isn't used for {job.model}: leave out ours-gigatoken")
    return {"seconds": seconds, "tokens": manifest["tokens"]}


def ours_pack(job: Job, folder: Path, _: str) -> dict[str, Any]:
    seconds = seconds_of(
        "pack",
        mixture="bench",
        shares={"bench": 1.0},
        shards={"bench": 1},
        tokens=[folder / "tokens.tokens"],
        ends=[folder / "tokens.ends"],
        manifests=[folder / "tokens.manifest"],
        packing=job.packing,
        packed=folder / "packed",
    )
    return {"seconds": seconds, "tokens": read_json(folder / "packed" / "ledger.json")["tokens"]}


# ------------------------------------------------------------------------------------------ datasets.map
def datasets_map(job: Job, folder: Path, _: str) -> dict[str, Any]:
    """Tokenize in one map, concatenate and cut in another, as transformers' run_clm example does."""
    os.environ["HF_HOME"] = str(folder / "home")
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    length = job.packing.sequence_length
    found = {}

    def grouped(batch: dict[str, list]) -> dict[str, list]:
        joined = {key: list(chain(*values)) for key, values in batch.items()}
        whole = len(joined["input_ids"]) // length * length
        cut = {key: [ids[i : i + length] for i in range(0, whole, length)] for key, ids in joined.items()}
        return {**cut, "labels": [list(ids) for ids in cut["input_ids"]]}

    def work() -> None:
        tokenizer = AutoTokenizer.from_pretrained(job.model)
        data = datasets.load_dataset(
            "parquet", data_files=[str(job.shard)], split="train", cache_dir=str(folder)
        )
        data = data.map(
            lambda batch: tokenizer(batch["text"]), batched=True, remove_columns=data.column_names
        )
        found["tokens"] = data.map(grouped, batched=True).num_rows * length

    return {"seconds": cpu_seconds(work), **found}


# --------------------------------------------------------------------------------------------- datatrove
def content(document: Any) -> bytes:
    """What datatrove hashes; xxhash 4 takes no str."""
    return document.text.encode()


def trove_filter(job: Job, folder: Path, _: str) -> dict[str, Any]:
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
    return trove(folder, [ParquetReader(str(job.raw)), rules, ParquetWriter(str(folder / "filtered"))])


def trove_deduplicate(job: Job, folder: Path, _: str) -> dict[str, Any]:
    from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig, ExactDedupSignature, ExactFindDedups
    from datatrove.pipeline.readers import ParquetReader

    config = ExactDedupConfig(content_getter=content)
    signatures, duplicates = str(folder / "signatures"), str(folder / "duplicates")
    marked = trove(
        folder,
        [ParquetReader(str(folder / "filtered")), ExactDedupSignature(signatures, config)],
        "signatures",
    )
    found = trove(folder, [ExactFindDedups(signatures, duplicates, config)], "duplicates")
    return {"seconds": marked["seconds"] + found["seconds"]}


def trove_tokenize(job: Job, folder: Path, _: str) -> dict[str, Any]:
    from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig, ExactDedupFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    config = ExactDedupConfig(content_getter=content)
    eos = read_json(job.model / "config.json")["eos_token_id"]
    vocabulary = read_json(job.model / "tokenizer.json")
    names = {number: token for token, number in vocabulary["model"]["vocab"].items()}
    names |= {token["id"]: token["content"] for token in vocabulary["added_tokens"]}
    steps = [
        ParquetReader(str(folder / "filtered")),
        ExactDedupFilter(str(folder / "duplicates"), config),
        DocumentTokenizer(str(folder / "tokens"), str(job.model / "tokenizer.json"), eos_token=names[eos]),
    ]
    done = trove(folder, steps, "tokens")
    size = sum(path.stat().st_size for path in (folder / "tokens").glob("*.ds"))
    return {**done, "tokens": size // (2 if len(names) < 2**16 else 4)}


def trove(folder: Path, steps: list, name: str = "filter") -> dict[str, Any]:
    """Run a datatrove pipeline as one task in this process."""
    from datatrove.executor import LocalPipelineExecutor

    executor = LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(folder / f"logs.{name}"))
    return {"seconds": cpu_seconds(executor.run)}


# ---------------------------------------------------------------------------------------- bare tokenizers
def limit_hf(job: Job, folder: Path, _: str) -> dict[str, Any]:
    """Hugging Face tokenizers alone: texts in memory, ids thrown away."""
    from cpt.corpus.tokens import ModelTokenizer

    tokenizer = ModelTokenizer(job.model).tokenizer

    def tokens_in(batch: list[str]) -> int:
        encoded = tokenizer.encode_batch(batch, add_special_tokens=False)
        return sum(len(encoding) + 1 for encoding in encoded)

    return bare(job, tokens_in)


def limit_gigatoken(job: Job, folder: Path, _: str) -> dict[str, Any]:
    """gigatoken alone, without what makes its ids exact (see cpt.corpus.fast_tokens)."""
    from cpt.corpus.fast_tokens import FastEncoder

    encoder = FastEncoder(read_json(job.model / "tokenizer.json"))

    def tokens_in(batch: list[str]) -> int:
        ids = encoder.backend.encode_batch(batch, parallel=False)
        return len(encoder.awkward.flatten(ids)) + len(batch)

    return bare(job, tokens_in)


def bare(job: Job, tokens_in: Callable[[list[str]], int]) -> dict[str, Any]:
    from cpt.corpus.documents import read_rows

    texts = [text.decode() for (text,) in read_rows(job.shard, ["text"])]
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    counts: list[int] = []
    seconds = cpu_seconds(lambda: counts.extend(map(tokens_in, batches)))
    return {"seconds": seconds, "tokens": sum(counts), "bytes": sum(len(text.encode()) for text in texts)}


OURS = {
    "filter": ours_filter,
    "deduplicate": ours_deduplicate,
    "decontaminate": ours_decontaminate,
    "tokenize": ours_tokenize,
    "pack": ours_pack,
}
STAGES: dict[str, dict[str, Callable[[Job, Path, str], dict[str, Any]]]] = {
    "ours-gigatoken": OURS,
    "ours-hf": OURS,
    "datasets-map": {"tokenize_and_group": datasets_map},
    "datatrove": {"filter": trove_filter, "deduplicate": trove_deduplicate, "tokenize": trove_tokenize},
    "limit-hf": {"tokenize": limit_hf},
    "limit-gigatoken": {"tokenize": limit_gigatoken},
}


def systems(system: str, stage: str, job: Path, folder: Path) -> None:
    """Run one stage of one system and print a line of JSON.

    It holds seconds (CPU, without imports), memory_mb (peak) and, where the stage knows it, tokens (that come
    out of it).

    Args:
        system: one of those that corpus.py names.
        stage: of the system.
        job: what it works on (.json), as corpus.py writes it.
        folder: that the system's stages share.
    """
    with redirect_stdout(sys.stderr):
        described = Job.model_validate_json(job.read_text(encoding="utf-8"))
        result = STAGES[system][stage](described, folder, system)
    print(json.dumps({**result, "memory_mb": peak_megabytes()}))


if __name__ == "__main__":
    run(systems)
