"""The single values of the config: counts, shares, names, paths."""

import os
import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

COUNT_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
LARGEST_COUNT = 10**18  # a million T
COUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([KMBT]?)")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
# A name, or `RUN@TOKENS`: the state of a run with `keep_every` after that number of tokens.
MODEL = r"^[A-Za-z0-9][A-Za-z0-9._-]*(@[0-9][0-9_.]*[KMBT]?)?$"
WHEEL_DIGEST, COMMIT, ADDRESS = "^[0-9a-f]{64}$", "^[0-9a-f]{40}$", "^https?://"
PATTERN_IN_WORDS = {
    NAME: "a name of letters, digits, . _ - that begins with a letter or digit",
    MODEL: "a name of letters, digits, . _ -, or such a name and tokens, as in RUN@200M",
    WHEEL_DIGEST: "64 hex digits (0-9, a-f)",
    COMMIT: "40 hex digits (0-9, a-f)",
    ADDRESS: "an address that begins with http:// or https://",
}


def parse_count(value: Any) -> int:
    """Read a count such as 400M, 1.5B, 2_000 or 16384 (decimal units: K, M, B, T).

    Raises ValueError for any other value, and for counts that are negative, not whole, or over LARGEST_COUNT.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        count = Fraction(value)
    else:
        text = str(value).strip()
        if not (match := COUNT.fullmatch(text)):
            meant = re.sub(r",(?=[0-9]{3}\b)", "_", text).upper()
            raise ValueError(
                f"expected a count such as 400M, 1.5B or 2_000, but {value!r} was given"
                + (f"; write {meant}" if COUNT.fullmatch(meant) else "")
            )
        count = Fraction(match[1].replace("_", "")) * COUNT_UNITS[match[2]]
    if count < 0 or count.denominator != 1:
        raise ValueError(f"expected a whole count, zero or more, but {value!r} was given")
    if count > LARGEST_COUNT:
        raise ValueError(f"expected a count of at most 1_000_000T, but {value!r} was given")
    return int(count)


def parse_path(text: str) -> str:
    """Returns a path or pattern of paths with a leading `~` replaced by the home folder.

    Raises ValueError for empty text, blanks at the ends, and line breaks.
    """
    if text != text.strip() or text.splitlines() != [text] or "\0" in text:
        raise ValueError(f"expected a path without blanks at its ends or line breaks, but {text!r} was given")
    return os.path.expanduser(text)  # noqa: PTH111 - a Path would shorten https://


def parse_results(text: str) -> str:
    """Returns the path of the results folder in its shortest form.

    Raises ValueError if the path can't be a folder of outputs, or if it is or leads through a file.
    """
    if "://" in text:
        raise ValueError(f"{text} is an address; name a folder on this disk, such as results/own")
    if set(text) & set("{}"):
        raise ValueError(f"{text} has braces, which Snakemake reads as wildcards; leave them out")
    path = os.path.normpath(text)
    *_, last = path.split("/")
    if last in ("", ".", ".."):
        raise ValueError(f"{text} can't hold outputs alone; name a folder of its own, such as results/own")
    if path.startswith("~"):
        raise ValueError(f"{text}: there is no such user; write the path of the folder")
    above = path
    while above and not os.path.lexists(above):
        above = os.path.dirname(above)  # noqa: PTH120
    if above and not os.path.isdir(above):  # noqa: PTH112
        raise ValueError(f"{above} is no folder; name one, such as results/own, or move the file")
    return path


def _seed(seed: int) -> int:
    if seed >= 2**63:
        raise ValueError(f"expected a seed below 2**63, but {seed} was given")
    return seed


Count = Annotated[int, BeforeValidator(parse_count)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0), AfterValidator(_seed)]
Name = Annotated[str, Field(pattern=NAME)]
PathText = Annotated[str, AfterValidator(parse_path)]
ResultsPath = Annotated[PathText, AfterValidator(parse_results)]
