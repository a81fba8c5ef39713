"""Start scripts/train.py, or another script, in processes forked from one that has already imported torch and
transformers.

The script itself runs as a main program with its command line. This saves only its imports (some 5 s), so a
test can afford to kill it dozens of times.
"""

import multiprocessing
import os
import resource
import runpy
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ["cpt.train.loop", "transformers.models.llama.modeling_llama", "pytest", "forked"]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOADED)


def _script(
    command: list[str], environment: dict[str, str], terminal: str, limits: dict[int, int], niceness: int = 0
) -> None:
    os.dup2(os.open(terminal, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ.update(environment)
    os.nice(niceness)
    for number, limit in limits.items():
        resource.setrlimit(number, (limit, resource.RLIM_INFINITY))
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def start(
    command: list[str],
    processes: int,
    terminal: Path,
    environment: dict[str, str] | None = None,
    limits: dict[int, int] | None = None,
    niceness: int = 0,
) -> list[BaseProcess]:
    """Start a script and its arguments on one process, or on several as torchrun does.

    Its stderr is appended to `terminal`.
    """
    shared = dict(environment or {})
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    paths = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2] / "scripts")]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # for the fork server, at its start
    members = []
    for rank in range(processes):
        ranked = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        arguments = (command, shared | ranked, str(terminal), limits or {}, niceness)
        members.append(CONTEXT.Process(target=_script, args=arguments))
        members[-1].start()
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return members


class Session:
    """One start of a Training, on one or more processes; a context manager that kills them at its end.

    Args:
        training: see one_training.py. Its outputs are removed first.
        processes: training processes.
        limits: soft limits by setrlimit's number. A file over RLIMIT_FSIZE fails as on a full disk (EFBIG).
        environment: further variables.
    """

    def __init__(
        self,
        training,
        processes: int = 1,
        limits: dict[int, int] | None = None,
        environment: dict[str, str] | None = None,
    ):
        self.training = training
        training.remove_outputs()
        # Niceness, so that the test, which waits for an event, isn't late.
        self.members = start(
            training.command, processes, training.folder / "terminal", environment, limits, niceness=4
        )

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> list[int]:
        """Send a signal to every process; returns their exit codes, negative if the signal ended them."""
        for member in self.members:
            if member.is_alive():
                os.kill(member.pid, number)
        return self.exit_codes()

    def exit_codes(self) -> list[int]:
        """Wait for all processes; returns their exit codes."""
        for member in self.members:
            member.join(400)
        return [member.exitcode for member in self.members]

    def wait_until(self, happened: Callable[[], bool], seconds: float = 240) -> bool:
        """Wait for an event; returns whether it came before the processes ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if happened():
                return True
            if not all(member.is_alive() for member in self.members):
                return happened()
            time.sleep(0.0005)
        raise TimeoutError("the event didn't come")

    def finish(self) -> None:
        """Wait for all processes; they must succeed."""
        codes = self.exit_codes()
        log = self.training.folder / "log"
        assert set(codes) == {0}, (codes, log.read_text()[-3000:] if log.exists() else "no log")


def kill(training, event: Callable[[], bool], delay: float = 0, processes: int = 1) -> bool:
    """Start a Training and kill it after the event; returns whether the kill came before the run's end."""
    with Session(training, processes) as session:
        session.wait_until(event)
        time.sleep(delay)
        return all(code == -signal.SIGKILL for code in session.signal(signal.SIGKILL))


def repeat(times: int, attempt: Callable[[], bool]) -> None:
    """Attempt until `times` attempts succeed: on a busy machine a kill may come after the run's end.

    After a run's end, the next attempt starts from nothing.
    """
    attempts = successes = 0
    while successes < times:
        assert attempts < 4 * times, f"{successes} of {attempts} attempts went as meant"
        attempts += 1
        successes += attempt()


def kill_after(training, event: Callable[[], bool], processes: int = 1) -> None:
    """Start a Training and kill it in time: after the event, while it still holds."""
    repeat(1, lambda: kill(training, event, processes=processes) and event())
