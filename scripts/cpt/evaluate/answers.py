"""Answers kept as they come, so that a killed evaluation asks the model only for the rest."""

import hashlib
import json
from importlib import metadata
from pathlib import Path

from cpt import command
from cpt.config_evaluate import Scoring
from cpt.digest import settings_digest

PACKAGES = ("torch", "transformers", "tokenizers", "lm_eval")  # another version may answer otherwise
Answer = tuple[float, bool]  # log-probability in nats, and whether the continuation is the argmax
Question = tuple[tuple[int, ...], tuple[int, ...]]  # context and continuation, as token ids


class Answers:
    """A file of answers by batch, named after what it says of batches: equal batches have equal answers.

    A batch is known by its questions' token ids, and how many of them were read before it. Batches depend on
    all questions of a task, not on what was answered before, so an evaluation that was killed ends with the
    same bytes as one that wasn't. The file must belong to one model and one way of scoring. Without a path
    nothing is kept.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self.known: dict[str, list[Answer]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    batch, answers = json.loads(line)
                    self.known[batch] = [(float(value), bool(greedy)) for value, greedy in answers]
                except (ValueError, TypeError):
                    continue  # cut off when the process was killed

    def get(self, questions: list[Question], stem: int) -> list[Answer] | None:
        """The answers to a batch of questions, if they are known; `stem` tokens are read before the batch."""
        return self.known.get(_digest(questions, stem))

    def keep(self, questions: list[Question], stem: int, answers: list[Answer]) -> None:
        """Add the answers to a batch."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps([_digest(questions, stem), answers])
        # A line that was cut off has no end: begin on a new one.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")


def answers_file(folder: Path, task: str, model_sha256: str, settings: Scoring) -> Path:
    """Where the answers to a task are kept: they belong to one model and one way of scoring.

    They outlive the job: Snakemake deletes the outputs of a job that begins again, as when another task joins
    it.
    """
    how = settings.model_dump(include={"batch_tokens", "precision", "add_bos_token"})
    versions = [metadata.version(package) for package in PACKAGES]
    return folder / f"{task}.{settings_digest([model_sha256, how, command.code, versions])}.jsonl"


def remove_former(kept: Path, task: str) -> None:
    """Remove the answers to a task that belong to another model or another way of scoring than `kept`."""
    for former in kept.parent.glob(f"{task}.*.jsonl"):
        if former != kept:
            former.unlink()


def _digest(questions: list[Question], stem: int) -> str:
    return hashlib.sha256(json.dumps([stem, questions]).encode()).hexdigest()
