"""One stage of one system of corpus.py, in this process.

`python systems.py SYSTEM STAGE JOB FOLDER` prints a line of JSON: seconds (CPU, without imports),
memory_mb (peak) and, where the stage knows it, tokens (that come out of it). JOB is the file that corpus.py
writes; a system's stages share FOLDER. Other systems' packages are imported where they are used, so that
they don't weigh on a stage that does without them.
"""

import json
import os
import resource
import runpy
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from itertools import chain
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
OUR_STAGES = ("filter", "deduplicate", "decontaminate", "tokenize", "pack")
# What no other system does is measured, but isn't counted in a system's sum; its result isn't used.
ASIDE = ("decontaminate",)
SYSTEMS = {
    "ours-gigatoken": OUR_STAGES,
    "ours-hf": OUR_STAGES,
    "datasets-map": ("tokenize_and_group",),
    "datatrove": ("filter", "deduplicate", "tokenize"),
    "limit-hf": ("tokenize",),
    "limit-gigatoken": ("tokenize",),
}
BATCH = 1_000  # documents
CORPUS = "bench"


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


def run_script(name: str, /, **options: Any) -> float:
    """CPU seconds of one of the workflow's scripts, called as its rule calls it."""
    path = str(SCRIPTS / f"{name}.py")
    runpy.run_path(path)  # imports what the script needs; its main doesn't run
    sys.argv = [path]
    for key, value in options.items():
        sys.argv += [
            f"--{key.replace('_', '-')}",
            json.dumps(value) if isinstance(value, dict) else str(value),
        ]
    return cpu_seconds(lambda: runpy.run_path(path, run_name="__main__"))


# ------------------------------------------------------------------------------------------- this project
def ours_filter(job: dict, folder: Path, _: str) -> dict[str, Any]:
    seconds = 0.0
    for shard in shards(job):
        out = folder / CORPUS / "filtered" / shard
        seconds += run_script(
            "filter_documents",
            input=Path(job["raw"]) / f"{shard}.parquet",
            text_column="text",
            settings={
                key: value for key, value in job["config"]["filters"].items() if key != "token_quality"
            },
            normalize=job["config"]["deduplicate"]["normalize"],
            output=f"{out}.parquet",
            drops=f"{out}.drops.csv",
            examples=f"{out}.examples.jsonl",
        )
    return {"seconds": seconds}


def ours_deduplicate(job: dict, folder: Path, _: str) -> dict[str, Any]:
    seconds = run_script(
        "deduplicate",
        corpora={CORPUS: job["shards"]},
        root=folder,
        settings=job["config"]["deduplicate"],
        table=folder / "duplicates.csv",
    )
    return {"seconds": seconds}


def ours_decontaminate(job: dict, folder: Path, _: str) -> dict[str, Any]:
    seconds = 0.0
    for shard in shards(job):
        out = folder / CORPUS / "decontaminated" / shard
        seconds += run_script(
            "decontaminate",
            input=folder / CORPUS / "filtered" / f"{shard}.parquet",
            keep=folder / CORPUS / "deduplicated" / f"{shard}.keep.npy",
            benchmarks=job["benchmarks"],
            settings=job["config"]["decontaminate"],
            output=f"{out}.keep.npy",
            report=f"{out}.json",
        )
    return {"seconds": seconds}


def ours_tokenize(job: dict, folder: Path, system: str) -> dict[str, Any]:
    import awkward  # noqa: F401
    import gigatoken  # noqa: F401

    seconds = tokens = 0
    for shard in shards(job):
        out = folder / CORPUS / "tokens" / shard
        seconds += run_script(
            "tokenize_documents",
            input=folder / CORPUS / "filtered" / f"{shard}.parquet",
            keep=folder / CORPUS / "deduplicated" / f"{shard}.keep.npy",
            model=job["model"],
            encoder="fastest" if system == "ours-gigatoken" else "tokenizers",
            settings={
                "token_quality": job["config"]["filters"]["token_quality"],
                "held_out": job["config"]["held_out"],
            },
            tokens=f"{out}.tokens",
            ends=f"{out}.ends.npy",
            held_out=f"{out}.held_out.parquet",
            manifest=f"{out}.json",
            drops=f"{out}.drops.csv",
            examples=f"{out}.examples.jsonl",
            quality=f"{out}.quality.csv",
        )
        manifest = json.loads(Path(f"{out}.json").read_text())
        tokens += manifest["tokens"]
        encoder = manifest["provenance"]["encoder"]
        if system == "ours-gigatoken" and not encoder.startswith("gigatoken"):
            raise SystemExit(f"gigatoken isn't used for {job['model']}: leave out ours-gigatoken")
    return {"seconds": seconds, "tokens": tokens}


def ours_pack(job: dict, folder: Path, _: str) -> dict[str, Any]:
    seconds = run_script(
        "pack",
        mixture={CORPUS: 1.0},
        name=CORPUS,
        shards={CORPUS: job["shards"]},
        root=folder,
        settings=job["config"]["packing"],
        output=folder / "packed",
    )
    return {
        "seconds": seconds,
        "tokens": json.loads((folder / "packed" / "ledger.json").read_text())["tokens"],
    }


