import hashlib
import tempfile
from pathlib import Path

# Before the evaluate wing, which turns the hub's client off: this script may need the network.
import datasets  # noqa: F401

from cpt.command import run
from cpt.evaluate.task_checks import Definition
from cpt.evaluate.task_data import offline, quiet, save, saved_in, write_items
from cpt.evaluate.task_definitions import build, naming, with_data
from cpt.evaluate.task_items import check_items, item_text
from cpt.evaluate.tasks import shots_of
from cpt.files import atomic, write_json
from cpt.provenance import provenance


def fetch_task(
    lm_eval_task: str,
    folder: Path,
    manifest: Path,
    folders: list[str],
    shots: dict[str, int | None],
    commits: dict[str, str],
    benchmarks: Path | None = None,
    include_path: Path | None = None,
    task_code: bool = False,
) -> None:
    """Fetch the data of a task, and try all of its items, so that it can be scored offline.

    Args:
        lm_eval_task: lm-eval's name of a task or group.
        folder: folder to write: the splits that the task reads, and items.parquet with its items' text.
        manifest: number of items, and SHA-256 of the data's content (JSON), to write.
        folders: folders of lm-eval's tasks that define this one.
        shots: examples that each column asks for; null: as many as the definition says.
        commits: commits by repository on the hub.
        benchmarks: folder that fetch_benchmarks wrote, if it has the task's data.
        include_path: folder of lm-eval's YAML files for own tasks.
        task_code: whether own tasks may run code.
    """
    quiet()
    with naming(next(iter(shots))):
        defined = build([lm_eval_task], folders, Definition, include_path, task_code)["tasks"]
        with tempfile.TemporaryDirectory(prefix="task-") as cache, atomic(folder) as unfinished:
            data = save(defined.values(), commits, unfinished, Path(cache), benchmarks)
            offline()  # the rest runs as scoring will
            kind = with_data(saved_in(unfinished))
            leaves = build([lm_eval_task], folders, kind, include_path, task_code)["tasks"]
            for leaf in leaves.values():
                for column, count in shots.items():
                    shots_of(leaf, column, count)
                check_items(leaf)
            texts = {name: [item_text(leaf, doc) for doc in leaf.task_docs] for name, leaf in leaves.items()}
            write_items(unfinished / "items.parquet", texts)
    content = hashlib.sha256()
    for key, entry in data.items():
        for split, rows in entry["splits"].items():
            content.update(f"{key} {split} {rows['content_sha256']}\n".encode())
    write_json(
        manifest,
        {
            "folders": folders,
            "items": {name: len(rows) for name, rows in texts.items()},
            "content_sha256": content.hexdigest(),
            "data": data,
            "provenance": provenance({"task": lm_eval_task, "commits": commits}),
        },
    )


if __name__ == "__main__":
    run(fetch_task)
