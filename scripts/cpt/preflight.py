"""Checks of a Slurm cluster, the shared file system, the hub and the disk, with a remedy for each failure."""

import getpass
import logging
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from cpt.config import Config
from cpt.errors import UserError
from cpt.probe import Finding
from cpt.probe_jobs import WAITING_SECONDS, ProbeJob, needs_of
from cpt.progress import NOTICE
from cpt.slurm import answer

PROBE_SECONDS = 120  # that sbatch may take to answer
LABELS = {True: "ok       ", False: "FAILED   ", None: "not tried"}


@dataclass(frozen=True)
class Request:
    """A job that will be submitted."""

    what: str  # for people
    key: str  # of the config, which decides what the job asks for
    partition: str | None  # None: the default one
    nodes: int
    gpus: int  # of each node, like the next two
    cpus: int
    mem_mb: int
    most_mb: int  # memory that the last attempt asks for
    minutes: int
    queue: list[str]  # options of sbatch and srun that every job of this partition needs
    asked: list[str]  # further options of sbatch


@dataclass(frozen=True)
class Site:
    """The site's values; None: not set."""

    account: str | None
    gpu_model: str | None
    poll_seconds: int
    jobs: int  # in flight at once


class Repository(NamedTuple):
    """A repository of the hub that will be read."""

    kind: Literal["model", "dataset"]
    name: str
    revision: str
    key: str  # of the config, which names it


class Node(NamedTuple):
    """What a node offers."""

    cpus: int
    mem_mb: int
    gpus: dict[str, int]  # by model
    minutes: int | None  # the limit of its partition; None: none


def offered_nodes(partition: str | None) -> list[Node]:
    """Returns the nodes of a partition (None: the default one) that are up."""
    columns = "%P\t%N\t%c\t%m\t%G\t%l\t%T"
    nodes = []
    for line in (answer("sinfo", "--noheader", "--Node", f"--format={columns}") or "").splitlines():
        name, _, cpus, memory, gres, limit, state = line.split("\t")
        chosen = name.rstrip("*") == partition if partition else name.endswith("*")
        if chosen and not state.startswith(("down", "drain", "fail", "inval")):
            models = re.findall(r"gpu(?::([^:,()]+))?:(\d+)", gres)
            gpus = {model: int(count) for model, count in models}
            memory_mb = int(memory.rstrip("+"))
            nodes.append(Node(int(cpus.rstrip("+")), memory_mb, gpus, _minutes(limit)))
    return nodes


def _minutes(limit: str) -> int | None:
    """Returns Slurm's time limit (days-hours:minutes:seconds) in minutes; None without a limit."""
    if limit in ("infinite", "n/a"):
        return None
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, minutes = (parts[0], parts[1]) if len(parts) == 3 else (0, parts[0])
    return int(days or 0) * 1440 + hours * 60 + minutes


def check_request(request: Request, site: Site) -> Finding:
    """Whether enough nodes of its partition offer what a job asks for."""
    gpus, model = request.gpus, site.gpu_model
    variable = "CPT_SLURM_GPU_PARTITION" if gpus else "CPT_SLURM_PARTITION"
    partition = request.partition
    nodes = offered_nodes(partition)
    where = f"partition {partition}" if partition else "the default partition"
    if not nodes:
        names = {line.rstrip("*") for line in (answer("sinfo", "-h", "-o", "%P") or "").split()}
        return False, f"{where}: no node that is up; set {variable} to one of {', '.join(sorted(names))}"

    # A site that allocates whole nodes (CPT_SLURM_GPU_OPTION=none) may list no GPUs.
    counted = gpus if any("gpu" in option for option in request.asked) else 0

    def count(node: Node) -> int:
        return node.gpus.get(model, 0) if model else sum(node.gpus.values())

    description = f"{request.nodes} node(s) with {gpus} GPU(s), {request.cpus} CPUs, {request.mem_mb} MB"
    limits = [node.minutes for node in nodes]
    if None not in limits and request.minutes > max(limits):
        return False, (
            f"{request.minutes} minutes are over the {max(limits)} of {where}; set CPT_SLURM_MAX_MINUTES="
            f"{max(limits)} (training then resumes in the next job; see CPT_SLURM_RETRIES)"
        )
    checks = (
        (
            lambda node: count(node) >= counted,
            f"the most GPUs{f' of model {model}' if model else ''} on a node are {max(map(count, nodes))}; "
            f"set {request.key}.nodes so that gpus / nodes is at most that, or CPT_SLURM_GPU_PARTITION, "
            "or CPT_SLURM_GPU_MODEL",
        ),
        (
            lambda node: node.cpus >= request.cpus,
            f"nodes have {max(node.cpus for node in nodes)} CPUs; raise {request.key}.nodes, or set "
            f"{variable} to a partition with more",
        ),
        (
            lambda node: node.mem_mb >= request.mem_mb,
            f"nodes have {max(node.mem_mb for node in nodes)} MB; set {variable} to a partition with more",
        ),
        (
            lambda node: node.mem_mb >= request.most_mb,
            f"nodes have {max(node.mem_mb for node in nodes)} MB, and further attempts ask for up to "
            f"{request.most_mb} MB; set CPT_SLURM_MAX_MB={max(node.mem_mb for node in nodes)}",
        ),
    )
    left = nodes
    for fits, remedy in checks:
        left = [node for node in left if fits(node)]
        if len(left) < request.nodes:
            return False, f"{description}: {len(left)} such in {where}: {remedy}"
    return True, f"{description}: {len(left)} such node(s) in {where}"


