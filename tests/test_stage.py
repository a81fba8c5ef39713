"""How rules call their stages: names that must agree, and the command made from them."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cpt import stage
from cpt.errors import UserError

PRINT = """import json, sys
words = []
for word in sys.argv[1:]:
    words += open(word[1:]).read().split("\\n")[:-1] if word.startswith("@") else [word]
print(json.dumps(words))
"""
SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "pack.py"
    path.write_text("def pack(tokens, packed, mixture, seed=0):\n    pass\n")
    return path


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, None),
        ({"params": ["seed"]}, None),
        ({"wildcards": ["mixture", "corpus"]}, None),
        ({"params": ["sed"]}, "rule pack: params.sed is no parameter of pack.py; rename it"),
        ({"input": ["tokens", "packed"]}, "rule pack: packed is in input and in output; rename one of them"),
        ({"wildcards": []}, "rule pack: pack.py needs mixture; name an input, output or param so"),
    ],
)
def test_names_of_a_rule_are_those_of_the_function(script, groups, message):
    names = {"input": ["tokens"], "output": ["packed"], "params": [], "wildcards": ["mixture"]} | groups
    if message is None:
        stage.check_names("pack", script, names)
    else:
        with pytest.raises(UserError) as caught:
            stage.check_names("pack", script, names)
        assert str(caught.value) == message


def test_a_script_without_its_function(tmp_path):
    (tmp_path / "x.py").write_text("def y():\n    pass\n")
    with pytest.raises(UserError, match=r"x\.py: expected a function x, the stage; define it"):
        stage.parameters(tmp_path / "x.py")
    (tmp_path / "z.py").write_text("def z(*, files):\n    pass\n")
    with pytest.raises(UserError, match=r"z\.py: a stage takes plain parameters alone; remove `\*`"):
        stage.parameters(tmp_path / "z.py")


@pytest.mark.parametrize(
    "value",
    [
        "it's a {name} $HOME",
        ["a b", "{c}"],
        {"key": ["ä", 1.5, None]},
        [f"results/o ne/{number:05d}.keep.npy" for number in (*range(7, 12), 3, 99_999)],
        [f"{number:05d}.parquet" for number in range(6)],
        [f"{number} it's.txt" for number in range(40_000)],
        [Path("x"), 1],
        ["-x.md", "@y.md"],
        [],
        None,
        True,
        0,
    ],
)
def test_bash_reads_what_was_written(tmp_path, value):
    (tmp_path / "print.py").write_text(PRINT)
    command = f"{sys.executable} {tmp_path / 'print.py'} {stage.option('some_name', value)}"
    (tmp_path / "command").write_text(command)
    done = subprocess.run(["bash", tmp_path / "command"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == stage.arguments(some_name=value)


def test_thousands_of_shards_are_read_at_a_glance():
    shards = [f"results/corpora/fineweb_edu/filtered/{number:05d}.parquet" for number in range(2_400)]
    assert len(stage.option("documents", shards)) < 120


def test_a_stage_reads_more_files_than_a_command_may_have(tmp_path):
    """Linux takes 2 MiB of words at most."""
    (tmp_path / "sizes.py").write_text(
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from collections.abc import Sequence\nfrom pathlib import Path\nfrom cpt.command import run\n"
        "def sizes(files: Sequence[Path]) -> None:\n    print(len(files), files[-1])\nrun(sizes)\n"
    )
    files = stage.option("files", [f"{'x' * 100} {number}.txt" for number in range(40_000)])
    (tmp_path / "command").write_text(f"{sys.executable} {tmp_path / 'sizes.py'} {files}")
    done = subprocess.run(["bash", tmp_path / "command"], capture_output=True, text=True, check=True)
    assert done.stdout == f"40000 {'x' * 100} 39999.txt\n"


def test_a_script_holds_one_function_and_no_option_table():
    for script in SCRIPTS.glob("*.py"):
        if script.stem == "launch":  # which isn't a stage
            continue
        tree = ast.parse(script.read_text())
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert [function.name for function in functions] == [script.stem]
        described = ast.get_docstring(functions[0]) or ""
        for name in stage.parameters(script):
            assert f"    {name}: " in described, f"{script.name}: {name} isn't described"
