"""TensorBoard's event files, made from training's CSV files."""

import contextlib
import csv
import logging
import time
from pathlib import Path
from typing import Any

from cpt.errors import DamagedFileError, UserError

# Where a run's files lie. Training copies them to the first folder before it removes the second.
PLACES = ("runs", "checkpoints")

Points = dict[tuple[str, int], str]  # a cell's text by (tag, step)


def read_points(path: Path) -> Points:
    """The cells of a metrics.csv or held_out.csv, in the order of its rows, without empty ones.

    Raises DamagedFileError if the file isn't as training writes it, FileNotFoundError if it is missing.
    """
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    # A last line without a newline is still being written.
    rows = csv.DictReader(line for line in lines if line.endswith("\n"))
    points: Points = {}
    try:
        for row in rows:
            step, corpus = int(row.pop("step")), row.pop("corpus", None)
            if corpus is not None:
                del row["tokens"]  # which metrics.csv has too
            for column, cell in row.items():
                if cell:
                    float(cell)  # raises ValueError; the text is kept, as NaN doesn't equal itself
                    tag = f"train/{column}" if corpus is None else f"held_out/{column}/{corpus}"
                    points[tag, step] = cell
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{path}: line {rows.line_num} isn't as training writes it ({type(error).__name__}: {error}); "
            "remove that line, or name another results folder after --results"
        ) from None
    return points


def open_writer(folder: Path, purge_step: int) -> Any:
    """Open a SummaryWriter with a new event file, which replaces earlier ones from `purge_step` on.

    Raises UserError if TensorBoard can't be imported.
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
        """Add new points; replace shown ones that are gone or differ, as after resuming from a checkpoint."""
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
    """Show the current points of all runs; add a board for each new run.

    Raises UserError if there is no run, or as `read_points` and `open_writer` do.
    """
    run_names = {path.parent.name for place in PLACES for path in results.glob(f"{place}/*/metrics.csv")}
    for name in sorted(run_names):
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


def show_runs(results: Path, output: Path, follow: int | None) -> None:
    """Write a folder of event files for each run; with `follow`, update it every `follow` s until Ctrl-C.

    Raises UserError as `update` does, or if `follow` isn't 1 or more.
    """
    if follow is not None and follow < 1:  # event files are ordered by the whole seconds in their names
        raise UserError(f"--follow: expected whole seconds, 1 or more, got {follow}")
    boards: dict[str, Board] = {}
    try:
        update(boards, results, output)
        while follow:
            time.sleep(follow)
            update(boards, results, output)
    except KeyboardInterrupt:
        if not follow:
            raise
    finally:
        for board in boards.values():
            board.writer.close()
