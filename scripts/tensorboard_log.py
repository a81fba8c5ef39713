"""Show training in TensorBoard: copy metrics.csv and held_out.csv of every run into event files.

Training knows nothing of it: the files of runs under way and of finished ones are read, once or, with
--follow, again and again. `tensorboard --logdir FOLDER` then shows the output folder.
"""

import argparse
import contextlib
import csv
import logging
import time
from pathlib import Path
from typing import Any

from cpt.command import command_parser, run
from cpt.errors import DamagedFileError, UserError

# Where a run's files lie. Training copies them to the first folder before it removes the second.
PLACES = ("runs", "checkpoints")

Points = dict[tuple[str, int], str]  # text of a cell, by tag and step


def whole_seconds(text: str) -> int:
    """Argparse type for seconds, 1 or more: the names of event files order them by whole seconds."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected whole seconds, 1 or more, got {text!r}")
    return int(text)


def read_points(path: Path) -> Points:
    """What a metrics.csv or held_out.csv says, in the order of its rows; empty cells are left out.

    Raises DamagedFileError if the file isn't as training writes it, FileNotFoundError if there is none.
    """
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    # A last line without its end is still being written.
    rows = csv.DictReader(line for line in lines if line.endswith("\n"))
    points: Points = {}
    try:
        for row in rows:
            step, corpus = int(row.pop("step")), row.pop("corpus", None)
            if corpus is not None:
                del row["tokens"]  # which metrics.csv has too
            for column, cell in row.items():
                if cell:
                    float(cell)  # or ValueError; kept as text, because NaN doesn't equal itself
                    tag = f"train/{column}" if corpus is None else f"held_out/{column}/{corpus}"
                    points[tag, step] = cell
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{path}: line {rows.line_num} isn't as training writes it ({type(error).__name__}: {error}); "
            "remove that line, or name another results folder after --results"
        ) from None
    return points


def open_writer(folder: Path, purge_step: int) -> Any:
    """A SummaryWriter with a new event file, which takes the place of earlier ones from `purge_step` on.

    Raises UserError where TensorBoard isn't installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            f"TensorBoard can't be imported ({error}); install it: .venv/bin/pip install tensorboard"
        ) from None
    return SummaryWriter(str(folder), purge_step=purge_step)


class Board:
    """The event files of one run. Those of an earlier start are removed."""

    def __init__(self, folder: Path):
        earlier = list(folder.glob("events.out.tfevents.*"))
        self.folder, self.shown = folder, Points()
        self.writer = open_writer(folder, 0)  # 0, for a TensorBoard that has read the earlier ones
        for path in earlier:
            path.unlink()

    def show(self, points: Points) -> None:
        """Add what is new. If points that are shown are gone or differ, the run went on from a checkpoint."""
        gone = [step for (tag, step), cell in self.shown.items() if points.get((tag, step)) != cell]
        if gone:
            self.writer.close()
            self.writer = open_writer(self.folder, min(gone))
            self.shown = {key: cell for key, cell in self.shown.items() if key[1] < min(gone)}
        for (tag, step), cell in points.items():
            if (tag, step) not in self.shown:
                self.writer.add_scalar(tag, float(cell), step)
        self.writer.flush()
        self.shown = points


def update(boards: dict[str, Board], results: Path, output: Path) -> None:
    """Show all runs as they are now; a board is added for each new one.

    Raises UserError if there is no run at all, or as `read_points` and `open_writer` do.
    """
    found = {path.parent.name for place in PLACES for path in results.glob(f"{place}/*/metrics.csv")}
    for name in sorted(found):
        points: Points = {}
        for file in ("metrics.csv", "held_out.csv"):
            for place in PLACES:
                with contextlib.suppress(FileNotFoundError):
                    points |= read_points(results / place / name / file)
                    break
        if name not in boards:
            boards[name] = Board(output / name)
            logging.info("%s: %s", name, output / name)
        boards[name].show(points)
    if not boards:
        raise UserError(
            f"{results}: expected runs/RUN/metrics.csv or checkpoints/RUN/metrics.csv, but no run has begun; "
            "start training first, or name the experiment's results folder after --results"
        )


def main(arguments: argparse.Namespace) -> None:
    """Write a folder of event files for each run; with `follow`, every so many seconds until Ctrl-C."""
    boards: dict[str, Board] = {}
    output = arguments.output or arguments.results / "tensorboard"
    try:
        update(boards, arguments.results, output)
        while arguments.follow:
            time.sleep(arguments.follow)
            update(boards, arguments.results, output)
    except KeyboardInterrupt:
        if not arguments.follow:
            raise
    finally:
        for board in boards.values():
            board.writer.close()


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="of the experiment")
    parser.add_argument(
        "--output",
        type=Path,
        help="RESULTS/tensorboard if not given; event files of the same runs are replaced",
    )
    parser.add_argument("--follow", type=whole_seconds, metavar="SECONDS", help="look again until Ctrl-C")
    run(main, parser)
