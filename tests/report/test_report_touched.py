"""touched.csv: scores with and without the items that share words with the training text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_experiment import evaluation_files, write_json
from report_tasks import ITEMS, RUNS, TASKS, write_tasks

from cpt.report.comparisons import compare
from cpt.report.samples import pair, read_answers
from cpt.report.touched import is_touched, read_touched, touched_items
from touched import touched

HITS = [{"task": "choice", "item": item} for item in range(0, ITEMS, 3)]
HITS += [
    {"task": "reading_a", "item": 2},
    {"task": "reading_b", "item": 2},
    {"task": "reading_b", "item": 50},
]
HITS += [{"task": "wikitext", "item": item} for item in range(ITEMS)]


def report(hits: list[dict[str, Any]], drop: bool = False) -> dict[str, Any]:
    return {
        "hits": [{"row": 0, "id": "d", "ngram": "a b", **hit} for hit in hits],
        "settings": {"drop": drop},
    }


def tabulate(
    folder: Path, tasks: list[str], *reports: dict[str, Any]
) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of touched.csv by run and task."""
    write_tasks(folder, {task: TASKS[task] for task in tasks})
    files = [folder / f"{number:05d}.json" for number in range(len(reports))]
    for file, content in zip(files, reports, strict=True):
        write_json(file, content)
    evaluations = (evaluation_files(folder, RUNS, tasks, kind) for kind in (".samples.jsonl", ".json"))
    touched(*evaluations, folder / "touched.csv", RUNS, dict.fromkeys(tasks), files)
    return {(row["run"], row["task"]): row for row in read_touched(folder / "touched.csv")}


def test_items_are_identified_by_leaf_task_and_number(tmp_path: Path) -> None:
    rows = tabulate(tmp_path, list(TASKS), report(HITS[:5]), report(HITS[3:]))
    counts = {task: row["touched"] for (run, task), row in rows.items() if run == "base"}
    # reading_b has no item 2; BLEU has no values of single items.
    assert counts == {"choice": 20, "gsm8k": 0, "reading": 2, "lambada_openai": 0, "wikitext": ITEMS}
    assert all(row["items"] == ITEMS for row in rows.values())


def test_both_parts_by_hand(tmp_path: Path) -> None:
    rows = tabulate(tmp_path, ["choice"], report(HITS))
    inside = np.arange(ITEMS) % 3 == 0
    right = {}
    for run in RUNS:
        _, samples = TASKS["choice"](run)
        right[run] = np.array([sample["acc"] for sample in samples])
        row = rows[run, "choice"]
        assert row["score"] == pytest.approx(right[run].mean(), abs=1e-6)
        assert row["score_touched"] == pytest.approx(right[run][inside].mean(), abs=1e-6)
        assert row["score_untouched"] == pytest.approx(right[run][~inside].mean(), abs=1e-6)
        assert row["base_untouched"] == pytest.approx(right["base"][~inside].mean(), abs=1e-6)
    row = rows["cpt-10K", "choice"]
    assert row["difference_untouched"] == pytest.approx(
        row["score_untouched"] - row["base_untouched"], abs=2e-6
    )
    assert (row["test"], rows["base", "choice"]["test"]) == ("mcnemar", "")


def test_without_touched_items_it_is_the_comparison_of_all(tmp_path: Path) -> None:
    rows = tabulate(tmp_path, ["reading", "wikitext"], report([]))
    folder = tmp_path / "evaluations"
    for task, metric in (("reading", "f1"), ("wikitext", "word_perplexity")):
        both = [
            read_answers(
                folder / run / f"{task}.samples.jsonl",
                json.loads((folder / run / f"{task}.json").read_text()),
            )
            for run in ("base", "cpt-10K")
        ]
        expected, row = compare(pair(*both, metric), 0), rows["cpt-10K", task]
        for name in ("ci_low", "ci_high", "p", "detectable_difference"):
            assert row[name] == pytest.approx(expected[name], abs=1e-6)
        assert row["score_touched"] is None and row["test"] == "sign_flips"


def test_a_task_with_all_items_touched_has_no_untouched_score(tmp_path: Path) -> None:
    row = tabulate(tmp_path, ["wikitext"], report(HITS))["cpt-10K", "wikitext"]
    assert (row["touched"], row["score_untouched"], row["p"]) == (ITEMS, None, None)
    assert row["score_touched"] == row["score"] and row["higher_is_better"] is False


def test_documents_that_were_dropped_touch_nothing() -> None:
    assert touched_items([report(HITS, drop=True)]) == set()
    assert touched_items([report(HITS[:1])]) == {("choice", 0)}


def test_cloze_questions_count_as_the_questions_they_come_from(tmp_path: Path) -> None:
    write_tasks(tmp_path, {"choice": TASKS["choice"]})
    path = tmp_path / "evaluations" / "base" / "choice.samples.jsonl"
    path.write_text(path.read_text().replace('"task": "choice"', '"task": "choice_continuation"'))
    answers = read_answers(path, json.loads(path.with_name("choice.json").read_text()))
    assert is_touched(answers, {("choice", 3)}).nonzero()[0].tolist() == [3]
