from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.command import run
from cpt.files import read_json
from cpt.report.advice import PREDICTION_COLUMNS, law_from_json, prediction_rows
from cpt.report.rows import write_rows


def predictions(
    runs: dict[str, dict[str, Any]],
    laws: Path,
    held_out_losses: Sequence[Path],
    schedules: Sequence[Path],
    table: Path,
) -> None:
    """Write what was predicted for the full runs beside what they reached.

    Args:
        runs: tokens, replay share, weight decay and peak rate of each run that is in the proxies' grid.
        laws: laws that `advise` fitted (JSON).
        held_out_losses: held_out.csv of each run.
        schedules: schedule.csv of each run.
        table: predictions.csv to write.
    """
    fitted = {corpus: law_from_json(plain) for corpus, plain in read_json(laws)["laws"].items()}
    write_rows(table, PREDICTION_COLUMNS, prediction_rows(runs, held_out_losses, schedules, fitted))


if __name__ == "__main__":
    run(predictions)
