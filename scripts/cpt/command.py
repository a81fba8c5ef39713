"""The frame around every stage: command line, log file, errors.

It needs only the standard library, and pydantic for options that hold a section of the config.

A script holds one function and ends with `run(function)`. The function's parameters are the options. Those
without a default are required, a list takes several words, a bool is `--x` or `--no-x`. Numbers, text, paths
and `Literal` are read as such; any other type is JSON. The help comes from the docstring: the text before
`Args:`, and under it a line for each parameter.

With `--log FILE`, everything that the stage and its libraries print goes to the file. The terminal sees the
progress bar, notices, warnings, and one clear message if something goes wrong.
"""

import argparse
import inspect
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cpt import progress
from cpt.errors import UserError

code = "unknown"  # digest of the running stage's code, for provenance
SCALARS = (str, int, float, Path)


def _reader(kind: Any) -> Callable[[str], Any]:
    """Returns a function that turns an option's JSON into a value of this type."""

    def read(text: str) -> Any:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected JSON, got {text[:80]!r}: {error}") from None
        if _is_plain(kind):
            if not _fits(value, kind):
                raise argparse.ArgumentTypeError(f"expected {kind}, got {text[:80]!r}")
            return value
        from pydantic import (  # not at the top: it loads longer than a small stage
            TypeAdapter,
            ValidationError,
        )

        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
            raise argparse.ArgumentTypeError("; ".join(problems)) from None

    return read


def _is_plain(kind: Any) -> bool:
    """Whether a type consists only of dict, list and JSON's own scalars."""
    return kind in (str, int, float, bool, Any) or (
        get_origin(kind) in (dict, list) and all(map(_is_plain, get_args(kind)))
    )


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value from JSON is of a plain type."""
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(each, get_args(kind)[1]) for each in value.values())
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(each, get_args(kind)[0]) for each in value)
    return kind is Any or isinstance(value, int | float if kind is float else kind)


def _option(kind: Any) -> dict[str, Any]:
    """Returns argparse's arguments for an option of this type."""
    if get_origin(kind) in (UnionType, Union) and NoneType in get_args(kind):
        kind = Union[tuple(each for each in get_args(kind) if each is not NoneType)]  # noqa: UP007
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) in (list, Sequence) and get_args(kind)[0] in SCALARS:
        return {"nargs": "*", "type": get_args(kind)[0]}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    return {"type": kind if kind in SCALARS else _reader(kind)}


def parser_of(stage: Callable[..., None]) -> argparse.ArgumentParser:
    """Returns the command line of a stage, made from its signature and docstring."""
    description, _, described = (inspect.getdoc(stage) or "").partition("\nArgs:\n")
    helps = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", described, re.MULTILINE))
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        fromfile_prefix_chars="@",
    )
    kinds = get_type_hints(stage)
    for name, parameter in inspect.signature(stage).parameters.items():
        missing = parameter.default is parameter.empty
        many = get_origin(kinds[name]) in (list, Sequence)  # an empty list has no word on the command line
        default = (() if many else None) if missing else parameter.default
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            required=missing and not many,
            default=list(default) if many else default,
            help=" ".join(helps.get(name, "").replace("%", "%%").split()),
            **_option(kinds[name]),
        )
    parser.add_argument("--log", type=Path, help="write all messages to this file")
    parser.add_argument("--code", default=code, help="digest of this stage's code, for provenance")
    return parser


def _set_up_logging(log: Path | None) -> None:
    # A launcher such as torchrun sends its stderr to the log and names the terminal in this variable.
    path = os.environ.get("CPT_TERMINAL", "/nonexistent")
    shown = os.open(path, os.O_WRONLY | os.O_APPEND) if Path(path).exists() else os.dup(2)
    terminal = os.fdopen(shown, "w", buffering=1, errors="replace")
    progress.set_terminal(terminal)
    console = logging.StreamHandler(terminal)
    console.setFormatter(logging.Formatter("%(message)s"))
    handlers: list[logging.Handler] = [console]
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = open(log, "a" if "RANK" in os.environ else "w", buffering=1)  # noqa: SIM115
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        handlers.append(logging.StreamHandler(file))
        console.setLevel(progress.NOTICE if os.environ.get("RANK", "0") == "0" else logging.CRITICAL)
        handlers[1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    logging.addLevelName(progress.NOTICE, "NOTICE")
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addFilter(lambda record: log is None)
    for noisy in ("httpx", "httpx2", "httpcore", "huggingface_hub", "datasets", "transformers", "filelock"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def run(stage: Callable[..., None]) -> None:
    """Parse the command line and call `stage` with its values. Exits with 1 if it fails.

    A UserError is reported in one message; any other exception goes to the log with its traceback.
    """
    global code
    parser = parser_of(stage)
    values = vars(parser.parse_args())
    log, code = values.pop("log"), values.pop("code")
    try:
        _set_up_logging(log)
    except OSError as error:
        sys.exit(f"error: {error.filename}: the log can't be written ({error.strerror})")
    where = f" (details: {log})" if log else ""
    try:
        stage(**values)
    except UserError as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except OSError as error:
        if log:  # without a log the one line is enough, such as for a missing file
            logging.info("traceback", exc_info=True)
        logging.error("error: %s: %s%s", error.filename or parser.prog, error.strerror or error, where)
        sys.exit(1)
    except Exception as error:
        logging.info("traceback", exc_info=True)
        logging.error("unexpected error in %s: %s: %s%s", parser.prog, type(error).__name__, error, where)
        sys.exit(1)
