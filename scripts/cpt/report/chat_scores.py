"""Counts of a run's answers: how many stop, and how many follow their instruction."""

from collections.abc import Mapping, Sequence
from typing import Any

from cpt.report.chat import Answers
from cpt.report.rows import Row
from cpt.report.statistics import Pairs, detectable_difference, holm, mcnemar_p, wilson_interval

COUNTED = ("stopped", "followed")
SHARES = ("", "_share", "_low", "_high", "_difference", "_p", "_p_holm", "_detectable")
COLUMNS = ("run", "tokens", "template", "n", "mean_answer_tokens")
COLUMNS += tuple(f"{what}{part}" for what in COUNTED for part in SHARES)
# Columns for each corpus, and the columns of scores.csv that they come from.
HELD_OUT = {
    "documents": "n",
    "groups": "groups",
    "bits_per_byte": "score",
    "bits_per_byte_low": "ci_low",
    "bits_per_byte_high": "ci_high",
    "relative_change": "relative_change",
    "relative_change_low": "relative_ci_low",
    "relative_change_high": "relative_ci_high",
}


def columns_of(corpora: Sequence[str]) -> tuple[str, ...]:
    """The columns of the table, those of held-out text last."""
    return (*COLUMNS, *(f"{column}_{corpus}" for corpus in corpora for column in HELD_OUT))


def chat_score_rows(
    answers: Answers, tokens: Mapping[str, int], held_out: Mapping[str, Mapping[str, Row]]
) -> list[Row]:
    """A row for each run; the first one is the base model, with which the others are compared.

    Each of the two counts has its number, share of the n prompts, 95 % interval (Wilson), paired difference
    from the base model, p of the exact McNemar test, p after Holm's adjustment over all runs and both counts,
    and the smallest difference that would be found (docs/statistics.md).

    Args:
        answers: of each run to the prompts with an instruction.
        tokens: training tokens of each run.
        held_out: rows of held-out text (cpt.report.held_out), by corpus and run.
    """
    base = next(iter(answers))
    rows = []
    for run, run_answers in answers.items():
        row: Row = {
            "run": run,
            "tokens": tokens[run],
            "template": bool(run_answers[0]["template"]),
            "n": len(run_answers),
            "mean_answer_tokens": sum(each["tokens"] for each in run_answers) / len(run_answers),
        }
        for what in COUNTED:
            row |= _counted(what, run_answers, None if run == base else answers[base])
        for corpus, rows_by_run in held_out.items():
            row |= {f"{column}_{corpus}": rows_by_run[run].get(name) for column, name in HELD_OUT.items()}
        rows.append(row)
    tests = [(row, what) for row in rows for what in COUNTED if f"{what}_p" in row]
    adjusted = holm([row[f"{what}_p"] for row, what in tests])
    for (row, what), p in zip(tests, adjusted, strict=True):
        row[f"{what}_p_holm"] = p
    return rows


def _counted(what: str, rows: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]] | None) -> Row:
    """The cells of one count."""
    count = sum(row[what] for row in rows)
    low, high = wilson_interval(count, len(rows))
    cells: Row = {what: count, f"{what}_share": count / len(rows), f"{what}_low": low, f"{what}_high": high}
    if base is None:
        return cells
    changes = [(bool(before[what]), bool(now[what])) for before, now in zip(base, rows, strict=True)]
    pairs = Pairs(
        both=changes.count((True, True)),
        gained=changes.count((False, True)),
        lost=changes.count((True, False)),
        neither=changes.count((False, False)),
    )
    return cells | {
        f"{what}_difference": pairs.difference,
        f"{what}_p": mcnemar_p(pairs.gained, pairs.lost),
        f"{what}_detectable": detectable_difference(pairs.discordant, pairs.n),
    }
