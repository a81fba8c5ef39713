"""Atomic files, progress lines, and the frame around scripts."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from cpt.command import parser_of
from cpt.config_sections import LengthFilter
from cpt.errors import DamagedFileError, UserError
from cpt.files import atomic, one_for_each, read_json, scratch, sha256_of, write_json
from cpt.stage import arguments

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def test_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError), atomic(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with atomic(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole" and list(target.parent.iterdir()) == [target]


def test_failed_rewrite_keeps_the_former_content(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("former")
    with pytest.raises(RuntimeError), atomic(target) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert target.read_text() == "former"


def test_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "folder"
    for name in ("a", "b"):
        with atomic(target) as temporary:
            (temporary / "inner").mkdir(parents=True)
            (temporary / "inner" / name).write_text(name)
    assert [p.name for p in (target / "inner").iterdir()] == ["b"]


def test_leftover_of_a_killed_process_is_overwritten(tmp_path):
    (tmp_path / ".folder.incomplete").mkdir()
    (tmp_path / ".folder.incomplete" / "junk").write_text("junk")
    with atomic(tmp_path / "folder") as temporary:
        temporary.mkdir()
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match=r"x.txt: can't be written \(No space left on device\); make room in"):
        with atomic(tmp_path / "x.txt") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_scratch_folder_is_empty_at_first_and_gone_at_last(tmp_path):
    (tmp_path / ".x.csv.scratch").mkdir()
    (tmp_path / ".x.csv.scratch" / "junk").write_text("of a killed process")
    with scratch(tmp_path / "x.csv") as folder:
        assert list(folder.iterdir()) == []
        (folder / "part").touch()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b'"\xff"'])
def test_damaged_json_names_the_file(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"x.json: not complete JSON .*; delete it and run again"):
        read_json(tmp_path / "x.json")


def test_json_round_trip_and_no_nan(tmp_path):
    write_json(tmp_path / "x.json", {"text": "größer", "numbers": [1, 2.5]})
    assert read_json(tmp_path / "x.json") == {"text": "größer", "numbers": [1, 2.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "y.json", float("nan"))
    assert not (tmp_path / "y.json").exists()


def test_files_that_are_not_as_many_as_their_keys():
    assert list(one_for_each(iter("ab"), [1, 2])) == [("a", 1), ("b", 2)]
    with pytest.raises(UserError, match=r"expected 2 files, one for each of \['a', 'b'\] ..., but got 1: x"):
        one_for_each("ab", ["x"])


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")


ALL_SCRIPTS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
# One process runs all as main programs: each start would take seconds for imports that they share.
HELP = """
import contextlib, io, json, runpy, sys

printed = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            assert not end.code, (script, end.code)
    printed[script] = text.getvalue()
