"""Cost and losses of each training run, as one table (paper section 4.2.2)."""

from pathlib import Path
from typing import Any

from cpt.errors import UserError
from cpt.report.rows import Row, read_rows, read_typed

COLUMNS = (
    "run", "tokens", "sequences", "sequence_length", "steps", "sequences_per_step", "tokens_per_step",
    "processes", "device", "engine", "hours", "device_hours", "tokens_per_second",
    "tokens_per_second_per_process", "utilization", "peak_memory_mb", "parameters", "tokens_per_parameter",
    "first_loss", "last_loss",
)  # fmt: skip
LOSS_STEPS = 0.01  # share of the steps averaged for the first and the last loss (at least one step)


def _losses(path: Path) -> tuple[float, float]:
    losses = [
        float(row["loss"])
        for row in read_rows(path, ("step", "loss"))
        if None not in row.values() and row.get("skipped") != "1"
    ]
    if not losses:
        raise UserError(f"{path}: no step that wasn't skipped; train the run again")
    window = max(1, round(LOSS_STEPS * len(losses)))
    return sum(losses[:window]) / window, sum(losses[-window:]) / window


def run_row(summary: dict[str, Any], metrics: Path) -> Row:
    """The row of one run from its run.json and metrics.csv.

    `hours` are those of the steps, without start-up and held-out measurements, at the run's tokens per second
    (of its last session, if it resumed). `device_hours` count every process. `utilization` is the
    share of the devices' peak that the model's FLOPs use; empty where the peak isn't known (every CPU).
    """
    speed, processes = summary["tokens_per_second"], summary["processes"]
    process_speed = speed / processes
    hours = summary["tokens"] / speed / 3600
    peak, flops = summary["peak_flops_per_process"], summary["flops_per_token"]
    first, last = _losses(metrics)
    return {
        "run": summary["run"],
        **{name: summary[name] for name in ("tokens", "sequences", "sequence_length", "steps")},
        "sequences_per_step": summary["global_batch"],
        "tokens_per_step": summary["global_batch"] * summary["sequence_length"],
        **{name: summary[name] for name in ("processes", "device", "engine", "parameters")},
        "hours": hours,
        "device_hours": hours * processes,
        "tokens_per_second": float(speed),
        "tokens_per_second_per_process": process_speed,
        "utilization": process_speed * flops / peak if peak else None,
        "peak_memory_mb": summary["peak_memory_mb"],
        "tokens_per_parameter": summary["tokens"] / summary["parameters"],
        "first_loss": first,
        "last_loss": last,
    }


def read_runs(path: Path) -> dict[str, Row]:
    """Read runs.csv by run: numbers as int and float, empty cells as None. Empty without trained runs."""
    if len(path.read_text(encoding="utf-8").splitlines()) < 2:
        return {}
    return {row["run"]: row for row in read_typed(path, COLUMNS, {"run", "device", "engine"})}
