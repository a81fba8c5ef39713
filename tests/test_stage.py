"""How rules call their stages: names that must agree, and the command that is made from them."""

import ast
import subprocess
from pathlib import Path

import pytest

from cpt import stage
from cpt.errors import UserError

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


@pytest.mark.parametrize(
    "value",
    [
        "it's a {name} $HOME",
        ["a b", "{c}"],
        {"key": ["ä", 1.5, None]},
        [f"results/o ne/{number:05d}.keep.npy" for number in (*range(7, 12), 3, 99_999)],
        [f"{number:05d}.parquet" for number in range(6)],
        [Path("x"), 1],
        [],
        None,
        True,
        0,
    ],
)
def test_bash_reads_what_was_written(value):
    text = stage.option("some_name", value)
    command = f"printf '%s\\0' {text}" if text else "true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == stage.arguments(some_name=value)


def test_thousands_of_shards_make_a_short_command():
    shards = [f"results/corpora/fineweb_edu/filtered/{number:05d}.parquet" for number in range(2_400)]
    assert len(stage.option("documents", shards)) < 100


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
