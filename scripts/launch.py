"""Start a run's processes: one, several on this machine, or several on each node of a Slurm job.

A single process starts without a launcher, several on one machine under torchrun. For several nodes, srun
starts this script on each of them, and the script starts torchrun there. Outside Slurm, and in a job of fewer
nodes, all processes run on this machine. The script passes SIGTERM, SIGINT and SIGUSR1 on to each training
process, and waits while it writes its checkpoint: torchrun itself would kill it after half a minute.
Standard library only.
"""

import argparse
import ctypes
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from cpt.gpus import claim_gpus

EXIT_INTERRUPTED = 75  # see cpt.train.processes: a checkpoint is written, start again to resume
FORWARDED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
PORTS = range(20_000, 32_768)  # below the kernel's range for outgoing connections
FIRST_SPECIAL_STEP = 2**32 - 16  # Slurm numbers a job's steps from 0; batch scripts and shells are up here


def child_processes(parent: int) -> list[int]:
    """Returns the process numbers of a process's direct children."""
    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                children.append(int(status.parent.name))
        except OSError:
            continue  # it has just ended
    return children


def ask_to_stop(worker: int, at_once: bool) -> None:
    """Send SIGUSR1 to a process if it handles it already; one that is still starting does a step first.
    With `at_once` (Ctrl-C), kill a process that doesn't handle it: it has nothing to save."""
    try:
        caught = re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{worker}/status").read_text())
        handles = int(caught[1], 16) >> (signal.SIGUSR1 - 1) & 1
        if handles or at_once:
            os.kill(worker, signal.SIGUSR1 if handles else signal.SIGKILL)
    except (OSError, TypeError):
        pass  # it has just ended


def prepare_child() -> None:
    """Prepare a child before it starts: it ignores the signals that this script forwards, as Slurm sends
    them to all processes of a step, and the kernel ends it when its parent is gone."""
    for number in FORWARDED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGQUIT)


def run_and_forward_signals(command: list[str]) -> int:
    """Run srun or torchrun, and forward signals as SIGUSR1: to srun, which passes it to every node (a SIGTERM
    would make it end the job at once), or to the processes that torchrun has started.

    They get it at once, and again every second until the end, as they may not have started the first time.

    Returns the command's exit code; EXIT_INTERRUPTED if it failed after a signal.
    """
    received, forwarded_at = [], -math.inf
    for number in FORWARDED_SIGNALS:
        signal.signal(number, lambda number, _: received.append(number))
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=prepare_child)
    while True:
        try:
            code = process.wait(timeout=0.1)
            return EXIT_INTERRUPTED if code and received else code
        except subprocess.TimeoutExpired:
            if received and time.monotonic() - forwarded_at >= 1:
                forwarded_at = time.monotonic()
                if command[0] == "srun":
                    process.send_signal(signal.SIGUSR1)
                else:
                    for worker in child_processes(process.pid):
                        ask_to_stop(worker, signal.SIGINT in received)


def nodes_to_use(nodes: int) -> int:
    """Returns on how many nodes srun starts processes: `nodes` in a Slurm job that has that many, else 1.

    Exits with a message inside a step of that job, where srun would wait forever for the step's own CPUs.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if nodes == 1 or job is None or int(os.environ.get("SLURM_JOB_NUM_NODES", nodes)) < nodes:
        return 1
    if int(os.environ.get("SLURM_STEP_ID", FIRST_SPECIAL_STEP)) < FIRST_SPECIAL_STEP:
        sys.exit(
            f"error: the run asks for {nodes} nodes, and Snakemake was started by srun in Slurm job {job}, "
            "from where no processes can be started on other nodes. Start it in a batch script or in the "
            "shell that salloc opens, or set runs.*.nodes to 1."
        )
    return nodes


def free_port() -> int:
    """Returns a free port of this machine, which is the job's first node if a batch script calls srun.
    It is random, as two runs may look for a port at the same time."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("", port))
            return port


def meeting_point(nodes: int, port: int | None) -> list[str]:
    """Returns torchrun's options for where a run's torchruns meet: the job's first node, or 127.0.0.1 for
    this machine, as its name may not resolve."""
    if nodes == 1:
        here = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
        return [*here, f"--rdzv-id={os.getpid()}"]
    names = subprocess.run(
        ["scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"]],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return [
        f"--nnodes={nodes}",
        f"--node-rank={os.environ['SLURM_NODEID']}",
        f"--master-addr={names[0]}",
        f"--master-port={port}",
        f"--rdzv-id={os.environ['SLURM_JOB_ID']}",
    ]


def main() -> None:
    """Parse the command line and start what it asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, required=True, help="of the run, on all nodes together")
    parser.add_argument("--nodes", type=int, default=1, help="of the Slurm job")
    parser.add_argument("--port", type=int, help="where nodes meet; only for what this script starts itself")
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True, help="of each process, one GPU")
    parser.add_argument("--cpus", type=int, default=1, help="of each node, for its processes")
    parser.add_argument("script", nargs=argparse.REMAINDER, help="the training script and its arguments")
    arguments = parser.parse_args()

    nodes = arguments.nodes if arguments.port else nodes_to_use(arguments.nodes)
    if nodes > 1 and arguments.port is None:
        srun = ["srun", "--kill-on-bad-exit=1", f"--nodes={nodes}", f"--ntasks={nodes}"]
        srun += ["--ntasks-per-node=1", f"--cpus-per-task={arguments.cpus}"]
        again = [sys.executable, sys.argv[0], f"--port={free_port()}", *sys.argv[1:]]
        sys.exit(run_and_forward_signals([*srun, *again]))
    local_processes = arguments.processes // nodes
    threads = max(1, min(arguments.cpus, len(os.sched_getaffinity(0))) // local_processes)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["HF_HUB_OFFLINE"] = "1"  # training reads folders; GPU nodes often have no network
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))  # default: up to 32 per process
    if arguments.device == "cuda":
        claim_gpus(local_processes)
    if arguments.processes == 1:
        os.execv(sys.executable, [sys.executable, *arguments.script])
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={local_processes}"]
    # torchrun ignores SIGTERM and SIGINT, which Slurm sends to every process of a step: this script passes
    # them on. Without `--`, torchrun would read the script's options as abbreviations of its own.
    torchrun += ["--signals-to-handle=SIGQUIT", *meeting_point(nodes, arguments.port), "--"]
    sys.exit(run_and_forward_signals([*torchrun, *arguments.script]))


if __name__ == "__main__":
    main()
