"""The frame around every script: arguments, log file, errors. Standard library only.

A script builds its parser with `command_parser(__doc__)`, adds its arguments, and ends with
`run(main, parser)`. With `--log-file FILE`, everything that the script and its libraries print goes to the
file; the terminal sees the progress bar, notices, warnings, and one clear message if something goes wrong.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cpt import progress
from cpt.errors import UserError


def json_value(text: str) -> Any:
    """Argparse type for settings handed over as JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"expected JSON, got {text[:80]!r}: {error}") from None


def command_parser(doc: str) -> argparse.ArgumentParser:
    """A parser with the arguments that all scripts share; `doc` is the script's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log-file", type=Path, help="write all messages to this file")
    parser.add_argument("--code", default="unknown", help="digest of this script's code, for provenance")
    return parser


def _set_up_logging(log: Path | None) -> None:
    # A launcher such as torchrun has its own stderr in the log; it names the terminal's here.
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


def run(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line, call `main`, and exit: 0 done, 1 failed.

    A UserError is told in one message; any other exception goes to the log with its traceback.
    """
    arguments = parser.parse_args()
    try:
        _set_up_logging(arguments.log_file)
    except OSError as error:
        sys.exit(f"error: {error.filename}: the log can't be written ({error.strerror})")
    where = f" (details: {arguments.log_file})" if arguments.log_file else ""
    try:
        main(arguments)
    except UserError as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except OSError as error:
        logging.info("traceback", exc_info=True)
        logging.error("error: %s: %s%s", error.filename or parser.prog, error.strerror or error, where)
        sys.exit(1)
    except Exception as error:
        logging.info("traceback", exc_info=True)
        logging.error("unexpected error in %s: %s: %s%s", parser.prog, type(error).__name__, error, where)
        sys.exit(1)
