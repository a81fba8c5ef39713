"""Every stage under kills and faults: no output that looks finished is incomplete; errors take one line.

docs/faults.md lists these faults.
"""

import random
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
from stages import Forked, Stage, content, run_all, stages_of, write_sources

RANDOM_KILLS = 4  # per stage
# What each stage reads.
INPUTS = {
    "download": ["sources/two-0.parquet"],
    "filter_documents": ["corpora/two/raw/00000.parquet"],
    "deduplicate": ["corpora/two/filtered/00000.parquet"],
    "minhash": ["corpora/two/filtered/00000.parquet"],
    "near_duplicates": [
        "corpora/two/filtered/00000.parquet",
        "corpora/two/exact/keep/00000.keep.npy",
        "corpora/two/minhash/00000.npy",
    ],
    "decontaminate": [
        "corpora/two/filtered/00000.parquet",
        "corpora/two/near/keep/00000.keep.npy",
        "sources/benchmarks/items.parquet",
    ],
    "held_out_overlap": ["corpora/two/filtered/00000.parquet", "corpora/two/decontaminated/00000.keep.npy"],
    "tokenize_documents": [
        "corpora/two/filtered/00000.parquet",
        "corpora/two/decontaminated/00000.keep.npy",
        "model/tokenizer.json",
        "model/config.json",
    ],
    "held_out": ["corpora/two/tokens/00000.held_out.parquet"],
    "pack": [f"corpora/one/tokens/00000{ending}" for ending in (".tokens", ".ends.npy", ".json")],
    "drop_report": [
        "corpora/two/filtered/00000.drops.csv",
        "corpora/two/filtered/00000.examples.jsonl",
        "corpora/one/decontaminated/00000.json",
        "corpora/one/tokens/00000.drops.csv",
    ],
    "corpus_statistics": [
        "corpora/two/filtered/00000.drops.csv",
        "corpora/duplicates.csv",
        "corpora/one/decontaminated/00000.json",
        "corpora/one/tokens/00000.quality.csv",
        "corpora/one/tokens/00000.drops.csv",
        "packed/mixture/ledger.json",
    ],
}


class Job(NamedTuple):
    """A stage's last job in the folder `base`, where all stages ran without faults, and its outputs."""

    base: Path
    stage: Stage
    script: Forked
    expected: list

    def check_whole(self) -> list[Path]:
        """Check that every output is absent or complete; returns the existing ones."""
        there = [path for path in self.stage.outputs if path.exists()]
        for path, wanted in zip(self.stage.outputs, self.expected, strict=True):
            assert path not in there or content(path) == wanted, f"{path} looks finished, but isn't"
        return there

    def leftovers(self) -> list[Path]:
        return [path for path in self.base.rglob("*") if path.name.startswith(".")]

    def check_run(self) -> float:
        """Run to the end: all outputs exist and nothing else; returns seconds of processor time."""
        end = self.script.run()
        assert end["status"] == 0
        assert self.check_whole() == self.stage.outputs
        assert self.leftovers() == []
        return end["seconds"]

    def kill(self, **moment: float) -> bool:
        """Kill the stage; returns whether the kill came before its end."""
        status = self.script.run(**moment)["status"]
        self.check_whole()
        assert status in (0, -signal.SIGKILL)
        return status != 0

    def remove_outputs(self) -> None:
        for path in self.stage.outputs:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def run_to_error(self, **order: int) -> str:
        """Run the stage under a fault; returns the one line that it must fail with."""
        end = self.script.run(**order)
        self.check_whole()
        assert self.leftovers() == []
        (line,) = end["shown"].splitlines()
        assert end["status"] == 1 and line.startswith("error: "), line
        return line


@pytest.fixture(scope="module")
def rules(config_filters):
    # The tests' tokenizer has a small vocabulary.
    return {
        **config_filters,
        "token_quality": {**config_filters["token_quality"], "minimum_distinct_share": 0.0},
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model_folder, rules):
    """A folder in which all stages ran without faults, and a copy of it."""
    base, backup = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("backup")
    write_sources(base / "sources")
    shutil.copytree(model_folder, base / "model")
    run_all(stages_of(base, rules))
    shutil.copytree(base, backup / "base")
    return base, backup / "base"


@pytest.fixture(scope="module", params=INPUTS)
def forked(request, finished, rules, tmp_path_factory):
    base, _ = finished
    stage = stages_of(base, rules)[request.param][-1]
    expected = [content(path) for path in stage.outputs]
    with Forked(stage, tmp_path_factory.mktemp(request.param)) as script:
        yield Job(base, stage, script, expected)


@pytest.fixture
def job(forked, finished):
    base, backup = finished
    shutil.rmtree(base)
    shutil.copytree(backup, base)
    return forked


def test_kills(job):
    """Kills before each file change while old outputs exist, then at random moments without outputs."""
    chance = random.Random(job.stage.script)
    event = 1
    while job.kill(event=event):
        event += 1
        if event % 5 == 0 or job.check_whole() != job.stage.outputs:
            job.check_run()  # otherwise the next process starts from the leftovers of several kills
    assert event > len(job.stage.outputs)
    seconds = job.check_run()
    for _ in range(RANDOM_KILLS):
        job.remove_outputs()
        job.kill(seconds=chance.uniform(0, seconds))
    job.check_run()


def test_full_disk(job):
    """The disk is full early, or when an output has nine tenths of its bytes."""
    files = [file for path in job.stage.outputs for file in (path, *path.rglob("*")) if file.is_file()]
    for room in {64, *(file.stat().st_size * 9 // 10 for file in files)}:
        job.remove_outputs()
        line = job.run_to_error(room=room)
        assert f"error: {job.base}" in line
        assert "can't be written (File too large); make room in" in line
    job.check_run()


def test_no_folder_to_write_in(job):
    folder = job.stage.outputs[0].parent
    shutil.rmtree(folder)
    folder.write_text("a file in the folder's place")
    line = job.run_to_error()
    assert f"error: {folder}: File exists" in line


@pytest.mark.parametrize("damage", ["missing", "cut", "other content"])
def test_damaged_inputs(job, finished, damage):
    for name in INPUTS[job.stage.script]:
        path = job.base / name
        if damage == "missing":
            path.unlink()
        else:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\0\xffother\n")
        line = job.run_to_error()
        assert path.name in line
        shutil.copy(finished[1] / name, path)
    job.check_run()
