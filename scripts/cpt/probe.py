"""Tests of what a job needs from its machine, run there. Each failure comes with its remedy.

Needs only the standard library, and torch for GPUs. scripts/probe.py runs the tests in a job with the
resources of that kind of job, or on this machine if nothing is submitted.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cpt import compilers

Finding = tuple[bool | None, str]  # whether the test passed (None: not tried); its result and remedy
FILE_MB, TEMPORARY_MB, SHARED_MB = 16, 1000, 1000


class Warned:
    """Records SIGTERM, with which Slurm warns a training job before its end."""

    def __init__(self) -> None:
        self.began, self.after = time.monotonic(), None
        signal.signal(signal.SIGTERM, self._notice)

    def _notice(self, *_: object) -> None:
        self.after = time.monotonic() - self.began

    def finding(self, seconds: float) -> Finding:
        """Wait for SIGTERM until `seconds` after the start, and return the finding."""
        while self.after is None and time.monotonic() < self.began + seconds:
            time.sleep(0.1)
        if self.after is None:
            return False, (
                f"no SIGTERM within {seconds:.0f} s of a job with --signal=TERM, so training would be killed "
                "without a last checkpoint; set train.checkpoint_every to some minutes' steps, and ask the "
                "cluster's people about --signal"
            )
        return True, f"Slurm sends SIGTERM ahead of a job's end (here after {self.after:.0f} s)"


def memory_finding(asked_mb: int) -> Finding:
    """Whether this process's control groups allow the memory that its job asks for."""
    limit_mb = min(_limits(), default=None)
    if limit_mb is None:
        return None, "no control group limits this process's memory, so what Slurm allows can't be seen here"
    if limit_mb < asked_mb:
        return False, (
            f"a control group allows {limit_mb:,.0f} MB of the {asked_mb:,} that such a job needs; ask the "
            "cluster's people"
        )
    return True, f"{limit_mb:,.0f} MB are allowed, and {asked_mb:,} needed"


def _limits() -> Iterator[float]:
    """Yields the memory limits, in MB, of this process's control groups (versions 1 and 2)."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, kinds, group = line.split(":", 2)
        top, name = Path("/sys/fs/cgroup"), "memory.max"
        if "memory" in kinds.split(","):
            top, name = top / "memory", "memory.limit_in_bytes"
        folder = top / group.lstrip("/")
        for file in (folder / name, *(parent / name for parent in folder.parents)):
            text = file.read_text().strip() if file.is_file() else "max"
            if text.isdecimal() and int(text) < 2**60:
                yield int(text) / 1e6


def folder_finding(folder: Path, least_mb: int, remedy: str) -> Finding:
    """Whether a file can be written to a folder, and at least `least_mb` are free there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\1" * FILE_MB * 10**6)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return False, f"{folder}: {FILE_MB} MB can't be written ({error.strerror}); {remedy}"
    free_mb = shutil.disk_usage(folder).free / 1e6
    text = f"{folder}: {free_mb:,.0f} MB are free"
    return free_mb >= least_mb, text if free_mb >= least_mb else f"{text} of {least_mb:,} needed; {remedy}"


def shared_memory_finding() -> Finding:
    """Whether /dev/shm is large enough for NCCL to pass data between the processes of a node."""
    size_mb = shutil.disk_usage("/dev/shm").total / 1e6
    text = f"/dev/shm has {size_mb:,.0f} MB"
    good = size_mb >= SHARED_MB
    return good, text if good else f"{text}, and NCCL may need {SHARED_MB:,}; raise it, or NCCL_SHM_DISABLE=1"


def compiler_finding(what: str, errors: list[str | None], otherwise: str) -> Finding:
    """Whether `what` can be compiled; `otherwise` names the alternative."""
    problems = [error for error in errors if error]
    return (
        not problems,
        f"{what} can't be compiled: {'; '.join(problems)}; {otherwise}" if problems else f"{what} compiles",
    )


def findings(
    gpus: int, bf16: bool, c_compiler: bool, cpu_adam: bool, mem_mb: int
) -> Iterator[tuple[str, Finding]]:
    """Yields the name and finding of each test. scripts/probe.py explains the arguments."""
    if gpus:
        from cpt import cuda

        for finding in cuda.gpus(gpus, bf16):
            yield "GPU", finding
    if c_compiler:
        otherwise = "or set train.compile: false, which is slower"
        yield "compiler", compiler_finding("torch.compile's launcher", [compilers.c_error()], otherwise)
    if cpu_adam:
        otherwise = "or set train.engine: fsdp, or take `optimizer` out of train.offload"
        errors = [compilers.cxx_error(), compilers.ninja_error()]
        yield "compiler", compiler_finding("DeepSpeed's CPU optimizer", errors, otherwise)
    if mem_mb:
        yield "memory", memory_finding(mem_mb)
    temporary = Path(tempfile.gettempdir())
    yield "temporary files", folder_finding(temporary, TEMPORARY_MB, "set TMPDIR to a folder with room")
    if gpus > 1:
        yield "shared memory", shared_memory_finding()
    chosen = os.environ.get("TORCH_EXTENSIONS_DIR") if cpu_adam else None
    remedy = "make room in your home folder, or set HOME or TORCH_EXTENSIONS_DIR to a folder with room"
    yield "caches", folder_finding(Path(chosen or Path.home() / ".cache"), 0, remedy)
