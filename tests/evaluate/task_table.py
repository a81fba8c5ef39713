"""The page docs/evaluation-tasks.md: `PYTHONPATH=scripts .venv/bin/python tests/evaluate/task_table.py`."""

import datetime
import tempfile
from pathlib import Path

import any_task
import tiny_reader
import torch
from any_task import READERS, REFUSED, Column, Readers, Run
from task_hub import TaskHub

Compared = dict[str, tuple[dict[str, Run], dict[str, dict]]]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation-tasks.md"
INTRODUCTION = """# Tasks beside lm-eval's own model class

After this page you know which tasks of lm-eval were tried as a [column](evaluation.md), and which Snakemake
refuses. A test runs each as a user's task before a release, and one of each kind at every commit: the
stages read its definition, fetch its data from a stand-in hub at a pinned commit, and score a tiny model
offline. The data are made up, in the data set's schema: 8 to 12 rows for each split (of MMLU's subjects 5
and 2). lm-eval's `simple_evaluate` scores the same model with its class HFLM. "Equal" means:

- The hashes of all prompts, documents and targets are the same, and so are all generated texts.
- All log-likelihoods lie within 1e-4 nats. HFLM sums those of whole texts in float32; they lie within
  2^-22 of their value.
- All scores of single items agree as closely. The task's scores agree to 5 digits, and so do the standard
  errors of means, except those of groups.

<!-- Made by tests/evaluate/task_table.py; the test is tests/evaluate/test_evaluate_any_task.py. -->
"""
REFUSALS = """## Refused

The packages of the lock can't run these tasks, or the workflow doesn't. Snakemake says so when it starts,
before it fetches anything.

| task | message |
| --- | --- |
"""


def compare(hub: TaskHub, folder: Path, readers: Readers = READERS) -> Compared:
    """{kind of reader: (the workflow's results, lm-eval's results)}, in a folder of `prepare`."""
    torch.set_num_threads(1)
    results = {}
    for kind, (reader, columns) in readers.items():
        with hub.online():
            other = any_task.theirs(any_task.lm_evals_own(folder, reader), columns)
        hub.main = False  # only the pinned commits are there
        results[kind] = (any_task.ours(hub, folder, reader, columns), other)
        hub.main = True
    return results


def prepare(hub: TaskHub, folder: Path) -> None:
    """Write the tiny models of any_task.READERS and the hub's benchmarks into a folder."""
    model = tiny_reader.model()
    for reader, _ in READERS.values():
        tiny_reader.save(model, folder / "models" / reader.name, reader.bos, reader.context)
    any_task.make_benchmarks(hub, folder)


def refuse(hub: TaskHub, folder: Path) -> dict[str, Run]:
    """The runs of the tasks of REFUSED."""
    return any_task.ours(hub, folder, READERS["no BOS"][0], [Column(task) for task in REFUSED])


def tables(compared: Compared, refused: dict[str, Run], readers: Readers = READERS) -> str:
    """The page's tables. Nothing in them depends on the machine."""
    lines = []
    for kind, (reader, columns) in readers.items():
        context = f"a context of {reader.context:,} tokens"
        begins = ", which every text begins with" if reader.add_bos_token else ""
        bos = "with a BOS" + begins if reader.bos else "without BOS"
        lines += [f"## {kind}", "", f"A tokenizer {bos}; {context}.", ""]
        lines += ["| task | shots | output | scores | items | answers | outcome |"]
        lines += ["| --- | ---: | --- | --- | ---: | ---: | --- |"]
        lines += [_row(column, *(each[column.name] for each in compared[kind])) for column in columns]
        lines.append("")
    lines += [REFUSALS + "\n".join(f"| {task} | {run.error} |" for task, run in refused.items()), ""]
    return "\n".join(lines)


def _row(column: Column, run: Run, other: dict) -> str:
    if run.error:
        return f"| {column.task} | | | | | | {run.error} |"
    differences = any_task.differences(column, run, other)
    cut = run.result["cut"]["items"]
    outcome = (
        f"{len(differences)} differences" if differences else f"equal, {cut} items cut" if cut else "equal"
    )
    shots = "mixed" if run.result["shots"] is None else run.result["shots"]
    scores = ", ".join(run.result["aggregations"])
    counts = f"{run.result['n']:,} | {len(run.answers):,}"
    return f"| {column.task} | {shots} | {run.result['output_type']} | {scores} | {counts} | {outcome} |"


def write(compared: Compared, refused: dict[str, Run]) -> None:
    """Write the page."""
    both = [(ours[name], other[name]) for ours, other in compared.values() for name in ours]
    largest = max(any_task.largest_difference(*pair) or 0 for pair in both if not pair[0].error)
    names = {column.task for _, columns in READERS.values() for column in columns}
    summary = (
        f"{len(both)} columns of {len(names)} tasks. The largest difference of a log-likelihood is "
        f"{largest:.1e} nats ({datetime.date.today()}).\n"
    )
    PAGE.write_text(f"{INTRODUCTION}\n{summary}\n{tables(compared, refused)}")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary, TaskHub(Path(temporary) / "hub") as hub:
        folder = Path(temporary)
        prepare(hub, folder)
        write(compare(hub, folder), refuse(hub, folder))


if __name__ == "__main__":
    main()
