"""After a checkpoint only what its new output changes is done, however far downstream it lies."""

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


def test_what_follows_from_equal_contents_is_not_done_again(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)

    def done(documents: str) -> set[str]:
        (tmp_path / "documents").write_text(documents)
        (tmp_path / "done").write_text("")
        subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
            check=True,
            timeout=600,
        )
        return set((tmp_path / "done").read_text().splitlines())

    steps = ("plan", "train", "score")
    assert done("same 1\nother 1\n") == {f"{step} {name}" for step in steps for name in ("same", "other")}
    assert done("same 1\nother 2\n") == {f"{step} other" for step in steps}
    assert (tmp_path / "other.score").read_text() == "other 2\n"
    assert done("same 1\nother 2\n") == set()  # packed again, with the same contents