# ------------------------------------------------------------------------------------------ datasets.map
def datasets_map(job: dict, folder: Path, _: str) -> dict[str, Any]:
    """Tokenize in one map, concatenate and cut in another, as transformers' run_clm example does."""
    os.environ["HF_HOME"] = str(folder / "home")
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    length = job["config"]["packing"]["sequence_length"]
    found = {}

    def grouped(batch: dict[str, list]) -> dict[str, list]:
        joined = {key: list(chain(*values)) for key, values in batch.items()}
        whole = len(joined["input_ids"]) // length * length
        cut = {key: [ids[i : i + length] for i in range(0, whole, length)] for key, ids in joined.items()}
        return {**cut, "labels": [list(ids) for ids in cut["input_ids"]]}

    def work() -> None:
        tokenizer = AutoTokenizer.from_pretrained(job["model"])
        files = [str(Path(job["raw"]) / f"{shard}.parquet") for shard in shards(job)]
        data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder))
        data = data.map(
            lambda batch: tokenizer(batch["text"]), batched=True, remove_columns=data.column_names
        )
        found["tokens"] = data.map(grouped, batched=True).num_rows * length

    return {"seconds": cpu_seconds(work), **found}


# --------------------------------------------------------------------------------------------- datatrove
def content(document: Any) -> bytes:
    """What datatrove hashes; xxhash 4 takes no str."""
    return document.text.encode()


def trove_filter(job: dict, folder: Path, _: str) -> dict[str, Any]:
    from datatrove.pipeline.filters import GopherRepetitionFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    limits = job["config"]["filters"]["repetition"]
    rules = GopherRepetitionFilter(
        dup_line_frac=limits["duplicate_line_share"],
        dup_para_frac=limits["duplicate_paragraph_share"],
        dup_line_char_frac=limits["duplicate_line_character_share"],
        dup_para_char_frac=limits["duplicate_paragraph_character_share"],
        top_n_grams=tuple((int(n), share) for n, share in limits["top_ngram_character_share"].items()),
        dup_n_grams=tuple((int(n), share) for n, share in limits["duplicate_ngram_character_share"].items()),
    )
    return trove(folder, [ParquetReader(job["raw"]), rules, ParquetWriter(str(folder / "filtered"))])


def trove_deduplicate(job: dict, folder: Path, _: str) -> dict[str, Any]:
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


def trove_tokenize(job: dict, folder: Path, _: str) -> dict[str, Any]:
    from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig, ExactDedupFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    model = Path(job["model"])
    config = ExactDedupConfig(content_getter=content)
    eos = json.loads((model / "config.json").read_text())["eos_token_id"]
    vocabulary = json.loads((model / "tokenizer.json").read_text())
    names = {number: token for token, number in vocabulary["model"]["vocab"].items()}
    names |= {token["id"]: token["content"] for token in vocabulary["added_tokens"]}
    steps = [
        ParquetReader(str(folder / "filtered")),
        ExactDedupFilter(str(folder / "duplicates"), config),
        DocumentTokenizer(str(folder / "tokens"), str(model / "tokenizer.json"), eos_token=names[eos]),
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
def limit_hf(job: dict, folder: Path, _: str) -> dict[str, Any]:
    """Hugging Face tokenizers alone: texts in memory, ids thrown away."""
    from cpt.corpus.tokens import ModelTokenizer

    tokenizer = ModelTokenizer(Path(job["model"])).tokenizer
    counted = [0]

    def work(batches: list[list[str]]) -> None:
        for batch in batches:
            encoded = tokenizer.encode_batch(batch, add_special_tokens=False)
            counted[0] += sum(len(encoding) + 1 for encoding in encoded)

    return bare(job, work, counted)


def limit_gigatoken(job: dict, folder: Path, _: str) -> dict[str, Any]:
    """gigatoken alone, without what makes its ids exact (see cpt.corpus.fast_tokens)."""
    from cpt.corpus.fast_tokens import FastEncoder

    encoder = FastEncoder(json.loads((Path(job["model"]) / "tokenizer.json").read_text(encoding="utf-8")))
    counted = [0]

    def work(batches: list[list[str]]) -> None:
        for batch in batches:
            ids = encoder.backend.encode_batch(batch, parallel=False)
            counted[0] += len(encoder.awkward.flatten(ids)) + len(batch)

    return bare(job, work, counted)


def bare(job: dict, work: Callable[[list[list[str]]], None], counted: list[int]) -> dict[str, Any]:
    texts = [text for shard in shards(job) for text in texts_of(Path(job["raw"]) / f"{shard}.parquet")]
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    seconds = cpu_seconds(lambda: work(batches))
    return {"seconds": seconds, "tokens": counted[0], "bytes": sum(len(text.encode()) for text in texts)}


def texts_of(path: Path) -> Iterable[str]:
    from cpt.corpus.documents import read_rows

    return (text.decode() for (text,) in read_rows(path, ["text"]))


def shards(job: dict) -> list[str]:
    return [f"{number:05d}" for number in range(job["shards"])]


STAGES = {
    **{(system, "filter"): ours_filter for system in ("ours-gigatoken", "ours-hf")},
    **{(system, "deduplicate"): ours_deduplicate for system in ("ours-gigatoken", "ours-hf")},
    **{(system, "decontaminate"): ours_decontaminate for system in ("ours-gigatoken", "ours-hf")},
    **{(system, "tokenize"): ours_tokenize for system in ("ours-gigatoken", "ours-hf")},
    **{(system, "pack"): ours_pack for system in ("ours-gigatoken", "ours-hf")},
    ("datasets-map", "tokenize_and_group"): datasets_map,
    ("datatrove", "filter"): trove_filter,
    ("datatrove", "deduplicate"): trove_deduplicate,
    ("datatrove", "tokenize"): trove_tokenize,
    ("limit-hf", "tokenize"): limit_hf,
    ("limit-gigatoken", "tokenize"): limit_gigatoken,
}

if __name__ == "__main__":
    system, stage, job_file, shared = sys.argv[1:]
    with redirect_stdout(sys.stderr):
        result = STAGES[system, stage](json.loads(Path(job_file).read_text()), Path(shared), system)
    print(json.dumps({**result, "memory_mb": peak_megabytes()}))
