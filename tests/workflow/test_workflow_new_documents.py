"""The second week: after a freeze, new documents retrain the runs of their mixture only, and `compare` sets
the new models against the release on the same text and items."""

import csv
import json
import sys
from pathlib import Path
from random import Random

import pytest
import yaml
from project_copy import Project
from small_experiments import TASKS, overlay
from tests.test_config import merged

sys.path.append(str(Path(__file__).resolve().parents[1] / "corpus"))
from test_corpus_readers import sentence

SMOKE_SCORING = ("benchmarks", "batch_tokens", "batch_size", "held_out_tokens")
CONFIG = {
    **{key: overlay("smoke")[key] for key in ("base", "train", "packing", "filters")},
    "results": "results/weeks",
    "corpora": {
        "fineweb_edu": None,
        **{name: {"source": "local", "files": f"{name}/*.txt", "shards": 1} for name in ("old", "grown")},
    },
    "domain": "grown",
    "held_out": {"share": 0.2},
    "evaluate": {
        "tasks": dict.fromkeys(set(merged({})["evaluate"]["tasks"]) - set(TASKS)),
        "groups": {"educational": ["arc_easy"], "general": ["piqa"]},
        "items": 4,
        **{key: overlay("smoke")["evaluate"][key] for key in SMOKE_SCORING},
    },
    "mixtures": {"domain": None, "old": {"old": 1.0}, "grown": {"grown": 1.0}},
    "runs": {
        **{"cpt-400M": None, "cpt-1B": None, "half": {"merge": {"base": 0.5, "cpt-old": 0.5}}},
        **{f"cpt-{name}": {"tokens": 4_096, "cpus": 1, "mixture": name} for name in ("old", "grown")},
    },
}
WEEKS = ("--configfile", "weeks.yaml", "--config")
FIRST = "release={name: first, runs: [cpt-old, cpt-grown]}"
SECOND = "release={compare_to: first}"


def write_documents(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        lines = [sentence(Random(f"{folder.name} {number} {line}")) for line in range(12)]
        (folder / f"{number}.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    copy = Project(tmp_path_factory.mktemp("weeks") / "copy")
    for name in ("old", "grown"):
        write_documents(copy.folder / name, range(20))
    (copy.folder / "weeks.yaml").write_text(yaml.safe_dump(CONFIG))
    return copy


@pytest.mark.experiments
def test_new_documents_train_what_they_change_and_are_compared_with_the_release(project):
    results = project.folder / "results" / "weeks"
    ledgers = [results / f"packed/{name}/ledger.json" for name in ("old", "grown")]
    trained = [results / f"runs/cpt-{name}/run.json" for name in ("old", "grown")]
    dependent = [results / "models/half.json", results / "evaluations/cpt-old/piqa.json"]

    def state() -> tuple[list[str], list[int]]:
        digests = [json.loads(ledger.read_text())["sequences_sha256"] for ledger in ledgers]
        return digests, [path.stat().st_mtime_ns for path in (*ledgers, *trained, *dependent)]

    project.snakemake("freeze", "results/weeks/models/half", *WEEKS, FIRST)
    (old, grown), times = state()
    frozen = {path: path.read_bytes() for path in (results / "releases").rglob("*") if path.is_file()}
    assert {path.parent.name for path in frozen if path.name == "README.md"} == {"cpt-old", "cpt-grown"}
    refused = project.snakemake("freeze", "--dry-run", *WEEKS, FIRST, check=False)
    assert "release.name: first is frozen already (results/weeks/releases/first)" in refused

    write_documents(project.folder / "grown", range(20, 30))
    targets = ("results/weeks/compare.md", "results/weeks/models/half")
    printed = project.snakemake(*targets, *WEEKS, SECOND)
    assert "warning: results/weeks/models/half may be replaced" in printed  # the release doesn't have it
    digests, later = state()
    assert digests[0] == old and digests[1] != grown
    packed_old, packed_grown, trained_old, trained_grown, *followed = map(int.__lt__, times, later)
    assert packed_old and packed_grown and trained_grown
    assert not trained_old and not any(followed)
    assert {path: path.read_bytes() for path in frozen} == frozen

    with open(results / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["run"], row["task"]) for row in rows} == {
        (run, task) for run in ("cpt-old", "cpt-grown") for task in ("bits_per_byte.grown", *TASKS, "average")
    }
    assert {row["difference"] for row in rows if row["run"] == "cpt-old"} == {"0.000000"}
    assert any(float(row["difference"]) for row in rows if row["run"] == "cpt-grown")
    assert "| now less first |" in (results / "compare.md").read_text()
    assert project.planned(*targets, config=(*WEEKS, SECOND)) == {}