def check_submission(request: Request) -> Finding:
    """Whether Slurm would accept such a job: account, QOS, reservation, features, the site's rules."""
    command = ["sbatch", "--test-only", *request.queue, *request.asked]
    try:
        trial = subprocess.run(
            [*command, "--wrap=true"], capture_output=True, text=True, timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None, f"sbatch doesn't answer within {PROBE_SECONDS} s"
    if trial.returncode == 0:
        return True, "Slurm would take such a job"
    reason = "; ".join(line.removeprefix("sbatch: ").strip() for line in trial.stderr.strip().splitlines())
    return False, (
        f"Slurm would refuse such a job: {reason}; correct the CPT_SLURM_ variable that it is about "
        f"(docs/cluster-sites.md). Tried: {shlex.join(command)}"
    )


def check_limits(site: Site) -> Finding:
    """Reports how many submitted jobs Slurm allows this user; further jobs wait."""
    user = getpass.getuser()
    output = answer("sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=maxsubmitjobs")
    output = (output or "") + (answer("sacctmgr", "-nP", "show", "qos", "format=maxsubmitjobsperuser") or "")
    limits = [int(limit) for limit in output.split() if limit.isdecimal()]
    if not limits:
        return True, f"no limit is known; CPT_SLURM_JOBS is {site.jobs}"
    return True, (
        f"the lowest limit of an account or QOS is {min(limits)} at once, and CPT_SLURM_JOBS is {site.jobs}; "
        "jobs beyond their limit wait"
    )


def check_account(site: Site) -> Finding:
    """Whether Slurm knows the account for this user, or needs none."""
    user = getpass.getuser()
    output = answer("sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account")
    accounts = sorted(set((output or "").split()))
    account = site.account
    if not accounts:
        return True, f"account {account or '(none)'}: this cluster keeps no accounts that could be compared"
    if account and account not in accounts:
        return (
            False,
            f"{user} has no account {account}; set CPT_SLURM_ACCOUNT to one of {', '.join(accounts)}",
        )
    return True, f"account {account or '(the default one)'}; {user} has {', '.join(accounts)}"


def check_status(site: Site) -> Finding:
    """Whether squeue remembers finished jobs long enough for Snakemake to see them end."""
    shown = answer("scontrol", "show", "config") or ""
    match = re.search(r"^MinJobAge\s*=\s*(\d+)", shown, re.MULTILINE)
    needed = 3 * site.poll_seconds
    if match and int(match[1]) < needed:
        return False, (
            f"Slurm forgets finished jobs after {match[1]} s (MinJobAge), and Snakemake looks every "
            f"{site.poll_seconds} s; set CPT_SLURM_POLL_SECONDS to {int(match[1]) // 3} or less"
        )
    return True, f"finished jobs are remembered for {match[1] if match else '?'} s; {needed} s are needed"


def probes(requests: Sequence[Request], results: Path, config: Config, cluster: bool) -> list[ProbeJob]:
    """Start a probe of what each kind of job needs: a job of that kind; without a cluster, a process here."""
    if not cluster:
        gpus = max((request.gpus * request.nodes for request in requests), default=0)
        needs = needs_of(_trained(requests), gpus, 0, config)
        return [ProbeJob("this machine", needs, results, None, False)]
    logging.log(NOTICE, "a job of each kind tries what it needs; this takes up to %s s", WAITING_SECONDS)
    kinds: dict[tuple[bool, tuple[str, ...]], list[Request]] = {}
    for request in requests:
        kinds.setdefault((request.gpus > 0, tuple(request.queue)), []).append(request)
    started = []
    for (gpus, queue), alike in kinds.items():
        largest = max(alike, key=lambda request: (request.gpus, request.cpus, request.mem_mb))
        where = f"{largest.partition or 'the default partition'}{' with GPUs' if gpus else ''}"
        runs = _trained(alike)
        needs = needs_of(runs, largest.gpus, largest.mem_mb, config)
        started.append(ProbeJob(where, needs, results, [*queue, *largest.asked], bool(runs)))
    return started


def _trained(requests: Sequence[Request]) -> list[str]:
    """Returns the runs that these jobs train."""
    return [request.key.removeprefix("runs.") for request in requests if request.key.startswith("runs.")]


def check_hub(repository: Repository) -> Finding:
    """Whether the hub gives access to a repository. The token itself is never shown."""
    from huggingface_hub import HfApi, get_token

    kind, name, revision, key = repository
    token = "a token is set" if get_token() else "no token is set"
    try:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=20)
        HfApi().auth_check(name, repo_type=kind)
    except Exception as error:
        kinds = {
            "GatedRepoError": "accept its terms on the hub, and set HF_TOKEN to a token of that account",
            "RepositoryNotFoundError": f"check {key}.repo; if it is private, set HF_TOKEN",
            "RevisionNotFoundError": f"check {key}.revision",
        }
        remedy = kinds.get(type(error).__name__, "check the network of this node, proxies and HF_ENDPOINT")
        return False, f"{kind} {name}: {type(error).__name__} ({token}); {remedy}"
    return True, f"{kind} {name} can be read ({token})"


