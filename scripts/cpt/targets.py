"""What is said of a target that nothing makes: the nearest one that there is."""

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
    """Let Snakemake name the nearest target, in place of "No rule to produce".

    Args:
        workflow: whose rules make what can be asked for.
        results: the folder of this experiment.
    """
    from snakemake import dag  # not at the top: Snakemake's modules import one another in a circle

    class UnknownTarget(MissingRuleException):
        """Raised for each input that no rule makes, too: the message is worked out if it is shown."""

        def __init__(self, file: object) -> None:
            super().__init__(file)
            self.file = str(file)

        def __str__(self) -> str:
            return unknown_target(self.file, targets(workflow), results)

    dag.MissingRuleException = UnknownTarget


def targets(workflow: "Workflow") -> Iterator[str]:
    """The names of all rules, and the files that they make, for all values that their wildcards may have."""
    from snakemake.io import strip_wildcard_constraints

    for rule in workflow.rules:
        yield rule.name
        constraints = {**workflow.modifier.wildcard_constraints, **rule.wildcard_constraints}
        for output in rule.output:
            yield from filled(strip_wildcard_constraints(str(output)), constraints)


def filled(pattern: str, constraints: Mapping[str, str]) -> Iterator[str]:
    """A pattern of file names with each of its wildcards' values; nothing if those aren't a list of names."""
    names = list(dict.fromkeys(name for _, name, *_ in Formatter().parse(pattern) if name))
    values = [constraints.get(name, "").replace("\\", "") for name in names]
    if all(map(NAMES.fullmatch, values)):
        for combination in product(*(value.split("|") for value in values)):
            yield pattern.format(**dict(zip(names, combination, strict=True)))


def unknown_target(target: str, names: Iterable[str], results: str) -> str:
    """What was asked for, what is nearest to it, and where the results of this experiment are."""
    path = os.path.relpath(target) if Path(target).is_absolute() else os.path.normpath(target)
    close = difflib.get_close_matches(path, names, n=1, cutoff=0.8)
    remedy = f"did you mean {close[0]}?" if close else "docs/results.md lists all files, and --list all names"
    elsewhere = "/" in path and not f"{path}/".startswith(f"{results}/")
    here = f" (results of this experiment are in {results}, and --configfile names another one)"
    return f"{target}: no such target; {remedy}{here if elsewhere else ''}"
