"""A fresh clone of the project on a private Slurm cluster, and its jobs."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = ("--configfile", "experiments/smoke.yaml", "tests/slurm/experiment.yaml")
TABLE1 = "results/table1.csv"
RUNS = ("one-node", "two-nodes", "zero-3")
# The site's values (docs/cluster-sites.md), with polls every few seconds rather than minutes.
SITE = {
    "CPT_SLURM_PARTITION": "cpu",
    "CPT_SLURM_GPU_PARTITION": "gpu",
    "CPT_SLURM_GPU_MODEL": "fake",
    "CPT_SLURM_WARNING_SECONDS": "20",
    "CPT_SLURM_POLL_SECONDS": "2",
    "CPT_SLURM_JOBS": "6",
}


class Clone:
    """A fresh clone of the repository: every file that git tracks or would add, without results."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.session: tuple[str, ...] = ()  # the command that starts Snakemake
        self.first_jobs: list[int] = []  # numbers of the Slurm jobs of its first run
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((ROOT / name).read_bytes())

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def locally(self, *arguments: str) -> str:
        """Run snakemake without Slurm; returns what it printed."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", *EXPERIMENT]
        result = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert result.returncode == 0, result.stdout[-4000:]
        return result.stdout

    def command(self, cluster: Cluster, *arguments: str) -> list[str]:
        """Snakemake with the profile as it is, on the cluster's login node."""
        # The cluster is one host, where a new file is visible at once.
        snakemake = [sys.executable, "-m", "snakemake", "--profile", "slurm", *arguments, *EXPERIMENT]
        return cluster.command(*self.session, *snakemake, "--latency-wait", "5", folder=self.folder)

    def start(self, cluster: Cluster, *arguments: str, **site: str) -> subprocess.Popen:
        """Start Snakemake in the background; its output goes to the file `printed`."""
        with open(self.folder / "printed", "a") as printed:
            return subprocess.Popen(
                self.command(cluster, *arguments),
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=cluster.environment() | SITE | site,
                preexec_fn=hear_ctrl_c,
            )

    def run(self, cluster: Cluster, *arguments: str, **site: str) -> None:
        """Run Snakemake; it must succeed."""
        process = self.start(cluster, *arguments, **site)
        assert process.wait() == 0, self.printed()[-6000:] + cluster.logs()

    def preflight(self, cluster: Cluster, *arguments: str, **site: str) -> tuple[bool, str]:
        """Run preflight; whether it found no problem, and what it printed."""
        with self.start_preflight(cluster, *arguments, **site) as process:
            printed, _ = process.communicate()
        return process.returncode == 0, printed

    def start_preflight(self, cluster: Cluster, *arguments: str, **site: str) -> subprocess.Popen:
        """Start preflight in the background, with a pipe for what it prints."""
        return subprocess.Popen(
            self.command(cluster, "preflight", "--quiet", "all", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=cluster.environment() | SITE | site,
        )

    def resume(self, cluster: Cluster, *options: str, targets: Sequence[str] = (TABLE1,)) -> subprocess.Popen:
        """Start `make resume` in the background, with this environment instead of the clone's own."""
        if not (self.folder / ".venv").exists():
            (self.folder / ".venv").symlink_to(sys.prefix)
        arguments = " ".join(["--profile", "slurm", *targets, *EXPERIMENT, "--latency-wait", "5"])
        command = ["make", "resume", "--assume-old=.venv/installed", f"ARGS={arguments}", *options]
        with open(self.folder / "printed", "a") as printed:
            return subprocess.Popen(
                cluster.command(*command, folder=self.folder),
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=cluster.environment() | SITE,
            )

    def printed(self) -> str:
        return (self.folder / "printed").read_text()

    def jobs_of(self, rule: str) -> list[int]:
        """Numbers of the Slurm jobs that Snakemake submitted for a rule or a group, in their order."""
        logs = (self.folder / ".snakemake" / "slurm_logs").glob(f"*_{rule}/**/*.log")
        return sorted(int(log.stem) for log in logs)

    def all_jobs(self) -> list[int]:
        """Numbers of all Slurm jobs that Snakemake submitted."""
        return sorted(int(log.stem) for log in (self.folder / ".snakemake" / "slurm_logs").rglob("*.log"))

    def training_jobs(self, run: str) -> list[int]:
        """Numbers of the Slurm jobs that trained a run, in their order."""
        logs = self.folder / ".snakemake" / "slurm_logs" / "rule_train" / run
        return sorted(int(log.stem) for log in logs.glob("*.log"))


def hear_ctrl_c() -> None:
    """Handle SIGINT, which background commands of a shell, and all their children, ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def jobs(cluster: Cluster) -> dict[int, dict[str, str]]:
    """Slurm's description of each job, also of finished ones, by number."""
    descriptions = {}
    for line in cluster.run("scontrol", "show", "jobs", "--oneliner").splitlines():
        fields = dict(re.findall(r"(\S+?)=(\S*)", line))
        if "JobId" in fields:
            descriptions[int(fields["JobId"])] = fields
    return descriptions


def wait_for(event: Callable[[], object], what: str, seconds: float = 240) -> None:
    """Wait until something happens."""
    end = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def training_processes(clone: Clone, run: str) -> list[psutil.Process]:
    """The processes that train a run of this clone."""
    work = f"--work=results/checkpoints/{run}"
    trainers = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if work in words and process.cwd() == str(clone.folder) and "RANK" in process.environ():
                trainers.append((process, process.ppid()))
        except psutil.Error:
            continue
    # A child looks like its parent until it executes another program.
    numbers = {process.pid for process, _ in trainers}
    return [process for process, parent in trainers if parent not in numbers]


class Held:
    """Training processes, stopped at a checkpoint so that a test can do something to them."""

    def __init__(self, processes: list[psutil.Process]):
        self.processes = processes

    def got_stop_signal(self) -> bool:
        """Whether the launcher has passed a signal on to all of them. Some may have handled it already: Slurm
        continues stopped processes before it ends a job."""
        waiting = []
        for process in self.processes:
            file = Path(f"/proc/{process.pid}/status")
            match = re.search(r"ShdPnd:\s+(\w+)", file.read_text()) if file.exists() else None
            pending = int(match[1], 16) if match else 0
            waiting.append(not process.is_running() or bool(pending & 1 << (signal.SIGUSR1 - 1)))
        return all(waiting)

    def gone(self) -> bool:
        """Whether none of them is left."""
        return not any(process.is_running() for process in self.processes)

    def release(self) -> None:
        """Let them continue."""
        for process in self.processes:
            try:
                process.resume()
            except psutil.Error:
                continue


def hold(clone: Clone, *runs: str, processes: int = 2, after: int = 0) -> list[Held]:
    """Stop the training of each of these runs once it has written a checkpoint after a step over `after`."""
    held: dict[str, Held] = {}

    def all_held() -> bool:
        for run in runs:
            checkpoints = clone.results / "checkpoints" / run / "checkpoints"
            steps = [int(path.name[5:]) for path in checkpoints.glob("step-*")]
            if run not in held and max(steps, default=0) > after:
                held[run] = Held(training_processes(clone, run))
                for process in held[run].processes:
                    process.suspend()
                assert len(held[run].processes) == processes, f"{run} isn't trained any more"
        return len(held) == len(runs)

    wait_for(all_held, f"a checkpoint of {', '.join(runs)}")
    return [held[run] for run in runs]


def assert_same_models(clone: Clone, finished: Clone) -> None:
    """The models are the same, byte by byte."""
    for run in RUNS:
        model = f"models/{run}/model.safetensors"
        assert (clone.results / model).read_bytes() == (finished.results / model).read_bytes(), run


def assert_as_undisturbed(clone: Clone, finished: Clone) -> None:
    """Table 1 and the models are the same, byte by byte."""
    assert_same_models(clone, finished)
    assert (clone.folder / TABLE1).read_bytes() == (finished.folder / TABLE1).read_bytes()
