"""The call of a stage by its rule: named inputs, outputs and settings become command-line options.

Imports neither pydantic nor Snakemake at the top, because rules/stages.smk and tests import it.
"""

import ast
import json
import re
import shlex
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from cpt.command import SCALARS
from cpt.digest import plain
from cpt.errors import UserError

MOST_CHARACTERS = 50_000  # Linux starts no program with more than 2 MiB of words and environment
FEWEST_IN_BRACES = 4  # from this many numbered files on, they are written as a range


@cache
def parameters(script: Path) -> dict[str, bool]:
    """Returns the parameters of a script's stage, in order, and whether each is required. Doesn't import it.

    Raises UserError if the script has no function of its own name, or if the function has `*` parameters.
    """
    tree = ast.parse(script.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == script.stem:
            if node.args.kwonlyargs or node.args.vararg or node.args.kwarg:
                raise UserError(f"{script}: a stage takes plain parameters alone; remove `*`")
            names = [argument.arg for argument in node.args.args]
            required = len(names) - len(node.args.defaults)
            return {name: place < required for place, name in enumerate(names)}
    raise UserError(f"{script}: expected a function {script.stem}, the stage; define it")


def check_names(rule: str, script: Path, groups: dict[str, Iterable[str]]) -> None:
    """Check that the names that a rule passes are the stage's parameters.

    Args:
        rule: the rule's name, for messages.
        script: the stage's script.
        groups: the names by their section of the rule: input, output, params, wildcards.

    Raises:
        UserError: a name is missing, unknown to the stage, or given twice.
    """
    wanted, places = parameters(script), {}
    for place, names in groups.items():
        for name in names:
            if place == "wildcards":
                places.setdefault(name, place)
            elif name in places:
                raise UserError(
                    f"rule {rule}: {name} is in {places[name]} and in {place}; rename one of them"
                )
            elif name not in wanted:
                raise UserError(f"rule {rule}: {place}.{name} is no parameter of {script.name}; rename it")
            else:
                places[name] = place
    if missing := [name for name, required in wanted.items() if required and name not in places]:
        raise UserError(f"rule {rule}: {script.name} needs {missing[0]}; name an input, output or param so")


def arguments(**values: Any) -> list[str]:
    """Returns parameters as the words of a command line.

    None gives no word. A list of files, text or numbers gives a word for each element, with `./` before one
    that would read as an option or an argument file. A section, a mapping or a list of those is JSON.
    """
    words: list[str] = []
    for name, value in values.items():
        word = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(word if value else f"--no-{word[2:]}")
        elif isinstance(value, list | tuple) and all(isinstance(each, SCALARS) for each in value):
            texts = [str(each) for each in value]
            words += [word, *(f"./{text}" if text[0] in "-@" else text for text in texts)] if texts else []
        elif value is not None:
            text = (
                value if isinstance(value, SCALARS) else json.dumps(value, ensure_ascii=False, default=plain)
            )
            words.append(f"{word}={text}")
    return words


def option(name: str, value: Any) -> str:
    """Returns a parameter as text for bash.

    Files numbered 00000, 00001, ... are written as `{00000..00009}`, which people can read. If there are more
    words than a program can start with, bash puts them into a file (`@` in the command line of cpt.command).
    """
    words = arguments(**{name: value})

    def numbered(place: int) -> Any:
        """Returns what the files of one range have in common: the text around the number, and its offset."""
        match = re.fullmatch(r"(.*/)(\d{5})(\.[\w.]+)", words[place])
        return (match[1], int(match[2]) - place, match[3]) if match else place

    texts: list[str] = []
    for key, places in groupby(range(len(words)), numbered):
        members = [words[place] for place in places]
        if isinstance(key, tuple) and len(members) >= FEWEST_IN_BRACES:
            first, last = (member.removesuffix(key[2])[-5:] for member in (members[0], members[-1]))
            texts.append(f"{shlex.quote(key[0])}{{{first}..{last}}}{shlex.quote(key[2])}")
        else:
            texts += map(shlex.quote, members)
    text = " ".join(texts)
    return f"@<(printf '%s\\n' {text})" if sum(map(len, words)) > MOST_CHARACTERS else text


class Untracked:
    """A param that Snakemake doesn't compare, because it isn't text: a location, or how a job is run.

    A new interpreter or place of the clone reruns nothing. A function is called when the job starts.
    """

    def __init__(self, value: Any):
        self.value = value

    def now(self) -> Any:
        """Returns the value, or what it returns if it is a function."""
        return self.value() if callable(self.value) else self.value

    def __str__(self) -> str:
        return str(self.now())