print(json.dumps(printed))
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What each script prints for --help."""
    result = subprocess.run(
        [sys.executable, "-c", HELP, *(str(SCRIPTS / f"{script}.py") for script in ALL_SCRIPTS)],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return {Path(script).stem: text for script, text in json.loads(result.stdout).items()}


@pytest.mark.parametrize("script", ALL_SCRIPTS)
def test_every_script_explains_itself(helps, script):
    printed = helps[script]
    assert len(printed.splitlines()) > 5
    if script != "launch":  # which isn't a stage
        options = re.findall(r"^  (--\S+)( .*)?(?:\n {8,}(\S.*))?", printed, re.MULTILINE)
        assert "--log" in printed and not [name for name, *text in options if not any(text)]


def run_script(tmp_path, body: str) -> subprocess.CompletedProcess:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from cpt.command import run\nfrom cpt.errors import UserError\n"
        f"def script():\n    {body}\nrun(script)\n"
    )
    command = [sys.executable, str(script), "--log", str(tmp_path / "log" / "x.log")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_users_mistake_is_one_message_without_traceback(tmp_path):
    result = run_script(tmp_path, "raise UserError('file x: do y')")
    assert result.returncode == 1
    assert result.stderr.strip() == "error: file x: do y"
    assert "error: file x: do y" in (tmp_path / "log" / "x.log").read_text()


def test_an_unexpected_error_has_its_traceback_in_the_log(tmp_path):
    result = run_script(tmp_path, "print(1 / 0)")
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr and "Traceback" not in result.stderr
    assert "Traceback" in (tmp_path / "log" / "x.log").read_text()


def test_what_libraries_print_goes_to_the_log(tmp_path):
    result = run_script(tmp_path, "print('chatter'); sys.stderr.write('noise')")
    assert result.returncode == 0 and result.stderr == "" and result.stdout == ""
    assert "chatter" in (tmp_path / "log" / "x.log").read_text()


def test_progress_draws_nothing_but_lines_where_there_is_no_terminal(tmp_path):
    result = run_script(
        tmp_path,
        "from cpt.progress import progress_over\n    for _ in progress_over(range(5), 'work', 5, 'it'): pass",
    )
    assert result.stderr == ""
    assert "work: 5/5 it" in (tmp_path / "log" / "x.log").read_text()


def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "log").write_text("a file in the folder's place")
    result = run_script(tmp_path, "pass")
    assert result.returncode == 1
    assert result.stderr.strip() == f"error: {tmp_path / 'log'}: the log can't be written (File exists)"


def everything(
    file: Path,
    files: Sequence[Path],
    kind: Literal["a", "b"],
    thresholds: LengthFilter,
    runs: dict[str, int],
    ratio: float | None = None,
    keep: bool = False,
    names: Sequence[str] = (),
) -> None:
    """What a stage may take.

    Args:
        file: a file, which is
            described on two lines, 100 % of it.
        thresholds: a section.
    """


VALUES = {"file": Path("a b"), "files": [Path("x"), Path("y")], "kind": "b", "runs": {"one": 1, "two": 2}}
LENGTH = LengthFilter(minimum_lines=3, short_line_characters=10, maximum_short_line_share=0.5)


def parsed(**values: object) -> dict:
    return vars(parser_of(everything).parse_args(arguments(**values)))


def test_a_command_line_gives_a_stage_the_values_that_it_was_made_from():
    values = VALUES | {"thresholds": LENGTH, "ratio": 0.25, "keep": True, "names": ["n"]}
    assert parsed(**values) == values | {"log": None, "code": "unknown"}
    assert (
        parsed(**values | {"ratio": None, "keep": False, "names": []}).items()
        >= {"keep": False, "ratio": None}.items()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "c"}, "argument --kind: invalid choice: 'c' (choose from 'a', 'b')"),
        ({"file": None}, "the following arguments are required: --file"),
        ({"ratio": "half"}, "argument --ratio: invalid float value: 'half'"),
        ({"runs": "{bad"}, "argument --runs: expected JSON, got '{bad'"),
        (
            {"thresholds": {"minimum_lines": -3, "maximum_short_line_share": 2}},
            "argument --thresholds: minimum_lines: Input should be greater than or equal to 0; maximum_short",
        ),
        ({"unknown": 1}, "unrecognized arguments: --unknown=1"),
    ],
)
def test_a_wrong_option_is_named(capsys, change, message):
    with pytest.raises(SystemExit):
        parsed(**VALUES | {"thresholds": LENGTH} | change)
    assert message in capsys.readouterr().err


def test_help_is_made_from_signature_and_docstring():
    text = " ".join(parser_of(everything).format_help().split())
    assert "What a stage may take." in text and "Args" not in text
    assert "--file FILE a file, which is described on two lines, 100 % of it." in text
    assert "--keep, --no-keep" in text and "--kind {a,b}" in text


def test_provenance_is_json_and_complete():
    from cpt.provenance import provenance

    block = json.loads(json.dumps(provenance({"a": 1}, {"train": 0})))
    assert set(block) == {
        "settings_digest",
        "code_digest",
        "git_commit",
        "versions",
        "hardware",
        "seeds",
        "wall_seconds",
    }
    assert {"python", "torch", "snakemake"} <= set(block["versions"])
