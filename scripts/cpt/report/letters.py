"""Which letters each run answers, and how often each letter is right."""

from string import ascii_uppercase

from cpt.report.rows import Row
from cpt.report.samples import Answers

COLUMNS = (
    "run", "tokens", "task", "letter", "items", "gold", "answered", "right", "gold_share", "answered_share",
)  # fmt: skip


def letter(number: int) -> str:
    """The name of a choice, by its number from 0: A to Z, then 27, 28 and so on."""
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number + 1)


def letter_rows(runs: dict[str, int], answers: dict[tuple[str, str], Answers]) -> list[Row]:
    """All rows of letters.csv: for each run and task, how often a letter is right, and how often answered.

    Answers are those of the plain log-likelihood (acc). Tasks without choices have none.
    """
    rows = []
    choices = {key: task_answers.choices for key, task_answers in answers.items() if task_answers.choices}
    for (run, task), task_choices in choices.items():
        for number in range(task_choices.number.max()):
            gold, answered = task_choices.gold == number, task_choices.predicted == number
            rows.append(
                {
                    "run": run,
                    "tokens": runs[run],
                    "task": task,
                    "letter": letter(number),
                    "items": len(gold),
                    "gold": int(gold.sum()),
                    "answered": int(answered.sum()),
                    "right": int((gold & answered).sum()),
                    "gold_share": float(gold.mean()),
                    "answered_share": float(answered.mean()),
                }
            )
    return rows
