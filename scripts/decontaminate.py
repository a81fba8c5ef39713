"""Report, and if configured drop, documents that share n-grams with the evaluation items."""

import argparse
from pathlib import Path

import numpy as np

from cpt.arrays import save_array
from cpt.command import command_parser, json_value, run
from cpt.corpus.contamination import Items
from cpt.corpus.documents import as_strings, load_keep, read_batches, utf8_of
from cpt.files import atomic, write_json
from cpt.progress import Progress
from cpt.provenance import provenance


def main(arguments: argparse.Namespace) -> None:
    settings = arguments.settings
    keep = load_keep(arguments.keep, arguments.input)
    items = Items(arguments.benchmarks / "items.parquet", settings["ngram"])
    contaminated = np.zeros(len(keep), bool)
    contaminated_bytes = 0
    hits = []
    touched: dict[str, set[int]] = {task: set() for task, _ in items.names}
    position = 0
    with Progress(f"decontaminating {arguments.input}", len(keep), "documents") as progress:
        for batch in read_batches(arguments.input, ["row", "id", "text"]):
            names = as_strings(batch["id"])
            for number, text in enumerate(utf8_of(as_strings(batch.pop("text")))):
                found = items.hits(text) if keep[position] else []
                for hit in found:
                    task, item = items.names[hit.item]
                    touched[task].add(item)
                    row, name = batch["row"][number].as_py(), names[number].as_py()
                    hits.append({"row": row, "id": name, "task": task, "item": item, "ngram": hit.ngram})
                contaminated[position] = bool(found)
                contaminated_bytes += len(text) if found else 0
                position += 1
            progress.advance(len(names))
    kept = keep & ~contaminated if settings["drop"] else keep
    with atomic(arguments.output) as temporary, open(temporary, "wb") as file:
        save_array(file, kept)
    report = {
        "documents": int(keep.sum()),
        "contaminated": int(contaminated.sum()),
        "contaminated_bytes": contaminated_bytes,
        "dropped": int(keep.sum() - kept.sum()),
        "hits": hits,
        "items_touched": {task: len(numbers) for task, numbers in touched.items()},
        "settings": settings,
        "provenance": provenance(settings, arguments.code),
    }
    write_json(arguments.report, report)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="filtered documents (.parquet)")
    parser.add_argument("--keep", type=Path, required=True, help="which of them are no duplicates (.npy)")
    parser.add_argument("--benchmarks", type=Path, required=True, help="the folder with items.parquet")
    parser.add_argument("--settings", type=json_value, required=True, help="the config's `decontaminate`")
    parser.add_argument("--output", type=Path, required=True, help="which documents go on (.npy)")
    parser.add_argument("--report", type=Path, required=True, help="what was found (.json)")
    run(main, parser)
