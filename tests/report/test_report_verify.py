"""`make verify`: recomputed numbers, golden values, the checklist."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from report_experiment import PUBLISHED, REPOSITORY, evaluation_files
from test_report_metrics import tabulate

from cpt.errors import UserError
from cpt.files import sha256_of
from cpt.verify_checklist import lines, points
from cpt.verify_golden import compare_golden, write_golden
from cpt.verify_numbers import agrees, detectable
from cpt.verify_tables import check_all
from seeds import seeds
from table1 import table1

TABLES = [
    "scores.csv",
    "comparisons.csv",
    "table1.csv",
    "letters.csv",
    "answers.csv",
    "runs.csv",
    "seeds.csv",
]


@pytest.fixture(scope="module")
def results(experiment: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up experiment with all the tables that are recomputed."""
    root = tmp_path_factory.mktemp("verify") / "results"
    shutil.copytree(experiment.root, root)
    files = {"csv": root / "table1.csv", "markdown": root / "table1.md", "latex": root / "table1.tex"}
    files["base"] = root / "models" / "base.json"
    shown = experiment.table_tasks
    table1(root / "scores.csv", PUBLISHED, **files, runs=experiment.runs, tasks=shown, model="made up")
    samples = evaluation_files(root, experiment.runs, experiment.metrics, ".samples.jsonl")
    summaries = evaluation_files(root, experiment.runs, experiment.metrics, ".json")
    groups, metrics = {"cpt-10K": ["cpt-10K", "cpt-25K"]}, experiment.metrics
    seeds(samples, summaries, root / "seeds.csv", experiment.runs, metrics, list(shown), groups, "base")
    config = (root / "config.yaml").read_text()
    runs = "runs: {base: {}, cpt-10K: {}, cpt-25K: {replicate_of: cpt-10K}}\n"
    (root / "config.yaml").write_text("name: demo\n" + runs + f"# {len(config)} more\n")
    return root


def change(table: Path, row: dict[str, str], column: str, value: str) -> None:
    """Write another value into a table."""
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    (target,) = (each for each in rows if row.items() <= each.items())
    assert target[column] != value
    target[column] = value
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_every_number_of_the_tables_is_what_the_samples_give(results: Path) -> None:
    checks = check_all(results)
    assert [check.table for check in checks] == TABLES
    assert [mismatch for check in checks for mismatch in check.mismatches] == []
    assert sum(check.numbers for check in checks) > 2000


PLANTED = {
    "scores.csv": [
        ({"run": "cpt-25K", "task": "mmlu", "metric": "acc"}, "score", "0.225010"),
        ({"run": "cpt-25K", "task": "piqa", "metric": "acc_norm"}, "mcnemar_p", "0.4"),
        ({"run": "cpt-25K", "task": "boolq"}, "difference_ci_low", "-0.3"),
        ({"run": "base", "task": "arc_easy", "metric": "acc"}, "ci_high", "0.7"),
        ({"run": "base", "task": "hellaswag", "metric": "acc"}, "null_p", "0.9"),
        ({"run": "cpt-10K", "task": "average"}, "detectable_difference", "0.056600"),
        ({"run": "cpt-10K", "task": "bits_per_byte.scientific_python"}, "relative_ci_low", "-5"),
        ({"run": "cpt-10K", "task": "bits_per_byte.standard_library"}, "score", "1.135"),
    ],
    "comparisons.csv": [
        ({"reference": "cpt-10K", "run": "cpt-25K", "task": "mmlu"}, "gained", "9"),
        ({"reference": "base", "run": "cpt-25K", "task": "winogrande"}, "p_holm", "0.01"),
    ],
    "table1.csv": [({"run": "base"}, "boolq", "0.6251")],
    "letters.csv": [({"run": "base", "task": "mmlu", "letter": "B"}, "answered", "31")],
    "answers.csv": [({"run": "cpt-10K", "task": "piqa", "quantity": "margin"}, "ci_low", "0.5")],
    "runs.csv": [({"run": "cpt-10K"}, "last_loss", "1.0")],
    "seeds.csv": [({"task": "average", "quantity": "difference"}, "between_seeds", "0.5")],
}


