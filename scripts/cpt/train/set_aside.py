"""Checkpoints of other settings: set aside, and taken back when a run has these settings again."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "set-aside-"
KEPT = 2  # number of other settings whose newest checkpoint is kept
CURVES = ("metrics.csv", "held_out.csv", "held_out_documents.csv")  # rows of the steps up to a checkpoint
MOST_SHOWN = 5


@dataclass(frozen=True)
class Identity:
    """What a run learns and what it starts from; it can't resume from checkpoints of another identity.

    `learned` is what `digest` was made from, for messages.
    """

    digest: str
    learned: dict[str, Any]

    def differences(self, before: dict[str, Any]) -> dict[str, str]:
        """Differences from an earlier `learned`, in words, by key."""
        then, now = _flat(before), _flat(self.learned)
        keys = [key for key in now | then if then.get(key) != now.get(key)]
        return {key: f"{_shown(then.get(key))} then, {_shown(now.get(key))} now" for key in keys}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in settings.items():
        entries |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return entries


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def set_aside(checkpoint: Path, state: dict[str, Any], identity: Identity) -> None:
    """Move a checkpoint of other settings, and the curves up to it, out of the way of a run's checkpoints.

    For each identity only the first checkpoint passed is kept, so pass the newest first. If a call is killed,
    the next call completes it or `take_back` undoes it: the curves move first, and move back last.

    Args:
        checkpoint: its folder, in `checkpoints` of the run's work folder.
        state: its state.json.
        identity: of the run as it is now.
    """
    work = checkpoint.parent.parent
    target = work / f"{PREFIX}{state['identity']}"
    target.mkdir(exist_ok=True)
    if any(target.glob("step-*")):
        shutil.rmtree(checkpoint)
        return
    for name in CURVES:
        if (work / name).exists():
            (work / name).rename(target / name)
    checkpoint.rename(target / checkpoint.name)
    differences = identity.differences(state["learned"]) if "learned" in state else {}
    listed = ", ".join(f"{key}: {words}" for key, words in list(differences.items())[:MOST_SHOWN])
    message = (
        f"{checkpoint} belongs to other settings or data; starting over{listed and f' ({listed})'}. It is "
        f"kept in {target}: set them back to resume from it, or remove that folder"
    )
    if "global_batch" in differences:
        batch = state["learned"]["global_batch"]
        message += f". train.global_batch: {batch} gives the same steps on any number of processes"
    logging.warning(message)
    for older in sorted(work.glob(f"{PREFIX}*"), key=lambda path: path.stat().st_mtime_ns)[:-KEPT]:
        logging.warning("%s: removed, as there are %d newer ones", older, KEPT)
        shutil.rmtree(older)


def take_back(root: Path, identity: Identity) -> None:
    """Move what was set aside for this identity back into `root`, and the curves beside it."""
    aside = root.parent / f"{PREFIX}{identity.digest}"
    if not aside.exists():
        return
    root.mkdir(exist_ok=True)
    for checkpoint in aside.glob("step-*"):
        checkpoint.rename(root / checkpoint.name)
    for name in CURVES:
        if (aside / name).exists():
            (aside / name).rename(root.parent / name)
    aside.rmdir()


def clear(work: Path) -> None:
    """Remove a finished run's work folder, except what was set aside: another training may need it."""
    kept = []
    for path in sorted(work.iterdir()):
        if path.name.startswith(PREFIX):
            kept.append(path)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not kept:
        work.rmdir()
    for path in kept:
        logging.info("%s: a checkpoint of other settings; remove it if you don't need it", path)
