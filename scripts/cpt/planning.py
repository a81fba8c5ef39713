"""Changes to Snakemake that make planning time grow with the number of jobs, not with its square."""

import gc
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from snakemake.common import get_function_params, overwrite_function_params
from snakemake.exceptions import WorkflowError
from snakemake.resources import Resource

if TYPE_CHECKING:
    from snakemake.dag import DAG
    from snakemake.io import _IOFile
    from snakemake.iocontainers import InputFiles
    from snakemake.jobs import Job

NEW_OBJECTS = 50_000  # between garbage collections; Python's 700 would search a growing plan all the time


def plan_fast() -> None:
    """Change Snakemake in this process. Planning time is then proportional to the number of jobs. A second
    plan, after a checkpoint, has only the jobs still needed. No job is skipped behind an `ancient` input.

    Snakemake's own check of groups walks everything upstream of each job of each group. It also searches the
    inputs of a job that reads all shards once for every shard that needs the job's output.
    """
    from snakemake.dag import DAG  # not at the top: Snakemake's modules import one another in a circle
    from snakemake.iocontainers import InputFiles

    InputFiles.__contains__ = is_input
    DAG.update_needrun = needed_now(DAG.update_needrun)
    DAG.validate_group = lambda dag, group: None
    DAG._check_groups = check_groups
    overwrite_function_params(Resource.evaluate, get_function_params(Resource.evaluate))  # inspected once
    gc.set_threshold(NEW_OBJECTS)


def is_input(files: "InputFiles", file: object) -> bool:
    """Whether a file is one of a job's inputs. Snakemake makes their list once and never changes it."""
    if not hasattr(files, "_members"):
        files._members = frozenset(files)
    return file in files._members


def needed_now(plan: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Returns `DAG.update_needrun`, the argument `plan`, without two faults.

    Snakemake keeps the reasons of an earlier plan, so jobs behind one that is no longer needed would still
    run. And it doesn't check whether a job behind a due job is due itself, even if only `ancient` files
    connect them: a model would not be made, or outdated scores kept
    (github.com/snakemake/snakemake/issues/4166).
    """

    async def planned(dag: "DAG", create_inventory: bool = False) -> None:
        for job in dag.needrun_jobs():
            if dag._group.get(job, job) not in dag._running:
                dag.reason(job).clear()
        dag.bfs = follow
        try:
            await plan(dag, create_inventory)
        finally:
            del dag.bfs

    return planned


def follow(depending: "Mapping[Job, Mapping[Job, set[_IOFile]]]", job: "Job") -> "Iterator[Job]":
    """Yields a job and the jobs that are due because of it: they read one of its files, not as `ancient`."""
    queue, seen = deque([job]), {job}
    while queue:
        yield (job := queue.popleft())
        due = {later for later, files in depending[job].items() if not all(file.is_ancient for file in files)}
        queue.extend(due - seen)
        seen |= due


def check_groups(dag: "DAG") -> None:
    """Check all groups of jobs in one pass over the workflow.

    Raises WorkflowError if a group waits for itself: for jobs that wait for one of the group's jobs.
    """
    nodes = {job: id(group) for job, group in dag._group.items()}  # a group's hash changes when it grows
    waits: dict[object, set[object]] = {}
    for job in dag.jobs:
        node = nodes.get(job, job)
        earlier = {nodes.get(dependency, dependency) for dependency in dag._dependencies[job]}
        waits.setdefault(node, set()).update(earlier - {node})
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        names = {id(group): group.groupid for group in dag._group.values()}
        circle = " <- ".join(names.get(node) or node.rule.name for node in error.args[1])
        raise WorkflowError(
            f"Groups of jobs wait for themselves ({circle}); change `groups` in the profile, or --groups"
        ) from None
