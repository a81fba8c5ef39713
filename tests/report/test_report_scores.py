"""scores.csv: values, pairing, bad inputs."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from report_experiment import PUBLISHED, evaluation_files, summary_of, write_json, write_losses

from cpt.errors import UserError
from cpt.report.samples import read_answers
from cpt.report.scores import COLUMNS, PUBLISHED_MODEL, pairs_of, read_scores
from scores import scores

RUNS = {"base": 0, "cpt-400M": 400_000_000}
METRICS = {"piqa": "acc_norm"}
SUMMARY = summary_of("piqa", {"acc": 0.5}, 2, 1838)


def sample(item: int, acc: int, acc_norm: int | None = None, choices: int = 2) -> dict:
    return {
        "task": "piqa",
        "item": item,
        "acc": acc,
        "acc_norm": acc_norm,
        "gold": 0,
        "predicted": 0 if acc else 1,
        "loglikelihoods": [-1.0] * choices,
        "bits_per_byte": 1.0,
        "choice_characters": [9, 3, 3, 3][:choices],
    }


def write_task(folder: Path, run: str, samples: list[dict], metrics: dict[str, float]) -> None:
    summary = summary_of("piqa", metrics, len(samples), 1838)
    folder = folder / "evaluations" / run
    write_json(folder / "piqa.json", summary)
    (folder / "piqa.samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in samples))


def rows_of(
    folder: Path,
    runs: dict[str, int] = RUNS,
    metrics: dict[str, str] = METRICS,
    table_tasks: list[str] | None = None,
    corpora: list[str] | None = None,
    repo: str | None = None,
) -> list[dict[str, Any]]:
    """Run the stage on the evaluations in a folder; return the rows of scores.csv."""
    corpora = corpora or []
    scores(
        PUBLISHED,
        evaluation_files(folder, runs, metrics, ".json"),
        evaluation_files(folder, runs, metrics, ".samples.jsonl"),
        folder / "scores.csv",
        runs,
        metrics,
        list(metrics) if table_tasks is None else table_tasks,
        corpora,
        evaluation_files(folder, runs, [f"bits_per_byte.{corpus}" for corpus in corpora], ".documents.csv"),
        repo,
    )
    return read_scores(folder / "scores.csv")


def small(folder: Path) -> Path:
    """Four items; the run loses one and gains one in acc, gains one in acc_norm."""
    both = {"acc": 0.5, "acc_norm": 0.5}
    write_task(folder, "base", [sample(0, 1, 0), sample(1, 1, 1), sample(2, 0, 0), sample(3, 0, 1)], both)
    write_task(folder, "cpt-400M", [sample(3, 0, 1), sample(2, 1, 1), sample(1, 1, 1), sample(0, 0, 0)], both)
    return folder


def test_small_example_by_hand(tmp_path: Path) -> None:
    rows = rows_of(small(tmp_path), repo=PUBLISHED_MODEL)
    assert [(row["run"], row["metric"], row["shown"]) for row in rows] == [
        ("base", "acc", False),
        ("base", "acc_norm", True),
        ("base", "average", False),
        ("cpt-400M", "acc", False),
        ("cpt-400M", "acc_norm", True),
        ("cpt-400M", "average", False),
    ]
    acc, norm = rows[3:5]
    assert (acc["score"], acc["base_score"]) == (0.5, 0.5)
    assert (acc["gained"], acc["lost"], acc["mcnemar_p"]) == (1, 1, 1)
    assert (norm["score"], norm["difference"], norm["gained"], norm["lost"]) == (0.75, 0.25, 1, 0)
    assert norm["standard_error"] == pytest.approx(0.25)
    assert (norm["chance"], norm["items_of_full"]) == (0.5, 1838)
    assert (norm["published"], acc["published"]) == (0.6518, None)
    assert norm["mcnemar_p_holm"] == norm["mcnemar_p"] == 1.0
    assert rows[1]["mcnemar_p"] is None


def test_chance_is_the_mean_over_items(tmp_path: Path) -> None:
    write_task(tmp_path, "base", [sample(0, 1, None, 4), sample(1, 0, None, 2)], {"acc": 0.5})
    row, _ = rows_of(tmp_path, {"base": 0}, {"piqa": "acc"})
    assert row["chance"] == pytest.approx((1 / 4 + 1 / 2) / 2)


def test_a_task_outside_the_table_has_scores_but_isnt_shown(
    experiment: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "evaluations").symlink_to(experiment.root / "evaluations")
    metrics = {**experiment.metrics, "mmlu_continuation": "acc_norm"}
    rows = rows_of(tmp_path, experiment.runs, metrics, list(experiment.metrics))
    added = [row for row in rows if row["task"] == "mmlu_continuation"]
    assert len(added) == 3 * 2 and not any(row["shown"] for row in added)
    assert all(row.get("mcnemar_p_holm") is None for row in added)


def test_written_and_read_back(experiment: SimpleNamespace) -> None:
    """Counts survive the six decimals of the file, for every row of the demo."""
    assert list(experiment.scores[0]) == list(COLUMNS)
    assert len(experiment.scores) == 3 * (7 + 4 + 1 + 2)  # acc, acc_norm, average, corpora
    for row in experiment.scores:
        if row["metric"] == "bits_per_byte":
            assert row["difference"] == pytest.approx(row["score"] - row["base_score"], abs=2e-6)
            assert row["ci_low"] < row["score"] < row["ci_high"] and row["n"] // row["groups"] in (1, 2)
            assert (row["relative_ci_low"] is None) == (row["run"] == "base")
            assert (row["mcnemar_p"], row["shown"], row["published"]) == (None, False, None)
            continue
        if row["task"] == "average":
            continue
        pairs = pairs_of(row)
        assert pairs.n == row["n"] == 40
        assert min(pairs) >= 0
        assert row["ci_low"] < row["score"] < row["ci_high"]
        assert pairs.base_score == pytest.approx(row["base_score"])
        is_base = row["run"] == "base"
        assert (row["mcnemar_p"] is None) == is_base
        assert (row["mcnemar_p_holm"] is not None) == (row["shown"] and not is_base)
        assert row["published"] is None  # another base model than the paper's
    assert {row["chance"] for row in experiment.scores if row["task"] == "mmlu"} == {0.25}


def test_writing_again_gives_the_same_bytes(experiment: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "evaluations").symlink_to(experiment.root / "evaluations")
    rows_of(tmp_path, experiment.runs, experiment.metrics, corpora=experiment.corpora)
    assert (tmp_path / "scores.csv").read_bytes() == (experiment.root / "scores.csv").read_bytes()


def test_other_items_are_refused(tmp_path: Path) -> None:
    folder = small(tmp_path)
    write_task(folder, "cpt-400M", [sample(i, 1, 1) for i in (0, 1, 2, 9)], {"acc": 1, "acc_norm": 1})
    with pytest.raises(UserError, match=r"cpt-400M.*1 only here, 1 only there.*evaluate\.items"):
        rows_of(folder)


def test_count_that_differs_from_the_samples_is_refused(tmp_path: Path) -> None:
    folder = small(tmp_path)
    path = folder / "evaluations" / "base" / "piqa.json"
    write_json(path, {**json.loads(path.read_text()), "n": 5})
    with pytest.raises(UserError, match=r"piqa\.samples\.jsonl: has 4 items, but piqa\.json .* counts 5"):
        rows_of(folder)


def test_metric_that_a_task_lacks_is_refused(tmp_path: Path) -> None:
    write_task(tmp_path, "base", [sample(0, 1)], {"acc": 1})
    with pytest.raises(UserError, match=r"evaluate\.tasks\.piqa\.metric: acc_norm isn't measured.* acc"):
        rows_of(tmp_path, {"base": 0})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: expected an item"),
        ('{"task": "piqa", "item": 1}', r"line 2: expected an item.*'gold'"),
        (
            json.dumps(sample(1, 1) | {"acc": "yes"}),
            r"samples\.jsonl: expected numbers of every item for acc .*yes.*evaluate again",
        ),
        (json.dumps(sample(0, 1)), r"line 2: .* occurs twice; evaluate again"),
    ],
)
def test_broken_samples_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "piqa.samples.jsonl"
    path.write_text(json.dumps(sample(0, 1)) + "\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        read_answers(path, SUMMARY)


def test_no_items_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "piqa.samples.jsonl").write_text("")
    with pytest.raises(UserError, match=r"no items; check evaluate\.items and evaluate again"):
        read_answers(tmp_path / "piqa.samples.jsonl", SUMMARY)


def test_no_base_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"runs: every comparison is against the base model; .*`base: \{\}`"):
        rows_of(small(tmp_path), {"cpt-400M": 400_000_000})


def test_bits_per_byte_on_other_documents_is_refused(experiment: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(experiment.root / "evaluations", tmp_path / "evaluations")
    path = tmp_path / "evaluations" / "cpt-10K" / "bits_per_byte.scientific_python.documents.csv"
    write_losses(path, [0, 1], [4, 5], [2.0, 3.0])
    with pytest.raises(
        UserError,
        match=r"/cpt-10K/bits_per_byte\.scientific_python\.documents\.csv: measured on 2 documents of 9 "
        r"bytes, but .* on 41 of 32768; measure both on the same tokens",
    ):
        rows_of(tmp_path, experiment.runs, experiment.metrics, corpora=experiment.corpora)


@pytest.mark.parametrize(("choices", "last"), [(4, "always_E"), (7, "always_G")])
def test_there_is_a_column_for_each_letter(tmp_path: Path, choices: int, last: str) -> None:
    """Every experiment also has a column for each letter of the seven benchmarks."""
    for run in ("base", "cpt-400M"):
        samples = [sample(item, 1) | {"choice_characters": [1] * choices} for item in range(4)]
        write_task(tmp_path, run, samples, {"acc": 1.0})
    rows = rows_of(tmp_path, metrics={"piqa": "acc"})
    header, first, *_ = (tmp_path / "scores.csv").read_text().splitlines()
    names = header.split(",")
    assert names[names.index("longest") - 1] == last and names[names.index("always_A") - 1] == "majority"
    assert dict(zip(names, first.split(","), strict=True))["always_A"] == "1.000000"
    assert rows[0]["majority"] == 1


def test_wrong_and_empty_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("run,tokens\nbase,0\n")
    with pytest.raises(
        UserError, match=r"scores\.csv: expected the columns .* is missing; delete the file and"
    ):
        read_scores(path)
    path.write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(UserError, match="no rows below the header"):
        read_scores(path)
