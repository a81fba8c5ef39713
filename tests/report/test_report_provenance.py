"""The record of an experiment and its RO-Crate."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from cpt.errors import UserError
from cpt.files import sha256_of
from cpt.report.timings import summed_timings
from provenance import provenance
from timings import timings

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def results_folder(root: Path, gpus: list[str] | None = None) -> Path:
    """The files of a small experiment that its record is made from."""

    def write(path: str, content: object) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content if isinstance(content, str) else json.dumps(content))

    def block(code: str, wall: float) -> dict:
        hardware = {"processor": "some", "cores": 2, **({"gpus": gpus} if gpus else {})}
        base = {"settings_digest": "5", "code_digest": code, "git_commit": "abc", "seeds": {}}
        return {
            "provenance": {**base, "versions": {"numpy": "2"}, "hardware": hardware, "wall_seconds": wall}
        }

    shard = {"corpus": "own", "shard": 0, "source": {"source": "hub", "repo": "a/b"}, "revision": "r1"}
    shard |= {"files": [{"name": "x"}], "rows": 3, "bytes": 40, "sha256": "d" * 64}
    write("config.yaml", "name: small\n")
    write("corpora/own/raw/00000.json", {**shard, **block("c1", 5)})
    write("models/base.json", {"source": {"repo": "m/n"}, "sha256": {}, "parameters": 7, **block("c2", 6)})
    write("benchmarks.json", {"tasks": {"piqa": {"items": 2, "content_sha256": "e"}}, **block("c3", 1)})
    write("packed/domain/ledger.json", {"mixture": "domain", "sequences_sha256": "f", **block("c4", 1)})
    device = gpus[0] if gpus else "cpu"
    write("runs/cpt/run.json", {"device": device, "processes": 2, **block("c5", 3600)})
    write("evaluations/cpt/piqa.json", block("c6", 100))
    write("models/cpt/config.json", {"hidden_size": 4})
    write("table1.csv", "a,b\n1,2\n")
    write("released/cpt/README.md", "card")
    write("timings/train/cpt.tsv", COLUMNS + "3600\t1:00:00\t2000\t0\t0\t0\t0\t0\t0\t7200\n")
    write("timings/evaluate_tasks/cpt/1.tsv", COLUMNS + "1800\t0:30:00\t1000\t0\t0\t0\t0\t0\t0\t1800\n")
    write("timings/table1.tsv", COLUMNS + "0.1\t0:00:00\t-\t-\t-\t-\t-\t-\t-\t-\n")
    return root


def stage_outputs(root: Path) -> list[Path]:
    """The outputs of the stages: files, and folders that are passed as a whole."""
    folders = [root / name for name in ("packed/domain", "models/cpt", "released/cpt")]
    inside = {file for folder in folders for file in folder.iterdir()}
    timings = set((root / "timings").rglob("*"))
    return [*folders, *(file for file in root.rglob("*.*") if file not in inside | timings)]


def make(root: Path) -> tuple[dict, ROCrate]:
    files, measured = stage_outputs(root), list((root / "timings").rglob("*.tsv"))
    provenance(
        config=root / "config.yaml",
        base=root / "models" / "base.json",
        benchmarks=root / "benchmarks.json",
        manifests=[root / "corpora" / "own" / "raw" / "00000.json"],
        results=root,
        timings=root / "timings",
        citation=ROOT / "CITATION.cff",
        project=ROOT,
        workflow=root / "workflow",
        record=root / "provenance.json",
        crate=root / "ro-crate-metadata.json",
        packed=[root / "packed" / "domain"],
        summaries=[root / "runs" / "cpt" / "run.json"],
        evaluations=[root / "evaluations" / "cpt" / "piqa.json"],
        files=files,
        measured=measured,
    )
    return json.loads((root / "provenance.json").read_text()), ROCrate(root)


def test_record_has_what_made_the_results(tmp_path):
    record, _ = make(results_folder(tmp_path))
    assert record["config"]["sha256"] == sha256_of(tmp_path / "config.yaml")
    assert record["git_commits"] == ["abc"] and record["packages"] == {"numpy": ["2"]}
    assert record["data"] == [
        {
            "corpus": "own",
            "shard": 0,
            "source": {"source": "hub", "repo": "a/b"},
            "revision": "r1",
            "rows": 3,
            "bytes": 40,
            "sha256": "d" * 64,
            "files": 1,
        }
    ]
    assert record["results"]["runs/cpt/run.json"]["code_digest"] == "c5" and len(record["results"]) == 6
    assert record["packed"] == {"domain": "f"} and record["benchmarks"]["piqa"]["items"] == 2
    assert record["stages"]["train"]["wall_seconds"] == 3600
    assert record["stages"]["table1"]["cpu_seconds"] == 0


def test_energy_follows_from_its_stated_assumption(tmp_path):
    on_cpu = make(results_folder(tmp_path / "cpu"))[0]["energy"]
    assert on_cpu["cores_kwh"] == pytest.approx(9000 * 10 / 3.6e6)
    assert on_cpu["memory_kwh"] == pytest.approx(0.3725 * (2 * 3600 + 1 * 1800) / 3.6e6, abs=1e-6)
    assert on_cpu["gpus_kwh"] == 0 and "10 W per busy core" in on_cpu["assumption"]
    on_gpu = make(results_folder(tmp_path / "gpu", ["NVIDIA A100-SXM4-40GB"] * 2))[0]["energy"]
    # Two processes for an hour, and half an hour of scoring on one GPU, at 400 W.
    assert on_gpu["gpus_kwh"] == pytest.approx(0.4 * (2 + 0.5))
    assert on_gpu["total_kwh"] == pytest.approx(on_cpu["total_kwh"] + on_gpu["gpus_kwh"])


def test_crate_is_read_back_with_files_inputs_and_the_run(tmp_path):
    _, crate = make(root := results_folder(tmp_path / "results"))
    assert crate.name == "Continued pre-training: small"
    described = {entity.id for entity in crate.data_entities}
    outputs = {
        "provenance.json",
        "table1.csv",
        "runs/cpt/run.json",
        "evaluations/cpt/piqa.json",
        "released/cpt/",
    }
    workflow = {"workflow/", "workflow/Snakefile"}
    assert described == {"config.yaml", *outputs, *workflow}
    assert all((root / name).exists() for name in described)
    table = crate.get("table1.csv")
    assert table["sha256"] == sha256_of(root / "table1.csv") and table["contentSize"] == "8"
    run = crate.get("#run")
    assert run["instrument"]["version"] == "abc"
    inputs = [entity["name"] for entity in run["object"]]
    assert inputs == ["the merged config that made these results", "base model: m/n", "corpus own: a/b"]
    assert {entity.id for entity in run["result"]} == outputs
    crate.write(tmp_path / "copy")  # complete: the package finds every file that it describes
    assert (tmp_path / "copy" / "table1.csv").read_text() == "a,b\n1,2\n"


def test_crate_is_a_workflow_run_with_author_and_licence(tmp_path):
    """What the profiles Process Run, Workflow Run (0.5) and Workflow RO-Crate (1.0) require."""
    make(root := results_folder(tmp_path))
    graph = json.loads((root / "ro-crate-metadata.json").read_text())["@graph"]
    entities = {entity["@id"]: entity for entity in graph}

    def named(value):
        """The entities that a property refers to."""
        return [entities[each["@id"]] for each in (value if isinstance(value, list) else [value])]

    descriptor, top = entities["ro-crate-metadata.json"], entities["./"]
    assert {"@id": "https://w3id.org/ro/crate/1.1"} in descriptor["conformsTo"]
    profiles = {profile["@id"]: profile for profile in named(top["conformsTo"])}
    assert set(profiles) == {
        "https://w3id.org/ro/wfrun/process/0.5",
        "https://w3id.org/ro/wfrun/workflow/0.5",
        "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
    }
    assert all(profile["@type"] == "CreativeWork" and profile["version"] for profile in profiles.values())
    assert all(top[key] for key in ("name", "description", "datePublished", "author"))
    (licence,) = named(top["license"])
    assert licence["@id"] == "https://spdx.org/licenses/MIT" and licence["name"] == "MIT"
    (workflow,) = named(top["mainEntity"])
    assert set(workflow["@type"]) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    assert (root / workflow["@id"]).read_bytes() == (ROOT / "Snakefile").read_bytes()
    (language,) = named(workflow["programmingLanguage"])
    assert language["@type"] == "ComputerLanguage" and language["name"] == "Snakemake"
    assert [author["name"] for author in named(workflow["creator"])] == ["The authors of this repository"]
    (action,) = named(top["mentions"])
    assert action["@type"] == "CreateAction" and named(action["instrument"]) == [workflow]
    assert action["endTime"] and named(action["agent"]) == named(top["author"])
    assert {"rules", "scripts", "config.yaml"} <= {path.name for path in (root / "workflow").iterdir()}
    referred = [part for part in named(top["hasPart"]) if "File" in part["@type"]]
    assert all(sha256_of(root / part["@id"]) == part["sha256"] for part in referred)


def test_files_of_a_new_stage_are_recorded(tmp_path):
    """Whatever a stage's files are called, a provenance block and a benchmark file are enough."""
    root = results_folder(tmp_path)
    block = json.loads((root / "benchmarks.json").read_text())["provenance"]
    (root / "new").mkdir()
    (root / "new" / "one.json").write_text(json.dumps({"provenance": block}))
    (root / "timings" / "new_stage.tsv").write_bytes((root / "timings" / "train" / "cpt.tsv").read_bytes())
    record, _ = make(root)
    assert "new/one.json" in record["results"] and record["stages"]["new_stage"]["jobs"] == 1


