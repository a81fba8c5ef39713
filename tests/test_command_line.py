"""The snakemake that `make environment` installs: the mistakes that it reports before Snakemake starts."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "envs" / "snakemake"
FRONT = runpy.run_path(str(PROGRAM))


@pytest.fixture
def mistake(tmp_path, monkeypatch):
    """The mistake that the program's check finds in a command line; "" if there is none."""
    monkeypatch.chdir(tmp_path)

    def check(*words: str) -> str:
        try:
            FRONT["check"](words, unreadable=pytest.fail)
        except FRONT["Mistake"] as problem:
            return str(problem)
        return ""

    return check


@pytest.fixture
def front(tmp_path):
    """Run the program as installed, with a stand-in for Snakemake behind it."""
    stand_in = tmp_path / "stand-in" / "snakemake"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "cli.py").write_text("import sys\ndef main():\n    print(*sys.argv[1:], sep='|')\n")
    program = tmp_path / "an environment" / "snakemake"
    program.parent.mkdir()
    program.write_bytes(PROGRAM.read_bytes())
    program.chmod(0o755)
    (program.parent / "python").symlink_to(sys.executable)
    (tmp_path / "my.yaml").write_text("train: {seed: 1}\n")
    packages = Path(yaml.__file__).parents[1]

    def run(*words: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": f"{stand_in.parent}:{packages}"}
        return subprocess.run(
            [program, *words], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120
        )

    return run


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("--config", "runs={a: {tokens: 1M}}", "table1"),
            "--config: 'table1' isn't KEY=VALUE; correct it, or if it is a target, put it before --config",
        ),
        (("-C", "=3"), "--config: '=3' isn't KEY=VALUE"),
        (("--config=train",), "--config: 'train' isn't KEY=VALUE"),
        (
            ("--config", "runs.cpt-own.tokens=50000"),
            "--config: the key runs.cpt-own.tokens has dots, which Snakemake can't read; "
            "write 'runs={cpt-own: {tokens: 50000}}'",
        ),
        (
            ("-Cruns={cpt-own: {tokens: 8192}",),
            "--config 'runs={cpt-own: {tokens: 8192}', line 1, column 30: expected ',' or '}', but got",
        ),
        (("--config", "runs=[a, b"), "column 11: expected ',' or ']', but got the end; check brackets"),
        (
            ("--config", "runs={a: 1, a: 2}"),
            "--config 'runs={a: 1, a: 2}', line 1: `a` is there twice; keep one",
        ),
        (("--config", "runs={a: {tokens: 500,000}}"), "YAML ends the number 500 at the comma before 000"),
        (("--configfile", "my.yaml", "nowhere.yaml"), "--configfile: there is no file nowhere.yaml in "),
        (
            ("--configfile=nowhere.yaml",),
            "; correct the path, or if it is a target, put it before --configfile",
        ),
        (("--configfile", "folder"), "--configfile: folder is a folder; name a YAML file in it"),
        (("--configfile", "binary.yaml"), "--configfile: binary.yaml can't be read as text"),
        (
            ("--configfile", "my.yaml", "--configfiles=other file.yaml"),
            "--configfile is given more than once, and only the last would count; "
            "write --configfile my.yaml 'other file.yaml'",
        ),
        (("--config=aa=1", "-n", "-Cbb=2"), "write --config aa=1 bb=2"),
        (("--forcer", "train", "-Rtable1"), "write --forcerun train table1"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(mistake, words, problem):
    Path("folder").mkdir()
    Path("binary.yaml").write_bytes(b"\xff\xfe")
    Path("my.yaml").write_text("train: {seed: 1}\n")
    line = mistake("--dry-run", *words)
    assert problem in line and "\n" not in line


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "train:\n  seed: 1\nruns: {}\n\ntrain: {}\n",
            ", line 5: `train` is there twice (line 1 has it too); keep one",
        ),
        ("runs:\n  a: {tokens: 1, cpus: 2, tokens: 2}\n", ", line 2: `tokens` is there twice; keep one"),
        ("mixtures: [{a: 1}, {b: 1, 'b': 2}]", ", line 1: `b` is there twice"),
        ('{"train": {"seed": 1, "seed": 2}}', ": `seed` is there twice in one object; keep one"),
        (
            "runs: {a: {tokens: 5_000,000, cpus: 1}}",
            ", line 1: YAML ends the number 5_000 at the comma before 000; "
            "write numbers without commas, such as 500_000",
        ),
        ("train:\n  seed: 1\n   cpus: 2\n", ", line 3, column 8: mapping values are not allowed here; check"),
        (
            "train:\n\tseed: 1\n",
            ", line 2, column 1: found character '\\t' that cannot start any token; check",
        ),
        ("runs: {a: 1\ntrain: 2\n", "got ':' (while parsing a flow mapping that begins in line 1); check"),
        ("a: 1\nb: \x07\n", ", line 2: the character U+0007 isn't allowed; check"),
        (
            "name: !model x\n",
            ", line 1, column 7: could not determine a constructor for the tag '!model'; check",
        ),
        (
            "name: 2026-13-01\n",
            ": month must be in 1..12; check brackets, quotes and indentation (no tabs) there",
        ),
        ("- a\n", " is a list; a mapping of keys is expected, such as `train: {seed: 1}`"),
        ("seed=1\n", " is a plain text; a mapping of keys is expected"),
        ("# nothing yet\n", " has no key, and Snakemake refuses such a file; drop it, or write {} into it"),
        ("null", " has no key, and Snakemake refuses such a file"),
    ],
)
def test_a_mistake_in_a_config_file_names_file_and_line(mistake, text, problem):
    for path in (Path("my.yaml"), Path("study/config.yaml")):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    line = mistake("--configfile", "my.yaml")
    assert line.startswith("my.yaml") and problem in line and "\n" not in line
    assert mistake("--snakefile", "study/Snakefile") == line.replace("my.yaml", "study/config.yaml")
    os.chdir("study")
    assert mistake() == line.replace("my.yaml", "config.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "base: &base {a: 1, c: 2}\nx: {<<: *base, a: 2}\ny:\n  <<: *base\n  <<: {d: 1}\n  c: 3\n",
        '{\n\t"name": "\\ud83d\\ude00",\n\t"train": {"seed":1}}',  # JSON that YAML refuses
        "\ufeffname: a\r\ntrain: {seed: 1}\r\n",
        "a: &a [1, *a]\nb: {c: !!python/tuple [1], 5: , d: 3, 6: x}\n",
        "{}\n",
    ],
)
def test_what_snakemake_reads_passes(mistake, text):
    from snakemake.common.configfile import load_configfile

    Path("my.yaml").write_text(text, newline="")
    assert isinstance(load_configfile("my.yaml"), dict)
    assert not mistake("--configfile", "my.yaml", "--config", "name=a: b: c", "aa=", "bb={x: !y 2026-13-01}")


