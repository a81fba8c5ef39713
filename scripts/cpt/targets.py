"""The message about a target that no rule makes: it names the nearest existing target."""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

from snakemake.exceptions import MissingRuleException

NAMES = re.compile(r"[\w.-]+(\|[\w.-]+)*")

if TYPE_CHECKING:
    from snakemake.workflow import Workflow


def name_the_nearest(workflow: "Workflow", results: str) -> None:
    """Make Snakemake name the nearest target instead of "No rule to produce".

    Args:
        workflow: the workflow whose rules make the targets.
        results: the folder of this experiment.
    """
    from snakemake import dag  # not at the top: Snakemake's modules import one another in a circle

    class UnknownTarget(MissingRuleException):
        """Also raised for each input that no rule makes, so the message is built only when it is shown."""

        def __init__(self, file: object) -> None:
            super().__init__(file)
            self.file = str(file)

        def __str__(self) -> str:
            return unknown_target(self.file, targets(workflow), results)

    dag.MissingRuleException = UnknownTarget


def targets(workflow: "Workflow") -> Iterator[str]:
    """Yields the names of all rules, and their output files for all values of their wildcards."""
    from snakemake.io import strip_wildcard_constraints

    for rule in workflow.rules:
        yield rule.name
        constraints = {**workflow.modifier.wildcard_constraints, **rule.wildcard_constraints}
        for output in rule.output:
            yield from filled(strip_wildcard_constraints(str(output)), constraints)


def filled(pattern: str, constraints: Mapping[str, str]) -> Iterator[str]:
    """Yields a file pattern with all values of its wildcards; nothing if a wildcard has no list of names."""
    names = list(dict.fromkeys(name for _, name, *_ in Formatter().parse(pattern) if name))
    values = [constraints.get(name, "").replace("\\", "") for name in names]
    if all(map(NAMES.fullmatch, values)):
        for combination in product(*(value.split("|") for value in values)):
            yield pattern.format(**dict(zip(names, combination, strict=True)))


def unknown_target(target: str, names: Iterable[str], results: str) -> str:
    """Returns a message: the unknown target, the nearest target, and where this experiment's results are."""
    path = os.path.relpath(target) if Path(target).is_absolute() else os.path.normpath(target)
    close = difflib.get_close_matches(path, names, n=1, cutoff=0.8)
    remedy = f"did you mean {close[0]}?" if close else "docs/results.md lists all files, and --list all names"
    elsewhere = "/" in path and not f"{path}/".startswith(f"{results}/")
    here = f" (results of this experiment are in {results}, and --configfile names another one)"
    return f"{target}: no such target; {remedy}{here if elsewhere else ''}"