def test_a_number_that_is_wrong_is_named(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, root := tmp_path / "results")
    for table, changes in PLANTED.items():
        for row, column, value in changes:
            change(root / table, row, column, value)
    mismatches = {check.table: check.mismatches for check in check_all(root)}
    for table, changes in PLANTED.items():
        assert sorted((m.column, m.published) for m in mismatches[table]) == sorted(c[1:] for c in changes), (
            table
        )
    with open(root / "letters.csv", "a") as file:
        file.write("base,0,mmlu,Z,40,0,0,0,0.0,0.0\n")
    header, first, _ = (root / "runs.csv").read_text().splitlines()
    (root / "runs.csv").write_text(f"{header}\n{first}\n")
    mismatches = {check.table: check.mismatches for check in check_all(root)}
    assert ("runs.csv: cpt-25K", "no such row") in [(m.where, m.published) for m in mismatches["runs.csv"]]
    assert ("letters.csv: base mmlu Z", "a row") in [
        (m.where, m.published) for m in mismatches["letters.csv"]
    ]


def test_samples_that_were_changed_are_noticed(results: Path, tmp_path: Path) -> None:
    """The reverse: the tables are unchanged, an answer is not."""
    shutil.copytree(results, root := tmp_path / "results")
    path = root / "evaluations" / "cpt-25K" / "piqa.samples.jsonl"
    first, *others = path.read_text().splitlines()
    sample = json.loads(first)
    path.write_text("\n".join([json.dumps(sample | {"acc_norm": 1 - sample["acc_norm"]}), *others]) + "\n")
    wrong = {(m.where, m.column) for m in check_all(root)[0].mismatches}
    assert ("scores.csv: cpt-25K piqa acc_norm", "score") in wrong
    assert ("scores.csv: cpt-25K average average", "score") in wrong
    path.write_text(first + "\n" + first + "\n")
    with pytest.raises(UserError, match=r"piqa\.samples\.jsonl: an item occurs twice"):
        check_all(root)
    path.unlink()
    with pytest.raises(UserError, match=r"piqa\.samples\.jsonl: missing, so its scores can't be recomputed"):
        check_all(root)