def test_every_option_of_snakemake_with_several_values_is_known():
    from snakemake.cli import get_argument_parser

    list_options = {name for names in FRONT["LISTS"] for name in names.split(",")}
    options = {name: action for action in get_argument_parser()._actions for name in action.option_strings}
    assert list_options == {name for name, action in options.items() if action.nargs in ("+", "*")}
    # argparse reads an unknown option as a short form of a known one.
    short = {
        name
        for name in options
        if name not in list_options and any(other.startswith(name) for other in list_options)
    }
    assert short == {"--force"}


@pytest.mark.parametrize(
    "words",
    [
        ("table1", "--config", "train={seed: 1}", "chat=", "--configfile", "my.yaml", "--", "all"),
        ("--force", "--forcerun", "train", "-q", "-q", "rules", "--", "-C", "x"),
        ("--conf", "my.yaml"),  # ambiguous
        ("-s",),
    ],
)
def test_all_else_reaches_snakemake_as_it_is(front, words):
    done = front(*words)
    assert done.stdout == "|".join(words) + "\n", done.stderr


def test_the_program_ends_with_the_mistake(front):
    done = front("--config", "train")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("error: --config: 'train' isn't KEY=VALUE") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("cores", "given"), [("CORES=", "all"), ("CORES=3", "3"), ("DEMO=", "all")])
def test_no_cores_mean_all(cores, given):
    command = ["make", "-n", "--assume-old=.venv/installed", "demo", cores]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "CORES"))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f"snakemake --cores {given} --rerun-incomplete" in done.stdout
