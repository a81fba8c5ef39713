"""Processes stay until the first one has written its checkpoint, and don't wait for one that won't write."""

import atexit
import errno
import fcntl
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from forked import CONTEXT

from cpt.errors import UserError
from cpt.train import processes
from cpt.train.processes import EXIT_INTERRUPTED


def member(rank: int, world_size: int, variables: dict[str, str], folder: Path, deed: str) -> None:
    """A process of a run that got a stop signal: the first writes for a second, and another may die."""
    os.environ.update(variables | {"RANK": str(rank), "WORLD_SIZE": str(world_size)})
    processes.Interruption()
    try:
        processes.start_processes("ddp", "cpu")
        (folder / f"{rank} waits").touch()
        if rank == 0:
            time.sleep(1)
            if deed == "fails":
                sys.exit(1)
            if deed == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            (folder / "written").touch()
        if rank == 1 and deed == "another dies":
            os._exit(3)
        processes.wait_for_first()
        sys.exit(EXIT_INTERRUPTED if (folder / "written").exists() else 4)
    finally:
        atexit._run_exitfuncs()


@pytest.mark.parametrize(
    ("deed", "own_store", "codes"),
    [
        ("writes", False, [75, 75, 75]),
        ("fails", False, [1, 4, 4]),
        ("is killed", True, [-9, 4, 4]),  # the store dies with it; else torchrun ends the others
        ("another dies", False, [75, 3, 75]),
    ],
)
def test_others_wait_for_the_first(tmp_path, deed, own_store, codes):
    """They wait, whatever signals come meanwhile. The store is the launcher's or the first process's."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    if own_store:
        port, store = store.port, None
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port if store else port)}
    variables["TORCHELASTIC_USE_AGENT_STORE"] = str(not own_store)
    members = [CONTEXT.Process(target=member, args=(rank, 3, variables, tmp_path, deed)) for rank in range(3)]
    for process in members:
        process.start()
    while not all((tmp_path / f"{rank} waits").exists() for rank in range(3)):
        assert any(process.is_alive() for process in members)
        time.sleep(0.01)
    for process in members:
        if process.is_alive():
            os.kill(process.pid, signal.SIGTERM)
    for process in members:
        process.join(60)
    assert [process.exitcode for process in members] == codes


@pytest.mark.parametrize(
    ("kind", "backend", "device"), [("cuda", "nccl", torch.device("cuda", 1)), ("cpu", "gloo", None)]
)
def test_processes_wait_for_one_another_for_hours(monkeypatch, kind, backend, device):
    calls = []
    monkeypatch.setattr(
        dist, "init_process_group", lambda *arguments, **options: calls.append((arguments, options))
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    threads = torch.get_num_threads()
    processes.start_processes("ddp", kind)
    torch.set_num_threads(threads)
    assert calls == [((backend,), {"timeout": timedelta(hours=2), "device_id": device})]


def test_former_attempt_keeps_the_folder_until_it_ends(tmp_path, caplog):
    held = processes.lock(tmp_path, lambda: False)
    with pytest.raises(SystemExit) as stopped:
        processes.lock(tmp_path, lambda: True)
    assert stopped.value.code == EXIT_INTERRUPTED and "another process is training in" in caplog.text

    def end() -> bool:
        held.close()
        return False

    assert not processes.lock(tmp_path, end).closed


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_file_system_without_locks(tmp_path, monkeypatch, caplog, number):
    def flock(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):  # a killed process leaves nothing that would stop the next
        assert not processes.lock(tmp_path, lambda: False).closed
    assert f"{tmp_path}/lock: this file system has no locks ({os.strerror(number)})" in caplog.text


def test_lock_that_fails_otherwise(tmp_path, monkeypatch):
    def flock(file: object, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"can't be written \(Input/output error\)"):
        processes.lock(tmp_path, lambda: False)
