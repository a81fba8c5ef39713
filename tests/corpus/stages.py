"""The stages of a small corpus, each called as its rule calls it, and what they must leave behind."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CORPORA = {"one": 1, "two": 1}
DOCUMENTS = 200  # per shard


class Stage(NamedTuple):
    """A script, its arguments, and the outputs it promises."""

    script: str
    arguments: dict[str, Any]
    outputs: list[Path]

    def command(self, log: Path) -> list[str]:
        """The script and its arguments."""
        words = [str(SCRIPTS / f"{self.script}.py"), "--log-file", str(log)]
        for key, value in self.arguments.items():
            words.append(f"--{key.replace('_', '-')}")
            if isinstance(value, list):
                words += map(str, value)
            else:
                words.append(json.dumps(value) if isinstance(value, dict) else str(value))
        return words


def prose(seed: int) -> str:
    """Three to eight lines of words, unlike those of any other seed."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9))) for _ in range(150)]
    return "\n".join(" ".join(chance.choices(words, k=20)) for _ in range(chance.randint(3, 8)))


def documents(corpus: int) -> list[str | None]:
    """A corpus's texts: most are prose, some are dropped by the rules, some stand in both corpora."""
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
    """All jobs by the name of their stage, in an order in which they can run."""
    root, sources = base / "corpora", base / "sources"
    found: dict[str, list[Stage]] = {}

    def add(script: str, arguments: dict[str, Any], **outputs: Path) -> None:
        found.setdefault(script, []).append(Stage(script, {**arguments, **outputs}, list(outputs.values())))

    shards = [(corpus, f"{n:05d}") for corpus, count in corpora.items() for n in range(count)]
    for corpus, shard in shards:
        raw, stem = root / corpus / "raw" / shard, root / corpus / "filtered" / shard
        source = {"source": "local", "files": str(sources / f"{corpus}-*"), "shards": corpora[corpus]}
        source["text_column"] = "text"
        arguments = {"corpus": corpus, "source": source, "shard": int(shard), "shards": corpora[corpus]}
        add("download", arguments, output=raw.with_suffix(".parquet"), manifest=raw.with_suffix(".json"))
        arguments = {"input": raw.with_suffix(".parquet"), "text_column": "text"}
        arguments["settings"] = {key: filters[key] for key in ("length", "repetition")}
        arguments["normalize"] = "whitespace"
        names = {"output": ".parquet", "drops": ".drops.csv", "examples": ".examples.jsonl"}
        add("filter_documents", arguments, **{key: Path(f"{stem}{end}") for key, end in names.items()})
        common = {"input": stem.with_suffix(".parquet")}
        keep = root / corpus / "decontaminated" / f"{shard}.keep.npy"
        add(
            "decontaminate",
            {
                **common,
                "keep": root / corpus / "deduplicated" / f"{shard}.keep.npy",
                "benchmarks": sources / "benchmarks",
                "settings": {"ngram": 13, "drop": True},
            },
            output=keep,
            report=root / corpus / "decontaminated" / f"{shard}.json",
        )
        held_out = {"share": 0.3, "group_by": "text"}
        settings = {"token_quality": filters["token_quality"], "held_out": held_out}
        names = {"tokens": ".tokens", "ends": ".ends.npy", "held_out": ".held_out.parquet"}
        names |= {"manifest": ".json", "drops": ".drops.csv", "examples": ".examples.jsonl"}
        names |= {"quality": ".quality.csv"}
        add(
            "tokenize_documents",
            {**common, "keep": keep, "model": base / "model", "settings": settings},
            **{key: Path(f"{root / corpus / 'tokens' / shard}{end}") for key, end in names.items()},
        )
    settings = {"hash": "xxh3_128", "normalize": "whitespace", "partitions": 4}
    keeps = [root / corpus / "deduplicated" / f"{shard}.keep.npy" for corpus, shard in shards]
    table = root / "duplicates.csv"
    arguments = {"corpora": corpora, "root": root, "settings": settings, "table": table}
    found["deduplicate"] = [Stage("deduplicate", arguments, [*keeps, table])]
    for corpus, count in corpora.items():
        inputs = [root / corpus / "tokens" / f"{n:05d}.held_out.parquet" for n in range(count)]
        add(
            "held_out",
            {"corpus": corpus, "inputs": inputs},
            output=root / corpus / "held_out" / "all.parquet",
        )
    settings = {"sequence_length": 64, "strategy": "concatenate", "maximum_epochs": 1, "seed": 0}
    arguments = {
        "mixture": dict.fromkeys(corpora, 1 / len(corpora)),
        "name": "mixture",
        "shards": corpora,
        "root": root,
    }
    add("pack", {**arguments, "settings": settings}, output=base / "packed" / "mixture")
    arguments = {"corpora": corpora, "root": root, "duplicates": [table]}
    arguments["ledgers"] = [base / "packed" / "mixture" / "ledger.json"]
    add(
        "corpus_statistics",
        arguments,
        output=base / "tables" / "statistics.csv",
        quality=base / "tables" / "token_quality.csv",
    )
    order = ["download", "filter_documents", "deduplicate", "decontaminate", "tokenize_documents"]
    return {name: found[name] for name in [*order, "held_out", "pack", "corpus_statistics"]}


# One process for all of them, as importing the libraries takes longer than the work.
ONE_BY_ONE = """
import json, runpy, sys
for sys.argv in json.load(sys.stdin):
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


def run_all(stages: dict[str, list[Stage]], log: Path) -> None:
    """Run all jobs to their ends, undisturbed."""
    commands = json.dumps([stage.command(log) for jobs in stages.values() for stage in jobs])
    command = [sys.executable, "-c", ONE_BY_ONE]
    done = subprocess.run(command, input=commands, cwd=SCRIPTS, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def content(path: Path) -> dict[str, Any]:
    """What must be the same in every run: all bytes, but of a JSON file all but its provenance."""
    if path.is_dir():
        return {str(inside.relative_to(path)): content(inside) for inside in sorted(path.rglob("*"))}
    if path.suffix == ".json":
        told = json.loads(path.read_text())
        assert told.pop("provenance", {"code_digest"})
        return told
    return {"bytes": path.read_bytes()}


class Forked:
    """A stage in tests/corpus/forked_script.py, after one run to the end."""

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
        """Start the script once more, under `order`; returns `status`, `seconds` and `shown`."""
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.answer()