def test_the_rule_passes_the_outputs_of_all_jobs(tmp_path):
    """Including those of a new rule; files of a run that was removed from the config are skipped."""
    for path in ROOT.glob("[!.]*"):
        if path.name not in ("results", "tests"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "more.smk").write_text("""
include: "Snakefile"

rule new_stage:
    output: "results/smoke/new/one.json", directory("results/smoke/new/two")
    benchmark: "results/smoke/timings/new_stage.tsv"
    shell: "exit 1"
""")
    results = tmp_path / "results" / "smoke"
    for name in ("new/one.json", "new/two/three", "timings/new_stage.tsv", "runs/gone/run.json"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).touch()
    command = [sys.executable, "-m", "snakemake", "--snakefile", "more.smk", "--dry-run", "--printshellcmds"]
    command += ["--configfile", "experiments/smoke.yaml", "--quiet", "progress", "--"]
    command += ["results/smoke/provenance.json", "results/smoke/new/one.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (shell,) = [line for line in (done.stdout + done.stderr).splitlines() if "provenance.py" in line]
    assert " --files results/smoke/new/one.json results/smoke/new/two " in shell
    assert " --measured results/smoke/timings/new_stage.tsv " in shell
    assert "--summaries results/smoke/runs/cpt-16K/run.json" in shell and "gone" not in shell


def test_timings_are_summed_by_rule(tmp_path):
    root = results_folder(tmp_path)
    timings(root / "timings", root / "timings.csv", list((root / "timings").rglob("*.tsv")))
    header, *rows = (root / "timings.csv").read_text().splitlines()
    assert header == "rule,jobs,wall_seconds,cpu_seconds,peak_memory_mb"
    assert rows == [
        "train,1,3600.0,7200.0,2000.0",
        "evaluate_tasks,1,1800.0,1800.0,1000.0",
        "table1,1,0.1,0.0,",
    ]


def test_without_timings_it_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="no benchmark files; run the experiment first"):
        summed_timings([], tmp_path)
