"""Sentences on the table rows that are sums of models, which no training made."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cpt.files import read_json
from cpt.report.labels import MINUS, run_labels


def sums_in_words(
    merges: Mapping[str, Mapping[str, float]], choices: Sequence[Path], runs: dict[str, int]
) -> list[str]:
    """A sentence for each run that is a sum of models.

    Args:
        merges: by run, the coefficients of its models.
        choices: reports of choose_summands, for the runs that are the mean of some of their models.
        runs: training tokens of each run, as the table's rows are labelled by.
    """
    labels = run_labels(runs)
    reports = {facts["run"]: facts for facts in map(read_json, choices)}
    sentences = []
    for run, coefficients in merges.items():
        row = labels[run] if labels[run].endswith(f"({run})") else f"{labels[run]} ({run})"
        if run in reports:
            facts = reports[run]
            mean = f"the mean of {', '.join(facts['chosen'])}"
            if len(facts["chosen"]) == 1:
                mean = f"{facts['chosen'][0]} alone"
            sentences.append(
                f"{row}: {mean}, chosen among {', '.join(coefficients)} by "
                f"bits per byte on held-out text of {facts['corpus']} ({facts['documents']:,} documents, "
                f"{facts['groups']:,} groups), not by any test item."
            )
        else:
            parts = [f"{share:.3g} {model}" for model, share in coefficients.items()]
            total = " + ".join(parts).replace("+ -", f"{MINUS} ")
            sentences.append(f"{row}: {total}, a sum of models, weight by weight.")
    return sentences
