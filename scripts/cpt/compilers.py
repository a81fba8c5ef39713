"""Tests of the compilers that training on GPUs needs, each on a few lines. Standard library only.

Triton, which starts the kernels of torch.compile and Liger Kernel, builds a launcher in C; DeepSpeed builds
its CPU optimizer in C++20. Both include Python.h.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from hashlib import sha256
from pathlib import Path

C_LINES = "#include <Python.h>\nPyObject *one(void) { return PyLong_FromLong(1); }\n"
CXX_LINES = "#include <Python.h>\n#include <compare>\nbool less(int a, int b) { return (a <=> b) < 0; }\n"


def c_error() -> str | None:
    """Why the C compiler that Triton uses (CC, else gcc or clang) can't build for it; None if it can."""
    default = next((name for name in ("gcc", "clang") if shutil.which(name)), "gcc")
    needed = "a C compiler and Python.h are needed (packages gcc and python3-dev, or conda's c-compiler)"
    return _error(os.environ.get("CC", default), needed, "lines.c", C_LINES)


def cxx_error() -> str | None:
    """Why the C++ compiler that DeepSpeed uses (CXX, else c++) can't build for it; None if it can."""
    needed = "C++20, OpenMP and Python.h are needed (such as GCC 11: a module of the cluster, or conda's "
    needed += "cxx-compiler; package python3-dev)"
    options = ("-std=c++20", "-fopenmp")
    return _error(os.environ.get("CXX", "c++"), needed, "lines.cpp", CXX_LINES, *options)


def ninja_error() -> str | None:
    """Why ninja can't be started; None if it can."""
    ninja = shutil.which("ninja", path=tools_path())
    return None if ninja else "ninja isn't on the PATH (pip install ninja)"


def tools_path() -> str:
    """The PATH and the folder where pip puts ninja, which isn't on the PATH of `.venv/bin/python`."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])


def _error(command: str, needed: str, name: str, lines: str, *options: str) -> str | None:
    """Why a compiler can't build a library from `lines`; None if it can. `command` may hold options."""
    words = _words(command)
    if not words or shutil.which(words[0]) is None:
        return f"{command or 'an empty name'} isn't on the PATH; {needed}"
    include = sysconfig.get_path("include", "posix_prefix")
    try:
        with tempfile.TemporaryDirectory() as folder:
            (source := Path(folder) / name).write_text(lines)
            # The compiler ignores SIGTERM, which Slurm sends to all processes of a job before its end.
            ignoring = ["sh", "-c", 'trap "" TERM; exec "$@"', "sh"]
            command_line = [*ignoring, *words, *options, "-shared", "-fPIC", f"-I{include}", str(source)]
            done = subprocess.run(
                [*command_line, "-o", f"{source}.so"], capture_output=True, text=True, timeout=120
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command}: {error}"
    printed = done.stderr.splitlines()
    reason = next((line for line in printed if "error" in line), printed[-1] if printed else "no message")
    return f"{command}: {reason.strip()}; {needed}" if done.returncode else None


def _words(command: str) -> list[str]:
    """Returns a compiler and its options as words; the compiler's path may contain spaces."""
    return [command] if Path(command).is_file() else shlex.split(command)


def wrap_compiler(variable: str, folder: Path) -> None:
    """Make CC or CXX name one program without options, because Triton and PyTorch read it as one word.

    A program with options becomes a script in `folder`. The script keeps its name between runs, because
    PyTorch compiles again if the name changes.
    """
    words = _words(os.environ.get(variable, ""))
    if len(words) < 2:
        return
    folder.mkdir(parents=True, exist_ok=True)
    text = f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'
    script = folder / f"{variable.lower()}-{sha256(text.encode()).hexdigest()[:12]}"
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:  # other processes do the same
        file.write(text)
    Path(file.name).chmod(0o755)
    Path(file.name).replace(script)
    os.environ[variable] = str(script)
