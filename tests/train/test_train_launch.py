"""scripts/launch.py: signals reach the training processes, which write a checkpoint however long it takes."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from one_training import Training
from tests.slurm.cluster import Cluster, missing
from train_settings import TRAIN

import launch
from cpt.stage import arguments
from cpt.train.processes import EXIT_INTERRUPTED

HERE = Path(__file__).parent
LAUNCH = TRAIN.with_name("launch.py")
WRITING = 2  # seconds, for a checkpoint
NO_NAME = """
import socket
socket.gethostname = lambda: "no.invalid"
socket.getfqdn = lambda name="": "no.invalid"
"""


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of a machine whose name doesn't resolve, with stand-ins for Slurm's programs."""
    place = folder / "machine"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(NO_NAME)
    for program in ("srun", "scontrol"):
        stand_in = f"{sys.executable} {HERE / 'stand_in_srun.py'} {program}"
        (place / program).write_text(f'#!/bin/sh\nexec {stand_in} "$@"\n')
        (place / program).chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    paths = {"PATH": f"{place}:{os.environ['PATH']}", "PYTHONPATH": str(place)}
    return kept | paths | variables


def start(run: Training, processes: int, nodes: int = 1, seconds: float = 0) -> psutil.Popen:
    """Start a run under the launcher, on a disk that takes `seconds` for a checkpoint."""
    options = arguments(processes=processes, nodes=nodes, cpus=processes, device="cpu")
    slow = [str(HERE / "slow_disk.py"), str(seconds)] if seconds else []
    return psutil.Popen(
        [sys.executable, str(LAUNCH), *options, *slow, *run.command],
        env=environment(run.folder, **({"SLURM_JOB_ID": "7"} if nodes > 1 else {})),
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(("nodes", "to_all"), [(1, False), (2, True)])
def test_two_processes_asked_to_stop_on_a_slow_disk(training, nodes, to_all):
    """Only the launcher gets the signal, or every process at once, as Slurm does. No process ends before the
    checkpoint exists: torchrun would kill the others 30 seconds later, and srun after KillWait."""
    run = training(checkpoint_every=5)
    launcher, *others = run.hold(5, lambda *run_and_processes: start(*run_and_processes, nodes, WRITING), 2)
    training_processes = [child for child in others if "RANK" in child.environ()]
    for process in {launcher, *others} - set(training_processes):
        process.resume()
    for target in [*(others if to_all else []), launcher] * 2:
        target.send_signal(signal.SIGTERM)
    time.sleep(1)
    for process in training_processes:
        process.resume()
    checkpoints_at_end = []
    psutil.wait_procs(training_processes, 120, lambda _: checkpoints_at_end.append(len(run.checkpoints)))
    assert checkpoints_at_end == [2, 2]
    assert launcher.wait(timeout=120) == EXIT_INTERRUPTED
    log = (run.folder / "log").read_text()
    stopped = int(re.search(r"interrupted after step (\d+).*; start again to resume", log)[1])
    assert run.checkpoints[-1].name == f"step-{stopped:08d}" and stopped > 5
    assert "process 0 of 2 runs on no.invalid" in log


def test_killed_launcher_leaves_no_process(training):
    launcher, *others = training(checkpoint_every=5).hold(5, start, 2)
    launcher.kill()
    launcher.wait()
    for process in others:
        with suppress(psutil.NoSuchProcess):  # already killed with the launcher
            process.resume()
    _, alive = psutil.wait_procs(others, timeout=60)
    assert others and not alive


def test_one_process_is_the_script_itself(training):
    """On Ctrl-C it writes a checkpoint, as on the signals of test_train_kills.py."""
    run = training(checkpoint_every=5)
    process, *others = run.hold(5, start, 1)
    assert not others
    process.send_signal(signal.SIGINT)
    process.resume()
    assert process.wait(timeout=120) == EXIT_INTERRUPTED
    assert "interrupted after step" in (run.folder / "log").read_text()


@pytest.mark.parametrize(("own", "threads"), [({}, "1"), ({"TORCHINDUCTOR_COMPILE_THREADS": "7"}, "7")])
def test_compile_workers_are_as_many_as_the_process_has_cpus(tmp_path, own, threads):
    script = tmp_path / "script.py"
    names = "['TORCHINDUCTOR_COMPILE_THREADS'], os.environ['HF_HUB_OFFLINE']"
    script.write_text(f"import os\nprint(os.environ{names})\n")
    options = arguments(processes=1, cpus=1, device="cpu")
    command = [sys.executable, str(LAUNCH), *options, str(script)]
    printed = subprocess.check_output(command, env=environment(tmp_path, **own), text=True)
    assert printed == f"{threads} 1\n"


JOB, SHELL_OF_SALLOC = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2"}, {"SLURM_STEP_ID": "4294967290"}


@pytest.mark.parametrize(
    ("asked", "variables", "used"),
    [
        (2, {}, 1),
        (1, JOB, 1),
        (2, {"SLURM_JOB_ID": "7"}, 2),  # a job of ours
        (2, JOB, 2),  # a batch script, or beside salloc
        (2, JOB | SHELL_OF_SALLOC, 2),
        (3, JOB, 1),
        (3, JOB | {"SLURM_STEP_ID": "0"}, 1),
    ],
)
def test_nodes_of_the_surrounding_slurm_job(monkeypatch, asked, variables, used):
    set_slurm(monkeypatch, variables)
    assert launch.nodes_to_use(asked) == used


def test_step_in_which_srun_would_wait_for_ever(monkeypatch):
    set_slurm(monkeypatch, JOB | {"SLURM_STEP_ID": "0"})
    with pytest.raises(SystemExit, match=r"started by srun in Slurm job 7.* or set runs\.\*\.nodes to 1"):
        launch.nodes_to_use(2)


def set_slurm(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Make these Slurm's only variables."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_free_port_has_no_listener(monkeypatch):
    with socket.create_server(("", 0)) as taken, socket.create_server(("", 0)) as released:
        ports = [taken.getsockname()[1], released.getsockname()[1]]
        released.close()
        monkeypatch.setattr(launch, "PORTS", ports)
        assert {launch.free_port() for _ in range(20)} == {ports[1]}


@pytest.fixture
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A real Slurm with a short KillWait, whose salloc opens a shell on the first node."""
    if reason := missing():
        pytest.skip(f"no Slurm: {reason}")
    settings = {"KillWait": "2", "LaunchParameters": "use_interactive_step"}
    with Cluster(tmp_path_factory.mktemp("slurm") / "c", settings=settings) as cluster:
        yield cluster


@pytest.mark.slurm_full
def test_slow_disk_on_two_nodes_of_slurm(training, reference_of_two, cluster):
    """A checkpoint takes longer than KillWait, which begins when a task of a step fails."""
    run = training(checkpoint_every=5)

    def submit(*script: str) -> str:
        options = arguments(processes=2, nodes=2, cpus=1, device="cpu")
        wrapped = shlex.join([sys.executable, str(LAUNCH), *options, *script])
        words = ("--nodes=2", "--ntasks=2", f"--output={run.folder}/job", "--parsable")
        return cluster.run("sbatch", *words, f"--wrap=exec {wrapped}").strip()

    def ended(job: str, state: str) -> bool:
        return f"JobState={state} " in cluster.run("scontrol", "show", "job", job)

    def wait_for(event: Callable[[], bool]) -> None:
        end = time.monotonic() + 240
        while not event():
            assert time.monotonic() < end, (run.folder / "job").read_text() + cluster.logs()
            time.sleep(0.1)

    job = submit(str(HERE / "slow_disk.py"), "8", *run.command)
    wait_for(lambda: bool(run.checkpoints))
    cluster.run("scancel", "--signal=TERM", job)
    wait_for(lambda: ended(job, "FAILED"))
    assert f"ExitCode={EXIT_INTERRUPTED}:0" in cluster.run("scontrol", "show", "job", job)
    stopped = int(re.search(r"interrupted after step (\d+)", (run.folder / "log").read_text())[1])
    assert run.checkpoints[-1].name == f"step-{stopped:08d}" and stopped > 5
    second = submit(*run.command)
    wait_for(lambda: ended(second, "COMPLETED"))
    assert run.weights == reference_of_two.weights


@pytest.mark.slurm_full
def test_sessions_of_slurm(cluster):
    importing = f"import sys; sys.path.insert(0, {str(LAUNCH.parent)!r}); import launch"
    code = f"{importing}; print(launch.nodes_to_use(2))"
    printed = {
        words: cluster.run(*words, sys.executable, "-c", code, check=False)
        for words in (
            ("salloc", "-N2"),
            ("salloc", "-N2", "srun", "--interactive", "--preserve-env"),  # as salloc starts its shell
            ("salloc", "-N2", "srun", "-N1", "-n1"),
            ("srun", "-N1", "-n1"),
        )
    }
    outcomes = ["\n2\n", "\n2\n", "Snakemake was started by srun in Slurm job", "\n1\n"]
    assert [expected in text for expected, text in zip(outcomes, printed.values(), strict=True)] == [True] * 4
