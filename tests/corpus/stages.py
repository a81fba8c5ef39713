"""The stages of a small corpus, each called as its rule calls it, and the outputs they must write."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cpt.config_sections import Decontaminate, Filters, HeldOut, LocalCorpus, NearDuplicates, Packing
from cpt.stage import arguments

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CORPORA = {"one": 1, "two": 1}
DOCUMENTS = 200  # per shard
TOKENIZED = {"tokens": ".tokens", "ends": ".ends.npy", "held_out": ".held_out.parquet", "manifest": ".json"}
TOKENIZED |= {"drops": ".drops.csv", "examples": ".examples.jsonl", "quality": ".quality.csv"}


class Stage(NamedTuple):
    """A stage, its settings and files, and the outputs that it must write."""

    script: str
    values: dict[str, Any]
    outputs: list[Path]

    def __call__(self) -> None:
        """Run the stage in this process."""
        getattr(import_module(self.script), self.script)(**self.values)

    def command(self, log: Path) -> list[str]:
        """The script and its arguments."""
        return [str(SCRIPTS / f"{self.script}.py"), *arguments(**self.values), f"--log={log}"]


def files(stem: Path | str, endings: dict[str, str]) -> dict[str, Path]:
    """Files by parameter: a stem with each ending."""
    return {name: Path(f"{stem}{ending}") for name, ending in endings.items()}


def prose(seed: int) -> str:
    """Three to eight lines of words, unlike those of any other seed."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9))) for _ in range(150)]
    return "\n".join(" ".join(chance.choices(words, k=20)) for _ in range(chance.randint(3, 8)))


def documents(corpus: int) -> list[str | None]:
    """A corpus's texts: most are prose, the rules drop some, and some are in both corpora."""
    odd = [None, "", "short\nlines\nonly", "x\ny", "NUL \0 and CRLF\r\n", "\ufffd\n" * 9]
    return [
        odd[n % 6] if n % 25 == 7 else prose(n if n % 25 == 3 else 100_000 + 1_000 * corpus + n)
        for n in range(DOCUMENTS)
    ]


