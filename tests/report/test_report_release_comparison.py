"""A release is kept whole, and compared on the same text and items."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from report_experiment import evaluation_files

from compare import compare
from cpt.config_release import Release, check_release
from cpt.errors import UserError
from cpt.files import sha256_of
from cpt.frozen import compared_runs, frozen_name, holds, read_record, release_folder
from cpt.report.comparisons import read_comparisons
from freeze import freeze

OLD = "first.cpt-25K"


@pytest.fixture
def release(experiment: SimpleNamespace, tmp_path: Path) -> Path:
    """A frozen model of cpt-25K with the scores of cpt-10K."""
    model = tmp_path / "released" / "cpt-25K"
    (model / "additional_chat_templates").mkdir(parents=True)
    for name in ("model.safetensors", "tokenizer.json", "README.md", ".snakemake_timestamp"):
        (model / name).write_text(name)
    (model / "additional_chat_templates" / "tools.jinja").write_text("x")
    data = tmp_path / "data.csv"
    data.write_text("corpus,step,documents,tokens\nours,read,200,900\nours,kept,150,700\nours,packed,,600\n")
    base = tmp_path / "base.json"
    base.write_text('{"sha256": {"model.safetensors": "0123456789abcdef"}}')
    scored = evaluation_files(experiment.root, ["base", "cpt-10K"], ["piqa"], ".json")
    folder = tmp_path / "releases" / "first"
    runs, held_out = {"cpt-25K": 10_240}, {"ours": {"share": 0.05}}
    freeze(folder, [model], [data, base, experiment.root / "scores.csv"], scored, "first", runs, held_out)
    return folder


def test_frozen_folder_is_whole_and_says_what_is_in_it(release: Path, experiment: SimpleNamespace) -> None:
    record = read_record(release)
    assert record["name"] == "first" and record["runs"] == {"cpt-25K": 10_240}
    files = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert files == {*record["files"], "release.json"}
    assert all(sha256_of(release / name) == digest for name, digest in record["files"].items())
    assert "cpt-25K/additional_chat_templates/tools.jinja" in files and "evaluations/base/piqa.json" in files
    weights = release.parents[1] / "released" / "cpt-25K" / "model.safetensors"
    assert (release / "cpt-25K" / "model.safetensors").samefile(weights)
    assert not (release / "scores.csv").samefile(experiment.root / "scores.csv")


def test_models_that_no_release_holds_are_recognised(release: Path) -> None:
    model = release.parents[1] / "released" / "cpt-25K"
    assert holds(release.parent, model)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").write_text("trained again")
    assert not holds(release.parent, model)
    assert not holds(release.parents[1] / "nowhere", model)


@pytest.fixture
def compared(release: Path, experiment: SimpleNamespace, tmp_path: Path):
    """Write compare.csv and compare.md of the release and cpt-25K: compared(**changed arguments)."""

    def write(**changes: object) -> tuple[list[dict[str, str]], str]:
        root, metrics, corpora = experiment.root, experiment.metrics, experiment.corpora
        models = ["base", "cpt-10K", "cpt-25K"]  # files of the release's model are those of cpt-10K
        bits = [f"bits_per_byte.{corpus}" for corpus in corpora]
        data = tmp_path / "now.csv"
        data.write_text("corpus,step,documents,tokens\nours,kept,1150,7700\nnew,kept,20,100\n")
        arguments = {
            **{"record": release / "release.json", "models": [release / "cpt-25K"]},
            **{"base_model": release / "cpt-25K", "base_report": release / "base.json"},
            **{"data": data, "base": "base"},
            **{"page": tmp_path / "compare.md", "table": tmp_path / "compare.csv"},
            "samples": evaluation_files(root, models, metrics, ".samples.jsonl"),
            "summaries": evaluation_files(root, models, metrics, ".json"),
            "losses": evaluation_files(root, models, bits, ".documents.csv"),
            **{"pairs": {"cpt-25K": OLD}, "budgets": {"cpt-25K": 25_600}, "metrics": metrics},
            **{"table_tasks": list(metrics), "labels": {task: task.upper() for task in metrics}},
            **{"corpora": corpora, "held_out": {"ours": {"share": 0.05}}},
        }
        compare(**arguments | changes)
        with open(tmp_path / "compare.csv", newline="") as file:
            return list(csv.DictReader(file)), (tmp_path / "compare.md").read_text()

    return write


def test_differences_are_those_of_the_two_models(compared, experiment: SimpleNamespace) -> None:
    rows, page = compared()
    expected = {
        row["task"]: row
        for row in read_comparisons(experiment.root / "comparisons.csv")
        if (row["reference"], row["run"]) == ("cpt-10K", "cpt-25K") and row["shown"]
    }
    tested = [row for row in rows if row["metric"] != "bits_per_byte"]
    assert {row["task"] for row in tested} == set(expected)
    for row in tested:
        other = expected[row["task"]]
        for key in ("difference", "ci_low", "ci_high"):
            assert float(row[key]) == pytest.approx(other[key], abs=1e-6)
        assert float(row["old_score"]) == pytest.approx(other["reference_score"], abs=1e-6)
        assert float(row["p_holm"]) == pytest.approx(other["p_holm"], rel=1e-4)
    scores = {(row["run"], row["task"]): row["score"] for row in experiment.scores}
    held_out = [row for row in rows if row["metric"] == "bits_per_byte"]
    assert len(held_out) == len(experiment.corpora)
    for row in held_out:
        for run, key in (("base", "base_score"), ("cpt-10K", "old_score"), ("cpt-25K", "new_score")):
            assert float(row[key]) == pytest.approx(scores[run, row["task"]], abs=1e-6)
        change = float(row["new_score"]) - float(row["old_score"])
        assert float(row["difference"]) == pytest.approx(change, abs=2e-6)
        assert float(row["ci_low"]) <= change <= float(row["ci_high"])
        assert int(row["groups"]) > 1 and int(row["n"]) >= int(row["groups"])
    assert "| ours | 150 | 1,150 | 700 | 7,700 |" in page
    assert "| new | \N{EN DASH} | 20 | \N{EN DASH} | 100 |" in page
    assert "| held-out text | documents | groups | base model | first | now | now less first |" in page
    assert "| ARC_EASY | 40 |" in page and "| **Average** |" in page and "Warning: text is" not in page


def test_text_held_out_in_another_way_gives_a_warning(compared) -> None:
    assert (
        "Warning: text is held out of ours in another way than for first"
        in compared(held_out={"ours": {"share": 0.1}})[1]
    )


def test_another_base_model_gives_a_warning(compared, tmp_path: Path) -> None:
    assert "another base model" not in compared()[1]
    other = tmp_path / "other.json"
    other.write_text('{"sha256": {"model.safetensors": "fedcba9876543210"}}')
    page = compared(base_report=other)[1]
    assert "Warning: first was trained from another base model (weights 0123456789ab) than these" in page


def test_another_tokenizer_or_other_documents_are_refused(
    compared, release: Path, experiment: SimpleNamespace, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(release / "cpt-25K", other)
    (other / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="first has another tokenizer than the base model here"):
        compared(base_model=other)
    names = [f"bits_per_byte.{corpus}" for corpus in experiment.corpora]
    losses = evaluation_files(experiment.root, ["base", "cpt-10K", "cpt-25K"], names, ".documents.csv")
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("\n".join(losses[0].read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UserError, match="measure both on the same tokens"):
        compared(losses=[fewer, *losses[1:]])


def test_a_release_is_named_or_refused(tmp_path: Path) -> None:
    assert Release.model_validate("2026-11") == Release(name="2026-11")
    assert release_folder("results/x", "2026-11") == "results/x/releases/2026-11"
    assert release_folder("results/x", "../elsewhere/2026-11") == "../elsewhere/2026-11"
    assert frozen_name("../elsewhere/2026-11", "cpt") == "2026-11.cpt"
    with pytest.raises(UserError, match="name a release that `snakemake freeze` made"):
        read_record(tmp_path)
    (tmp_path / "release.json").write_text(json.dumps({"name": "first", "runs": {"a": 1, "b": 2}}))
    record = read_record(tmp_path)
    assert compared_runs(record, ["b", "c"]) == ["b"]
    with pytest.raises(UserError, match="first has the models a, b, and no run here has such a name"):
        compared_runs(record, ["c"])
    with pytest.raises(ValueError, match="is this release itself; name an earlier one"):
        check_release(Release(name="first", compare_to="first"), ["a"])
