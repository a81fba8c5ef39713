"""Checkpoints from which any engine can resume, on any number of processes.

A checkpoint is a folder `step-00000050` with `model.safetensors` (float32 weights),
`optimizer.safetensors` (AdamW's first and second moment of each weight) and `state.json` (step, number of
updates, the run's identity and its parts, SHA-256 of both files). It is written under a temporary name and
renamed, so a folder with the final name is complete. Its checksums are still verified before use.
"""

import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cpt.errors import UserError
from cpt.files import NO_ROOM, atomic, read_json, sha256_of, write_json
from cpt.train.set_aside import Identity, set_aside, take_back

TensorsByName = dict[str, torch.Tensor]
FILES = ("model.safetensors", "optimizer.safetensors")


def _folders(root: Path) -> list[Path]:
    return sorted(root.glob("step-*"), reverse=True)


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turn safetensors' I/O errors, which have the error's number only in their message, into OSErrors."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def with_room(root: Path, write: Callable[[], None], kept: Collection[int] = ()) -> None:
    """Call `write`; if the disk is full, remove all checkpoints but the newest and call it once more.

    Checkpoints of the steps in `kept` stay, here and in `save`: they are results (cpt.train.continuation).
    """
    try:
        return write()
    except (OSError, UserError) as error:
        older = _removable(_folders(root)[1:], kept)
        numbers = {getattr(e, "errno", None) for e in (error, error.__cause__)}
        if not older or numbers.isdisjoint(NO_ROOM):
            raise
    logging.warning("%s: the disk is full; removing all checkpoints but the newest to make room", root)
    for folder in older:
        shutil.rmtree(folder)
    return write()


def save(
    root: Path,
    step: int,
    updates: int,
    identity: Identity,
    weights: TensorsByName,
    moments: TensorsByName,
    keep: int,
    kept: Collection[int] = (),
) -> None:
    """Write the checkpoint after `step` steps and remove all but the newest `keep` and those in `kept`.

    `weights` maps parameter names to float32 tensors. `moments` maps `exp_avg.NAME`, `exp_avg_sq.NAME` and
    any scales to tensors in their stored form (Engine.state). All are on the CPU. `updates` is the number of
    steps that updated the weights (cpt.train.bad_steps).
    """
    with atomic(checkpoint_folder(root, step)) as folder:
        folder.mkdir()
        for name, tensors in zip(FILES, (weights, moments), strict=True):
            with os_errors(folder / name):
                save_file(tensors, folder / name)
        checksums = {name: sha256_of(folder / name) for name in FILES}
        state = {"step": step, "updates": updates, "identity": identity.digest, "sha256": checksums}
        state["learned"] = identity.learned
        write_json(folder / "state.json", state)
    for old in _removable(_folders(root)[keep:], kept):
        shutil.rmtree(old)


def checkpoint_folder(root: Path, step: int) -> Path:
    """The folder of the checkpoint after `step` steps."""
    return root / f"step-{step:08d}"


def _removable(folders: list[Path], kept: Collection[int]) -> list[Path]:
    """The folders of checkpoints that may be removed."""
    names = {checkpoint_folder(Path(), step).name for step in kept}
    return [folder for folder in folders if folder.name not in names]


def newest(root: Path, identity: Identity, kept: Collection[int] = ()) -> Path | None:
    """The newest complete checkpoint of this run in `root`, or None.

    Removes corrupt checkpoints with a warning, and leftovers of killed writers without one. Sets
    checkpoints of another identity (data, settings or start) aside with a warning, and takes back those of
    this one. If a step in `kept` has no checkpoint, later ones are removed, so that training passes it again.

    Raises UserError if a checkpoint can't be read: it may be good, so it isn't skipped.
    """
    for leftover in root.glob(".step-*"):
        shutil.rmtree(leftover)
    for folder in _folders(root):
        state = _read_state(folder, checksums=False)
        if state and state["identity"] != identity.digest and _read_state(folder, checksums=True):
            set_aside(folder, state, identity)
    take_back(root, identity)
    paths = [checkpoint_folder(root, step) for step in sorted(kept)]
    missing = next(
        (path for path in paths if not path.exists() or not _read_state(path, checksums=True)), None
    )
    for folder in _folders(root) if missing else []:
        if folder.name > missing.name:
            logging.warning("%s: removed, as %s is missing, which the run has to keep", folder, missing.name)
            shutil.rmtree(folder)
    return next((folder for folder in _folders(root) if _read_state(folder, checksums=True)), None)


