"""The check runs compilers: what they lack, options in CC and CXX, and no compiler at all."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from cpt import compilers

FAILS_FOR_CXX20 = """#!/bin/sh
case "$*" in *-std=c++20*) echo "c++: error: unrecognized command line option '-std=c++20'" >&2; exit 1;; esac
exec c++ "$@"
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """program(name, text): a program on the PATH; its path."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)

    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
        return tmp_path / name

    return write


def test_compilers_of_this_machine_build_both(program):
    assert compilers.c_error() is None and compilers.cxx_error() is None and compilers.ninja_error() is None


def test_a_compiler_without_cxx20(program, monkeypatch):
    """As GCC 8.5 of RHEL 8."""
    program("old-c++", FAILS_FOR_CXX20)
    monkeypatch.setenv("CXX", "old-c++")
    error = compilers.cxx_error()
    assert error.startswith(
        "old-c++: c++: error: unrecognized command line option '-std=c++20'; C++20, OpenMP"
    )
    monkeypatch.setenv("CC", "old-c++")
    assert compilers.c_error() is None  # C doesn't need C++20


@pytest.mark.parametrize(("variable", "error"), [("CC", compilers.c_error), ("CXX", compilers.cxx_error)])
def test_a_warning_of_the_jobs_end_does_not_stop_a_compiler(program, monkeypatch, variable, error):
    """Slurm sends SIGTERM to all processes of a job."""
    compiler = {"CC": "gcc", "CXX": "g++"}[variable]
    monkeypatch.setenv(variable, str(program("warned", f'#!/bin/sh\nkill -TERM $$\nexec {compiler} "$@"\n')))
    assert error() is None


@pytest.mark.parametrize("error", [compilers.c_error, compilers.cxx_error])
def test_python_without_its_headers(program, monkeypatch, tmp_path, error):
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    assert "Python.h: No such file or directory; " in error() and "python3-dev" in error()


@pytest.mark.parametrize("command", ["gcc -m64", "gcc  -O1 -m64", "env gcc"])
def test_a_compiler_with_options(program, monkeypatch, tmp_path, command):
    monkeypatch.setenv("CC", command)
    monkeypatch.setenv("CXX", command.replace("gcc", "g++"))
    assert compilers.c_error() is None and compilers.cxx_error() is None
    # Triton 3.7.1 (runtime/build.py) and PyTorch 2.13 (in the file for ninja) read it as one word.
    for variable in ("CC", "CXX"):
        compilers.wrap_compiler(variable, tmp_path)
        program("one.c", "int one(void) { return 1; }")
        subprocess.run(
            [os.environ[variable], tmp_path / "one.c", "-c", "-o", tmp_path / variable], check=True
        )
        assert (tmp_path / variable).exists()
    assert compilers.c_error() is None and compilers.cxx_error() is None
    word = os.environ["CXX"]
    monkeypatch.setenv("CXX", command.replace("gcc", "g++"))
    compilers.wrap_compiler("CXX", tmp_path)
    assert os.environ["CXX"] == word


def test_a_compiler_with_options_in_a_folder_with_spaces(program, monkeypatch, tmp_path):
    """The folder may not exist yet: the first process of a run makes it, but may come later than others."""
    monkeypatch.setenv("CC", "gcc -m64")
    for _ in range(2):
        compilers.wrap_compiler("CC", tmp_path / "own experiments" / "work")
        assert os.environ["CC"].startswith(str(tmp_path / "own experiments" / "work" / "cc-"))
        assert compilers.c_error() is None


def test_an_option_that_the_compiler_does_not_know(program, monkeypatch):
    monkeypatch.setenv("CC", "gcc --no-such-option")
    assert "gcc --no-such-option: gcc: error: unrecognized command-line option" in compilers.c_error()


def test_no_compiler(program, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compilers.sys, "executable", str(tmp_path / "python"))
    assert compilers.c_error().startswith("gcc isn't on the PATH; a C compiler and Python.h are needed")
    assert compilers.cxx_error().startswith("c++ isn't on the PATH; C++20")
    assert compilers.ninja_error() == "ninja isn't on the PATH (pip install ninja)"
    monkeypatch.setenv("CC", "")
    assert compilers.c_error().startswith("an empty name isn't on the PATH")


def test_a_compiler_of_one_word_stays(program, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", shutil.which("gcc"))
    files = set(tmp_path.iterdir())
    compilers.wrap_compiler("CC", tmp_path)
    assert os.environ["CC"] == shutil.which("gcc") and set(tmp_path.iterdir()) == files
