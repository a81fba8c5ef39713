"""Which letters each run answers, and how often each letter is right."""

from string import ascii_uppercase

from cpt.report.rows import Row
from cpt.report.samples import Answers

COLUMNS = (
    *("run", "tokens", "task", "letter", "items", "gold", "answered", "right"),
    *("gold_share", "answered_share"),
)


def letter(number: int) -> str:
    """What a choice is called, by its number from 0: A to Z, then 27, 28 and so on."""
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number + 1)


def letter_rows(runs: dict[str, int], answers: dict[tuple[str, str], Answers]) -> list[Row]:
    """All rows of letters.csv: of each run and task, how often a letter is right, and how often answered.

    Answers are those of the plain log-likelihood (acc). Tasks without choices have none.
    """
    rows = []
    choices = {key: each.choices for key, each in answers.items() if each.choices}
    for (run, task), each in choices.items():
        for number in range(each.number.max()):
            gold, answered = each.gold == number, each.predicted == number
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