def check_disk(results: Path, needed: int) -> Finding:
    """Whether the file system of the results has `needed` bytes of room."""
    results.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(results).free
    text = f"{free / 1e9:,.1f} GB are free in {results.resolve()}, of at least {needed / 1e9:,.1f} GB needed"
    return free >= needed, text if free >= needed else f"{text}; make room, or set `results`"


def cluster_findings(requests: Sequence[Request], site: Site) -> Iterator[tuple[str, Finding]]:
    """Yields the name and finding of each check of Slurm and of the jobs."""
    if answer("sinfo", "--noheader") is None:
        text = "its commands aren't found, or don't answer; start this on a login node of the cluster"
        yield "Slurm", (False, text)
        return
    yield "Slurm", (True, (answer("sinfo", "--version") or "").strip())
    yield "account", check_account(site)
    yield "job status", check_status(site)
    yield "submitted jobs", check_limits(site)
    for request in requests:
        finding = check_request(request, site)
        if finding[0]:
            accepted = check_submission(request)
            finding = (accepted[0], f"{finding[1]}; {accepted[1]}")
        yield request.what, finding


def findings(
    requests: Sequence[Request],
    hub: Sequence[Repository],
    site: Site,
    results: Path,
    config: Config,
    cluster: bool,
) -> Iterator[tuple[str, Finding]]:
    """Yields the name and finding of each check except the disk's."""
    good = True
    for name, finding in cluster_findings(requests, site) if cluster else ():
        good = good and finding[0] is not False
        yield name, finding
    if not cluster:
        yield "jobs", (True, "they run on this machine (to submit them, add --profile slurm)")
    for job in probes(requests, results, config, cluster) if good else ():
        yield from job.findings()
    for repository in hub:
        yield "hub", check_hub(repository)


def check_all(
    requests: Sequence[Request],
    hub: Sequence[Repository],
    site: Site,
    results: Path,
    config: Config,
    disk: dict[str, float | None],
    cluster: bool,
) -> None:
    """Make all checks and report each finding.

    Args:
        requests: the largest jobs.
        hub: the repositories that will be read.
        site: the site's values.
        results: folder of the results.
        config: the merged config.
        disk: minimum bytes of the results, by kind of file; None if unknown.
        cluster: whether jobs are submitted to Slurm.

    Raises UserError with the number of failures.
    """
    failures = 0
    needed = round(sum(size or 0.0 for size in disk.values()))
    checks = findings(requests, hub, site, results, config, cluster)
    for name, (good, text) in chain(checks, [("disk", check_disk(results, needed))]):
        failures += good is False
        logging.log(NOTICE, "%s %s: %s", LABELS[good], name, text)
    if failures:
        raise UserError(
            f"{failures} check(s) failed; nothing was submitted; fix what FAILED and run it again"
        )