def test_runs_on_other_items_or_documents_are_refused(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, root := tmp_path / "results")
    losses = root / "evaluations" / "cpt-25K" / "bits_per_byte.standard_library.documents.csv"
    losses.write_text("\n".join(losses.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UserError, match="standard_library was measured on other documents than for base"):
        check_all(root)
    path = root / "evaluations" / "cpt-25K" / "piqa.samples.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UserError, match="two runs weren't scored on the same items"):
        check_all(root)


def test_scores_other_than_right_and_wrong_are_recomputed_without_their_tests(tmp_path: Path) -> None:
    tabulate(tmp_path)
    (tmp_path / "config.yaml").write_text("runs: {base: {}, cpt-10K: {}, cpt-25K: {replicate_of: cpt-10K}}\n")
    checks = check_all(tmp_path)
    assert [mismatch for check in checks for mismatch in check.mismatches] == []
    change(tmp_path / "scores.csv", {"run": "cpt-10K", "task": "reading", "metric": "f1"}, "score", "0.1")
    (mismatch,) = check_all(tmp_path)[0].mismatches
    assert (mismatch.where, mismatch.column) == ("scores.csv: cpt-10K reading f1", "score")


def test_cells_agree_to_within_their_rounding() -> None:
    assert agrees("score", "0.333333", 1 / 3) and not agrees("score", "0.333330", 1 / 3)
    assert agrees("mcnemar_p", "1.23457e-09", 1.234567e-9) and not agrees("p", "1.3e-09", 1.234567e-9)
    assert agrees("score", "", None) and not agrees("score", "0.1", None) and not agrees("score", "", 0.1)
    assert agrees("above_null", "true", True) and not agrees("above_null", "false", True)
    assert detectable(0.0, 50) == pytest.approx(0.15, abs=0.01)


def test_golden_values_have_tolerances(results: Path, tmp_path: Path) -> None:
    golden = tmp_path / "demo.csv"
    write_golden(results, golden)
    with open(golden) as file:
        rows = {(row["run"], row["task"]): row for row in csv.DictReader(file)}
    assert len(rows) == 3 * (7 + 1 + 2)  # tasks, average, corpora
    assert float(rows["base", "mmlu"]["tolerance"]) == 2 / 40
    assert float(rows["base", "average"]["tolerance"]) == 7 / 280
    bits = rows["base", "bits_per_byte.scientific_python"]
    assert float(bits["tolerance"]) == pytest.approx(0.01 * float(bits["score"]), abs=1e-6)
    assert compare_golden(results, golden)[1:] == (30, [])
    shutil.copytree(results, root := tmp_path / "results")
    change(root / "scores.csv", {"run": "base", "task": "mmlu"}, "score", "0.250000")  # two items
    assert compare_golden(root, golden).mismatches == []
    change(root / "scores.csv", {"run": "base", "task": "mmlu"}, "score", "0.275000")
    change(root / "scores.csv", {"run": "cpt-10K", "task": "boolq"}, "n", "39")
    wrong = {(m.where, m.column) for m in compare_golden(root, golden).mismatches}
    assert wrong == {("scores.csv: base mmlu acc", "score"), ("scores.csv: cpt-10K boolq acc", "n")}
    golden.write_text("run,task\n")
    with pytest.raises(UserError, match=r"demo\.csv: expected the columns run, task, metric, n, score, tol"):
        compare_golden(root, golden)


def test_golden_scores_of_tasks_are_shares_of_whole_items() -> None:
    with open(REPOSITORY / "paper" / "golden" / "demo.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"base", "cpt-16K", "cpt-41K"}
    for row in rows:
        assert 0 < float(row["tolerance"]) < float(row["score"])
        if row["task"] != "average" and row["metric"] != "bits_per_byte":
            items = float(row["score"]) * int(row["n"])
            assert items == pytest.approx(round(items), abs=1e-3)


def write_evidence(root: Path) -> None:
    """Write what a finished experiment has in addition to its tables."""
    block = {"git_commit": "a" * 40, "versions": {"numpy": "0.1"}, "seeds": {"packing": 3}}
    content = {
        "corpora/own/raw/00000.json": {"sha256": "d" * 64},
        "models/base.json": {"sha256": {"model.safetensors": "e" * 64}},
        "benchmarks.json": {"tasks": {"piqa": {"content_sha256": "f"}}},
    }
    for name, value in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(value))
    packed = root / "packed" / "domain"
    (packed / "sequences.bin").write_bytes(b"text")
    ledger = {"sequences_sha256": sha256_of(packed / "sequences.bin"), "provenance": block}
    (packed / "ledger.json").write_text(json.dumps(ledger))
    crate = [{"@id": "table1.csv", "sha256": sha256_of(root / "table1.csv")}]
    (root / "ro-crate-metadata.json").write_text(json.dumps({"@graph": crate}))


def test_the_checklist_follows_its_evidence(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, root := tmp_path / "results")
    write_evidence(root)

    def marks() -> dict[str, str]:
        return {line[6:30]: line[3] for line in lines(list(points(root, REPOSITORY, [], None)))}

    assert marks() == {
        "0 numbers of 0 tables we": "x",
        "no golden values for thi": "-",
        "1 of 1 raw shards have a": "x",
        "the base model's files a": "x",
        "the items of 1 benchmark": "x",
        "the packed text of 1 mix": "x",
        "all runs and scores were": "x",
        "package versions are tho": " ",  # numpy 0.1
        "seeds on record: packing": "x",
        "no plan was registered b": "-",
        "held-out text rests on a": " ",  # 21 groups
        "overlap with the evaluat": "x",
        "1 files have the SHA-256": "x",
    }
    (root / "packed" / "domain" / "sequences.bin").write_bytes(b"other text")
    (root / "table1.csv").write_text("changed\n")
    ledger = json.loads((root / "packed" / "domain" / "ledger.json").read_text())
    ledger["provenance"]["git_commit"] += "+dirty"
    (root / "packed" / "domain" / "ledger.json").write_text(json.dumps(ledger))
    new_marks = marks()
    assert new_marks["the packed text of 1 mix"] == new_marks["1 files have the SHA-256"] == " "
    assert new_marks["all runs and scores were"] == " "


def test_verify_exits_with_1_if_a_number_is_wrong(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, root := tmp_path / "results")
    command = [sys.executable, REPOSITORY / "scripts" / "verify.py", "--results", root]
    command += ["--golden", tmp_path]
    done = subprocess.run([*command, "--update"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| scores.csv | " in done.stdout and (root / "verification.md").read_text() in done.stdout
    assert "- [x] 30 golden values: 0 outside their tolerance" in done.stdout
    change(root / "table1.csv", {"run": "base"}, "mmlu", "0.3000")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "table1.csv: base: mmlu: 0.3000, not 0." in done.stdout
    assert f"error: {root}: the results aren't what their samples and files give (" in done.stderr
    done = subprocess.run([*command[:3], tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "scores.csv: missing; finish the experiment first" in done.stderr