def write_sources(folder: Path) -> None:
    """Own files, as JSON lines and as parquet, and the evaluation items."""
    folder.mkdir()
    lines = [json.dumps({"text": text, "id": f"number {row}"}) for row, text in enumerate(documents(0))]
    (folder / "one-0.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"text": documents(1)}), folder / "two-0.parquet", row_group_size=100)
    items = {"task": ["piqa", "arc"], "item": [0, 1], "text": [prose(100_010), prose(101_011)]}
    (folder / "benchmarks").mkdir()
    pq.write_table(pa.table(items), folder / "benchmarks" / "items.parquet")


def stages_of(base: Path, filters: dict, corpora: dict[str, int] = CORPORA) -> dict[str, list[Stage]]:
    """All jobs by the name of their stage, in an order that they can run in."""
    root, sources, rules = base / "corpora", base / "sources", Filters.model_validate(filters)
    jobs: dict[str, list[Stage]] = {}
    shards = [(corpus, f"{n:05d}") for corpus, count in corpora.items() for n in range(count)]

    def add(script: str, inputs: dict[str, Any], **outputs: Path | list[Path]) -> None:
        lists = [each if isinstance(each, list) else [each] for each in outputs.values()]
        promised = [path for each in lists for path in each]
        jobs.setdefault(script, []).append(Stage(script, {**inputs, **outputs}, promised))

    def paths(folder: str, ending: str, chosen: Sequence[tuple[str, str]] = shards) -> list[Path]:
        return [root / corpus / folder / f"{shard}{ending}" for corpus, shard in chosen]

    for corpus, shard in shards:
        ((raw,), (documents,)) = (paths(name, ".parquet", [(corpus, shard)]) for name in ("raw", "filtered"))
        own = sorted(sources.glob(f"{corpus}-*"))
        source = LocalCorpus(source="local", files=str(sources / f"{corpus}-*"), shards=corpora[corpus])
        part = {"corpus": corpus, "source": source, "shard": int(shard), "shards": corpora[corpus]}
        add("download", {**part, "files": own}, documents=raw, manifest=raw.with_suffix(".json"))
        settings = {"text_column": "text", "where": {}, "normalize": "whitespace"}
        settings["filters"] = rules.document_filters
        names = {"documents": ".parquet", "drops": ".drops.csv", "examples": ".examples.jsonl"}
        add("filter_documents", {"raw": raw, **settings}, **files(documents.with_suffix(""), names))
    documents = paths("filtered", ".parquet")
    exact, unique = ([root / corpus / what / "keep" for corpus in corpora] for what in ("exact", "near"))
    everything = {"corpora": corpora, "documents": documents}
    duplicates = [root / "duplicates.csv", root / "near_duplicates.csv"]
    add("deduplicate", {**everything, "partitions": 4}, keep=exact, table=duplicates[0])
    signatures = paths("minhash", ".npy")
    near = NearDuplicates(ngram=5, bands=14, rows=8, seed=0)
    for path, output in zip(documents, signatures, strict=True):
        add("minhash", {"documents": path, "near": near}, signatures=output)
    lists = {"unique": exact, "signatures": signatures}
    add("near_duplicates", {**everything, **lists}, keep=unique, table=duplicates[1])
    keeps, reports = paths("decontaminated", ".keep.npy"), paths("decontaminated", ".json")
    settings = {"benchmarks": sources / "benchmarks", "settings": Decontaminate(ngram=13, drop=True)}
    for (corpus, shard), path, keep, report in zip(shards, documents, keeps, reports, strict=True):
        part = {"shard": shard, "documents": path, "unique": root / corpus / "near" / "keep"}
        add("decontaminate", {**part, **settings}, keep=keep, report=report)
    split = HeldOut(share=0.3, group_by="text")
    overlap = {"report": base / "overlap" / "all.json", "table": base / "overlap" / "all.csv"}
    settings = {"splits": dict.fromkeys(corpora, split), "measured": list(corpora), "trained": list(corpora)}
    add("held_out_overlap", {**everything, "keep": keeps, **settings}, **overlap)
    settings = {"thresholds": rules.token_quality, "split": split}
    for path, keep, stem in zip(documents, keeps, paths("tokens", ""), strict=True):
        inputs = {"documents": path, "keep": keep, "model": base / "model", **settings}
        add("tokenize_documents", inputs, **files(stem, TOKENIZED))
    for corpus in corpora:
        out = paths("tokens", ".held_out.parquet", [shard for shard in shards if shard[0] == corpus])
        inputs = {"corpus": corpus, "shards": out}
        add("held_out", inputs, documents=root / corpus / "held_out" / "all.parquet")
    settings = {"mixture": "mixture", "shares": dict.fromkeys(corpora, 1 / len(corpora)), "shards": corpora}
    packing = Packing(sequence_length=64, strategy="concatenate", maximum_epochs=1, seed=0)
    lists = {key: paths("tokens", TOKENIZED[key]) for key in ("tokens", "ends")}
    lists["manifests"] = paths("tokens", TOKENIZED["manifest"])
    packed = base / "packed" / "mixture"
    contents = packed.with_suffix(".json")
    add("pack", {**settings, **lists, "packing": packing}, packed=packed, contents=contents)
    lists = {"drops": paths("filtered", ".drops.csv"), "contamination": reports}
    lists["token_drops"] = paths("tokens", ".drops.csv")
    examples = {"examples": paths("filtered", ".examples.jsonl")}
    examples["token_examples"] = paths("tokens", ".examples.jsonl")
    report = {"page": base / "tables" / "drops.md", "warnings": base / "tables" / "warnings.txt"}
    overlap_inputs = {"overlap": overlap["report"], "overlap_table": overlap["table"], "warn_share": 0.3}
    add("drop_report", {"corpora": corpora, **lists, **examples, **overlap_inputs}, **report)
    lists |= {
        "qualities": paths("tokens", ".quality.csv"),
        "duplicates": duplicates,
        "packed": [packed],
    }
    tables = {"table": base / "tables" / "statistics.csv", "quality": base / "tables" / "token_quality.csv"}
    add("corpus_statistics", {"corpora": corpora, **lists}, **tables)
    return jobs


def run_all(stages: dict[str, list[Stage]]) -> None:
    """Run all jobs to the end, without faults."""
    for jobs in stages.values():
        for job in jobs:
            job()


def content(path: Path) -> dict[str, Any]:
    """What must be the same in every run: all bytes, or all of a JSON file except its provenance."""
    if path.is_dir():
        return {str(inside.relative_to(path)): content(inside) for inside in sorted(path.rglob("*"))}
    if path.suffix == ".json":
        record = json.loads(path.read_text())
        assert record.pop("provenance", {"code_digest"})
        return record
    return {"bytes": path.read_bytes()}


class Forked:
    """A stage that tests/corpus/forked_script.py has run once to the end."""

    def __init__(self, stage: Stage, folder: Path):
        script = Path(__file__).with_name("forked_script.py")
        command = [sys.executable, script, *stage.command(folder / "log")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer()["status"] == 0, (folder / "log").read_text()

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.communicate()

    def answer(self) -> dict[str, Any]:
        return json.loads(self.process.stdout.readline())

    def run(self, **order: float) -> dict[str, Any]:
        """Start the script again, under `order`; returns `status`, `seconds` and `shown`."""
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.answer()
