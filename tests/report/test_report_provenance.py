"""The record of an experiment and its RO-Crate."""

import json
import re
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from rocrate.rocrate import ROCrate

import provenance
from cpt.errors import UserError
from cpt.files import sha256_of
from cpt.report.merged import belongs
from cpt.report.record import record

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
    config = {"name": "small", "runs": {"base": {}, "cpt": {}}}
    config |= {"mixtures": {"domain": {"own": 1.0}}, "corpora": {"own": {}}}
    write("config.yaml", yaml.safe_dump(config))
    write("corpora/own/raw/00000.json", {**shard, **block("c1", 5)})
    write("models/base.json", {"source": {"repo": "m/n"}, "sha256": {}, "parameters": 7, **block("c2", 6)})
    write("benchmarks.json", {"tasks": {"piqa": {"items": 2, "content_sha256": "e"}}, **block("c3", 1)})
    write("packed/domain/ledger.json", {"mixture": "domain", "sequences_sha256": "f", **block("c4", 1)})
    device = gpus[0] if gpus else "cpu"
    write("runs/cpt/run.json", {"device": device, "processes": 2, **block("c5", 3600)})
    write("evaluations/cpt/piqa.json", block("c6", 100))
    write("evaluations/cpt/.answers/piqa.json", "not a result")
    write("table1.csv", "a,b\n1,2\n")
    write("released/cpt/README.md", "card")
    write("timings/train/cpt.tsv", COLUMNS + "3600\t1:00:00\t2000\t0\t0\t0\t0\t0\t0\t7200\n")
    write("timings/evaluate_tasks/cpt/1.tsv", COLUMNS + "1800\t0:30:00\t1000\t0\t0\t0\t0\t0\t0\t1800\n")
    write("timings/table1.tsv", COLUMNS + "0.1\t0:00:00\t-\t-\t-\t-\t-\t-\t-\t-\n")
    return root


def make(root: Path) -> tuple[dict, ROCrate]:
    provenance.main(
        Namespace(results=root, output=root / "provenance.json", crate=root / "ro-crate-metadata.json")
    )
    return json.loads((root / "provenance.json").read_text()), ROCrate(root)


def test_record_has_what_made_the_results(tmp_path):
    found, _ = make(results_folder(tmp_path))
    assert found["config"]["sha256"] == sha256_of(tmp_path / "config.yaml")
    assert found["git_commits"] == ["abc"] and found["packages"] == {"numpy": ["2"]}
    assert found["data"] == [
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
    assert found["results"]["runs/cpt/run.json"]["code_digest"] == "c5" and len(found["results"]) == 6
    assert found["packed"] == {"domain": "f"} and found["benchmarks"]["piqa"]["items"] == 2
    assert found["stages"]["train"]["wall_seconds"] == 3600
    assert found["stages"]["table1"]["cpu_seconds"] == 0


def test_energy_follows_from_its_stated_assumption(tmp_path):
    on_cpu = record(results_folder(tmp_path / "cpu"))["energy"]
    assert on_cpu["cores_kwh"] == pytest.approx(9000 * 10 / 3.6e6)
    assert on_cpu["memory_kwh"] == pytest.approx(0.3725 * (2 * 3600 + 1 * 1800) / 3.6e6, abs=1e-6)
    assert on_cpu["gpus_kwh"] == 0 and "10 W per busy core" in on_cpu["assumption"]
    on_gpu = record(results_folder(tmp_path / "gpu", ["NVIDIA A100-SXM4-40GB"] * 2))["energy"]
    # Two processes for an hour, and half an hour of scoring on one GPU, at 400 W.
    assert on_gpu["gpus_kwh"] == pytest.approx(0.4 * (2 + 0.5))
    assert on_gpu["total_kwh"] == pytest.approx(on_cpu["total_kwh"] + on_gpu["gpus_kwh"])


def test_crate_is_read_back_with_files_inputs_and_the_run(tmp_path):
    _, crate = make(root := results_folder(tmp_path / "results"))
    assert crate.name == "Continued pre-training: small"
    described = {entity.id for entity in crate.data_entities}
    assert {"config.yaml", "provenance.json", "table1.csv", "runs/cpt/run.json", "released/cpt/"} == described
    assert all((root / name).exists() for name in described)
    table = crate.get("table1.csv")
    assert table["sha256"] == sha256_of(root / "table1.csv") and table["contentSize"] == "8"
    run = crate.get("#run")
    assert run["instrument"]["version"] == "abc"
    assert [entity["name"] for entity in run["object"]] == ["base model: m/n", "corpus own: a/b"]
    assert {entity.id for entity in run["result"]} == described
    crate.write(tmp_path / "copy")  # complete: the package finds every file that it describes
    assert (tmp_path / "copy" / "table1.csv").read_text() == "a,b\n1,2\n"


def test_what_the_config_has_no_more_is_left_out(tmp_path):
    """Taken out of the config, a run, a mixture and a corpus leave their files in the folder."""
    root = results_folder(tmp_path, ["NVIDIA A100-SXM4-40GB"])
    expected, crate = make(root)
    described = {entity.id for entity in crate.data_entities}
    for kept, gone in (
        *(("corpora/own", "corpora/gone"), ("packed/domain", "packed/gone"), ("runs/cpt", "runs/gone-0.5")),
        *(("evaluations/cpt", "evaluations/gone-0.5"), ("released/cpt", "released/gone-0.5")),
    ):
        shutil.copytree(root / kept, root / gone)
    shutil.copy(root / "models" / "base.json", root / "models" / "gone-0.5.json")
    of_corpus = "evaluations/cpt/bits_per_byte.gone.json"
    shutil.copy(root / "evaluations" / "cpt" / "piqa.json", root / of_corpus)
    shutil.copy(root / "timings" / "train" / "cpt.tsv", root / "timings" / "train" / "gone-0.5.tsv")
    found, crate = make(root)
    assert found == expected
    assert {entity.id for entity in crate.data_entities} == described


def test_every_kind_of_file_that_names_a_run_or_its_text_is_known():
    """A rule that is added has to be told to cpt.report.merged, if its files name one of these."""
    config = {
        "runs": {"r-0.5": {}},
        "mixtures": {"m": {}},
        "corpora": {"c.1": {}},
        "reference_models": {"f": {}},
    }
    names = {"run": "r-0.5", "mixture": "m", "corpus": "c.1", "reference": "f", "page": "card-r-0.5"}
    others = {"shard": "00000", "tokens": "200", "scope": "documents", "task": "piqa", "number": "1"}
    rules = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    written = set(re.findall(r'f"\{R\}/([^"]+\.(?:tsv|json|csv))"', rules))
    checked = 0
    for path in sorted(written):
        path = path.replace("{{", "{").replace("}}", "}")
        wildcards = set(re.findall(r"\{(\w+)\}", path))
        if not wildcards & set(names):
            continue
        assert belongs(path.format(**names, **others), config), path
        for wildcard in wildcards & set(names):
            gone = {**names, wildcard: "card-gone" if wildcard == "page" else "gone"}
            assert not belongs(path.format(**gone, **others), config), (path, wildcard)
            checked += 1
    assert checked > 25


def test_without_timings_it_says_what_to_do(tmp_path):
    root = results_folder(tmp_path)
    for file in (root / "timings").rglob("*.tsv"):
        file.unlink()
    with pytest.raises(UserError, match="no benchmark files; run the experiment first"):
        record(root)
