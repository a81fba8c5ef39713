"""Checks of a Slurm cluster, the shared file system, the hub and the disk, each failure with its remedy."""

import getpass
import logging
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from cpt.errors import UserError
from cpt.progress import NOTICE
from cpt.slurm import answer

PROBE_SECONDS = 120  # a job of a second may wait this long for a free node
Finding = tuple[bool, str]  # whether all is well, and what was found; where it isn't, also what to do


@dataclass(frozen=True)
class Request:
    """A job that will be submitted."""

    what: str  # for people
    key: str  # of the config, which decides what it asks for
    partition: str | None  # None: the default one
    nodes: int
    gpus: int  # of each node, as the next two
    cpus: int
    mem_mb: int
    most_mb: int  # of the last attempt
    minutes: int


@dataclass(frozen=True)
class Site:
    """The site's values; None: not set."""

    account: str | None
    constraint: str | None
    gpu_model: str | None
    poll_seconds: int


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
    features: set[str]
    minutes: int | None  # the limit of its partition; None: none


def offered_nodes(partition: str | None) -> list[Node]:
    """The nodes of a partition (None: the default one) that are not down."""
    columns = "%P\t%N\t%c\t%m\t%G\t%f\t%l\t%T"
    found = []
    for line in (answer("sinfo", "--noheader", "--Node", f"--format={columns}") or "").splitlines():
        name, _, cpus, memory, gres, features, limit, state = line.split("\t")
        chosen = name.rstrip("*") == partition if partition else name.endswith("*")
        if chosen and not state.startswith(("down", "drain", "fail", "inval")):
            models = re.findall(r"gpu(?::([^:,()]+))?:(\d+)", gres)
            gpus = {model: int(count) for model, count in models}
            memory_mb = int(memory.rstrip("+"))
            found.append(
                Node(int(cpus.rstrip("+")), memory_mb, gpus, set(features.split(",")), _minutes(limit))
            )
    return found


def _minutes(limit: str) -> int | None:
    """Slurm's time limit (days-hours:minutes:seconds) in minutes; None where there is none."""
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

    def count(node: Node) -> int:
        return node.gpus.get(model, 0) if model else sum(node.gpus.values())

    asked = f"{request.nodes} node(s) with {gpus} GPU(s), {request.cpus} CPUs, {request.mem_mb} MB"
    limits = [node.minutes for node in nodes]
    if None not in limits and request.minutes > max(limits):
        return False, (
            f"{request.minutes} minutes are over the {max(limits)} of {where}; set CPT_SLURM_MAX_MINUTES="
            f"{max(limits)} (training then resumes in the next job; see CPT_SLURM_RETRIES)"
        )
    checks = (
        (
            lambda node: count(node) >= gpus,
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
        (
            lambda node: not site.constraint or site.constraint in node.features,
            f"too few nodes have the feature CPT_SLURM_CONSTRAINT={site.constraint}; name another one, or "
            "unset it",
        ),
    )
    left = nodes
    for fits, remedy in checks:
        left = [node for node in left if fits(node)]
        if len(left) < request.nodes:
            return False, f"{asked}: {len(left)} such in {where}: {remedy}"
    return True, f"{asked}: {len(left)} such node(s) in {where}"


def check_account(site: Site) -> Finding:
    """Whether Slurm knows the account for this user, or needs none."""
    user = getpass.getuser()
    listed = answer("sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account")
    accounts = sorted(set((listed or "").split()))
    given = site.account
    if not accounts:
        return True, f"account {given or '(none)'}: this cluster keeps no accounts that could be compared"
    if given and given not in accounts:
        return False, f"{user} has no account {given}; set CPT_SLURM_ACCOUNT to one of {', '.join(accounts)}"
    return True, f"account {given or '(the default one)'}; {user} has {', '.join(accounts)}"


def check_status(site: Site) -> Finding:
    """Whether squeue remembers finished jobs long enough for Snakemake to see them end."""
    shown = answer("scontrol", "show", "config") or ""
    found = re.search(r"^MinJobAge\s*=\s*(\d+)", shown, re.MULTILINE)
    needed = 3 * site.poll_seconds
    if found and int(found[1]) < needed:
        return False, (
            f"Slurm forgets finished jobs after {found[1]} s (MinJobAge), and Snakemake looks every "
            f"{site.poll_seconds} s; set CPT_SLURM_POLL_SECONDS to {int(found[1]) // 3} or less"
        )
    return True, f"finished jobs are remembered for {found[1] if found else '?'} s; {needed} s are needed"


def check_shared_folder(partition: str | None, results: Path) -> Finding:
    """Whether a job sees this environment and a file that was just written among the results."""
    secret = secrets.token_hex(8)
    file = results / f".preflight-{secret}"
    results.mkdir(parents=True, exist_ok=True)
    file.write_text(secret)
    where = [f"--partition={partition}"] if partition else []
    code = f"import snakemake; print(open({str(file.resolve())!r}).read())"
    try:
        probe = subprocess.run(
            ["srun", "--quiet", "--ntasks=1", "--time=2", "--mem=500", *where, sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return True, f"not checked: no node of {partition or 'the default partition'} is free at the moment"
    finally:
        file.unlink()
    name = partition or "the default partition"
    if secret in probe.stdout:
        return True, f"jobs in {name} see this folder and this Python"
    reason = (probe.stderr.strip().splitlines() or ["no message"])[-1]
    return False, (
        f"a job in {name} doesn't see {results.resolve()} or {sys.executable} ({reason}); put the clone with "
        "its .venv on a file system that login and compute nodes share"
    )


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
    """Whether the results' file system has room."""
    results.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(results).free
    text = f"{free / 1e9:,.1f} GB are free in {results.resolve()}, of at least {needed / 1e9:,.1f} GB needed"
    return free >= needed, text if free >= needed else f"{text}; make room, or set `results`"


def findings(
    requests: Sequence[Request], hub: Sequence[Repository], site: Site, results: Path, needed: int
) -> Iterator[tuple[str, Finding]]:
    """The name and the finding of each check, one after the other."""
    if answer("sinfo", "--noheader") is None:
        text = "its commands aren't found, or don't answer; start this on a login node of the cluster"
        yield "Slurm", (False, text)
    else:
        yield "Slurm", (True, (answer("sinfo", "--version") or "").strip())
        yield "account", check_account(site)
        yield "job status", check_status(site)
        good = True
        for request in requests:
            finding = check_request(request, site)
            good = good and finding[0]
            yield request.what, finding
        for partition in dict.fromkeys(request.partition for request in requests) if good else ():
            yield "shared folder", check_shared_folder(partition, results)
    for repository in hub:
        yield "hub", check_hub(repository)
    yield "disk", check_disk(results, needed)


def check_all(
    requests: Sequence[Request],
    hub: Sequence[Repository],
    site: Site,
    results: Path,
    disk: dict[str, float | None],
) -> None:
    """Make all checks and report each finding.

    Args:
        requests: the largest jobs.
        hub: what will be read of it.
        site: the site's values.
        results: folder of the results.
        disk: bytes that they will take at least, by kind of file; None where it isn't known.

    Raises UserError with the number of failures.
    """
    failures = 0
    needed = round(sum(size or 0.0 for size in disk.values()))
    for name, (good, text) in findings(requests, hub, site, results, needed):
        failures += not good
        logging.log(NOTICE, "%s %s: %s", "ok    " if good else "FAILED", name, text)
    if failures:
        raise UserError(
            f"{failures} check(s) failed; nothing was submitted; fix what FAILED and run it again"
        )
