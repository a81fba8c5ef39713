"""After a checkpoint, only jobs that its new output changes run, and those that are due behind `ancient`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Two folders are packed from one file each; what is trained on depends on the digest alone.
SNAKEFILE = """
from cpt import planning

planning.plan_fast()

rule all:
    input: expand("{name}.score", name=["same", "other"])

rule clean:
    input: "documents"
    output: "{name}.clean"
    shell: "grep {wildcards.name} documents > {output}"

checkpoint pack:
    input: "{name}.clean"
    output: packed=directory("packed/{name}"), contents="packed/{name}.json"
    shell: "mkdir -p {output.packed}; cp {input} {output.packed}/all; cp {input} {output.contents}"

rule plan:
    input: "packed/{name}.json", packed=ancient("packed/{name}")
    output: "{name}.plan"
    shell: "cp {input[0]} {output}; echo plan {wildcards.name} >> done"

rule train:
    input: "{name}.plan", packed=ancient("packed/{name}")
    output: directory("models/{name}")
    shell: "mkdir {output}; cp {input.packed}/all {output}; echo train {wildcards.name} >> done"

rule score:
    input: "models/{name}"
    output: "{name}.score"
    shell: "cp {input}/all {output}; echo score {wildcards.name} >> done"
"""


# Training waits for scores of the base model, which are made again if the config asks for other items, and
# for held-out text, whose file exists some time before its job ends.
WAITING = """
from cpt import planning

planning.plan_fast()

rule all:
    input: "base.score", "model.score"

rule score_base:
    output: "base.score"
    params: number=config["items"]
    shell: "echo {params.number} > {output}"

rule held_out:
    output: "held_out"
    shell: "touch {output}; sleep 3"

checkpoint pack:
    output: "packed"
    shell: "sleep 1.5; touch {output}"

rule plan:
    input: "packed"
    output: "plan"
    shell: "touch {output}"

rule train:
    input: "plan", ancient("base.score"), ancient("held_out"), packed=ancient("packed")
    output: "model"
    shell: "touch {output}; echo trained >> done"

rule score:
    input: "model"
    output: "model.score"
    params: number=config["items"]
    shell: "echo {params.number} > {output}"
"""


def snakemake(folder: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        check=True,
        timeout=600,
    )


def test_what_follows_from_equal_contents_is_not_done_again(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)

    def done(documents: str) -> set[str]:
        (tmp_path / "documents").write_text(documents)
        (tmp_path / "done").write_text("")
        snakemake(tmp_path, "--cores", "1", "--quiet", "all")
        return set((tmp_path / "done").read_text().splitlines())

    steps = ("plan", "train", "score")
    assert done("same 1\nother 1\n") == {f"{step} {name}" for step in steps for name in ("same", "other")}
    assert done("same 1\nother 2\n") == {f"{step} other" for step in steps}
    assert (tmp_path / "other.score").read_text() == "other 2\n"
    assert done("same 1\nother 2\n") == set()  # packed again, with the same contents


def test_what_is_due_itself_is_done_behind_an_ancient_input(tmp_path):
    (tmp_path / "Snakefile").write_text(WAITING)
    for items in ("1", "2"):
        snakemake(tmp_path, "--cores", "4", "--quiet", "all", "--config", f"items={items}")
        assert [(tmp_path / f"{name}.score").read_text() for name in ("base", "model")] == [f"{items}\n"] * 2
    assert (tmp_path / "done").read_text() == "trained\n"


def test_a_target_is_made_where_its_ancient_input_is_there_before_its_job_ends(tmp_path):
    (tmp_path / "Snakefile").write_text(WAITING)
    snakemake(tmp_path, "model", "--cores", "4", "--quiet", "all", "--config", "items=1")
    assert (tmp_path / "model").exists()