def _read_state(folder: Path, checksums: bool) -> dict[str, Any] | None:
    """Returns a checkpoint's state, or None after removing a corrupt one with a warning."""
    try:
        state = read_json(folder / "state.json")
        if not isinstance(state["step"] + state["updates"], int) or not isinstance(state["identity"], str):
            raise ValueError("state.json: step, updates or identity has another type")
        wrong = [name for name in FILES if checksums and sha256_of(folder / name) != state["sha256"][name]]
        if not wrong:
            return state
        problem = f"the checksum of {' and '.join(wrong)} differs"
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, UserError) as error:
        problem = f"{type(error).__name__}: {error}"
    except OSError as error:
        raise UserError(
            f"{folder}: can't be read ({error.strerror}); repair the disk and start again, or remove the "
            "folder to resume from the checkpoint before it"
        ) from error
    logging.warning("%s is corrupt (%s); falling back to the checkpoint before it", folder, problem)
    shutil.rmtree(folder)
    return None


def load(folder: Path) -> tuple[dict[str, Any], TensorsByName, TensorsByName]:
    """Read (state, weights, moments) as `save` wrote them."""
    return read_json(folder / "state.json"), *(load_file(folder / name) for name in FILES)


class Writer:
    """Writes a run's checkpoints in a thread, one at a time, while training continues; a context manager.

    If a checkpoint can't be written, training continues with a warning as long as an earlier one exists, and
    the next is written when it is due. Without an earlier one, or for a step in `kept`, `check` raises a
    UserError.

    Args:
        root: folder of the run's checkpoints.
        identity: of the run.
        keep: newest checkpoints to keep.
        good: the checkpoint from which the run resumed, if any.
        kept: steps whose checkpoints stay, and must be written.
    """

    def __init__(
        self, root: Path, identity: Identity, keep: int, good: Path | None, kept: Collection[int] = ()
    ):
        self.root, self.identity, self.keep, self.good, self.kept = root, identity, keep, good, kept
        self.count = self.bytes_each = 0
        self.seconds_blocked = self.seconds_written = 0.0
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._join()

    def write(
        self, step: int, updates: int, weights: TensorsByName, moments: TensorsByName, since: float
    ) -> None:
        """Start writing the checkpoint after `step` steps; waits for the one before it.

        The tensors are those of `save`; nothing may change them after this call. `since` is the
        time.monotonic() at which training stopped to copy them.
        """
        self.wait_turn(step)
        blocked = time.monotonic() - since
        self.seconds_blocked += blocked
        arguments = (step, updates, weights, moments, blocked)
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint")
        self._thread.start()

    def wait_turn(self, step: int) -> None:
        """Wait for the write in flight, if any, before the checkpoint after `step` steps is written."""
        if self._thread is not None and self._thread.is_alive():
            logging.info("training waits for the checkpoint before that of step %d to be written", step)
        self.wait()

    def check(self) -> None:
        """Raise the error of a failed write if training has to stop for it; doesn't wait."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Wait for the write in flight, if any; then `check`."""
        self._join()
        self.check()

    def summary(self) -> dict[str, Any]:
        """Figures for run.json: what was written in this session, and how long training waited for it."""
        return {
            "written": self.count,
            "megabytes_each": round(self.bytes_each / 1e6, 1),
            "seconds_training_waited": round(self.seconds_blocked, 2),
            "seconds_written": round(self.seconds_written, 2),
        }

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(
        self, step: int, updates: int, weights: TensorsByName, moments: TensorsByName, blocked: float
    ) -> None:
        began = time.monotonic()
        size = sum(t.numel() * t.element_size() for t in (*weights.values(), *moments.values()))
        try:
            with_room(
                self.root,
                lambda: save(self.root, step, updates, self.identity, weights, moments, self.keep, self.kept),
                self.kept,
            )
        except (OSError, UserError) as error:
            reasons = (getattr(e, "strerror", None) for e in (error, error.__cause__))
            reason = next(filter(None, reasons), error)
            problem = (
                f"{self.root}: the checkpoint after step {step} can't be written ({reason}): it needs "
                f"{size / 1e6:,.1f} MB, and {shutil.disk_usage(self.root).free / 1e6:,.1f} MB are free; "
                "make room there (or raise your quota), or set `results` to a larger disk"
            )
            if self.good is None or step in self.kept:
                self._failure = UserError(f"{problem}, then run again")
            else:
                logging.warning(
                    "%s. Training continues; the newest checkpoint is %s", problem, self.good.name
                )
            return
        except Exception as error:  # whatever it is, the loop must know
            self._failure = error
            return
        seconds = time.monotonic() - began
        self.good = checkpoint_folder(self.root, step)
        self.count, self.bytes_each = self.count + 1, size
        self.seconds_written += seconds
        logging.info(
            "checkpoint after step %d: %.1f MB written in %.2f s; training waited %.2f s for it",
            step,
            size / 1e6,
            seconds,
            blocked,
        )
