"""Answers saved batch by batch, so that a killed evaluation asks the model only for the rest."""

import hashlib
import json
from importlib import metadata
from pathlib import Path

from cpt import command
from cpt.config_evaluate import Scoring
from cpt.digest import settings_digest

PACKAGES = ("torch", "transformers", "tokenizers", "lm_eval")  # another version may answer differently
Answer = tuple[float, bool]  # log-probability in nats, and whether the continuation is the argmax
Question = tuple[tuple[int, ...], tuple[int, ...]]  # context and continuation, as token ids


class Answers:
    """A file of answers by batch. Equal batches have equal answers.

    A batch is identified by its questions' token ids and the number of stem tokens read before it. Batches
    depend on all questions of a task, not on earlier answers, so a killed and resumed evaluation ends with
    the same bytes. The file must belong to one model and one way of scoring. Without a path nothing is kept.
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
        """Returns the answers to a batch if they are known; `stem` is the number of tokens read before it."""
        return self.known.get(_digest(questions, stem))

    def keep(self, questions: list[Question], stem: int, answers: list[Answer]) -> None:
        """Add the answers to a batch."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps([_digest(questions, stem), answers])
        # The last line may be cut off without a line break, so begin a new line.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")


def answers_file(folder: Path, task: str, model_sha256: str, settings: Scoring) -> Path:
    """Returns the file that keeps the answers to a task by one model and one way of scoring.

    It is no output of the job, because Snakemake deletes a job's outputs when it restarts, for example when
    another task joins the job.
    """
    how = settings.model_dump(include={"batch_tokens", "precision", "add_bos_token"})
    versions = [metadata.version(package) for package in PACKAGES]
    return folder / f"{task}.{settings_digest([model_sha256, how, command.code, versions])}.jsonl"


def remove_former(kept: Path, task: str) -> None:
    """Delete the answers to a task by other models or other ways of scoring than those in `kept`."""
    for former in kept.parent.glob(f"{task}.*.jsonl"):
        if former != kept:
            former.unlink()


def _digest(questions: list[Question], stem: int) -> str:
    return hashlib.sha256(json.dumps([stem, questions]).encode()).hexdigest()
