"""What a change reruns on the finished smoke experiment. docs/reruns.md has the same table, line by line."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from project_copy import ROOT, SMOKE, Project

PAGE = (ROOT / "docs" / "reruns.md").read_text()
OWN_FOLDER = ROOT / "tests" / "workflow" / "own_tasks"
OWN_TASK = f"evaluate={{include_path: {OWN_FOLDER}, tasks: {{own: {{label: Own, metric: acc}}}}}}"


def touch_all(project: Project) -> None:
    """Give all code and the paper's files a new time stamp."""
    for pattern in ("scripts/**/*.py", "rules/*.smk", "Snakefile", "paper/*"):
        for path in project.folder.glob(pattern):
            path.touch()


@contextmanager
def rewritten(project: Project) -> Iterator[None]:
    """Change comments, docstrings, line breaks and blanks."""
    changes = [
        ("scripts/cpt/train/loop.py", "# Checkpoint.", "# A checkpoint,\n            # now and then."),
        ("scripts/pack.py", '"""Pack the', '"""Now pack the'),
        ("scripts/cpt/train/loop.py", "updates += 1", "updates  +=  (\n 1 )"),
    ]
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(project.edit(*change))
        yield


@contextmanager
def edited(project: Project, *change: str) -> Iterator[None]:
    with project.edit(*change):
        yield


STYLE = ("scripts/cpt/report/style.py", '"lines.linewidth": 1.5', '"lines.linewidth": 1.6')
SCHEDULES = ("scripts/cpt/train/schedules.py", "0.5 * (1.0", "0.49 * (1.0")
NO_CHANGES = ("nothing", "all code touched", "comments, docstrings, white space")
# Title in the table: a change of the project, or options of the command line.
CHANGES = {
    "the style of the figures (`scripts/cpt/report/style.py`)": STYLE,
    "the paper's text (`paper/paper.typ`)": ("paper/paper.typ", "the", "that"),
    "one task more": ("--config", OWN_TASK),
    "a third run": ("--config", "runs={cpt-20K: {tokens: 20480, cpus: 2}}"),
    "a run on two nodes": ("--config", "runs={cpt-16K: {nodes: 2}}"),
    "the learning rate": ("--config", "train={learning_rate: 0.0005}"),
    "the learning-rate schedule's code (`scripts/cpt/train/schedules.py`)": SCHEDULES,
    "a filter's threshold": ("--config", "filters={length: {minimum_lines: 4}}"),
}


def line(title: str, jobs: dict[str, int]) -> str:
    """A row of the page's table: the rules in sorted order, with their numbers of jobs."""
    cell = ", ".join(f"{rule}{f' ({count})' if count > 1 else ''}" for rule, count in sorted(jobs.items()))
    return f"| {title} | {cell or 'nothing'} |"


def test_new_time_stamps_comments_and_white_space_rerun_nothing(project):
    with rewritten(project):
        touch_all(project)
        jobs = project.planned()
    assert {line(title, jobs) for title in NO_CHANGES} < set(PAGE.splitlines())


@pytest.mark.parametrize("title", CHANGES)
def test_a_change_reruns_what_the_page_says(project, title):
    change = CHANGES[title]
    if not change[0].startswith("--"):
        with edited(project, *change):
            jobs = project.planned()
    else:
        jobs = project.planned(*change)
    jobs.pop("all", None)
    assert line(title, jobs) in PAGE.splitlines()


def test_copied_results_in_a_fresh_clone_rerun_nothing(project, tmp_path):
    clone = Project(tmp_path / "clone")
    shutil.copytree(project.folder / "results" / "smoke", clone.folder / "results" / "smoke")
    jobs = clone.planned("all", *SMOKE, config=())
    assert line("a fresh clone with copied results", jobs) in PAGE.splitlines()


def test_the_page_has_no_other_lines():
    lines = [row for row in PAGE.splitlines() if row.startswith("| ")]
    assert len(lines) == len(NO_CHANGES) + len(CHANGES) + 3  # head, rule, and the fresh clone's
