"""Advice before the full run: what the proxies' laws predict for each setting, and which one to choose."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from cpt.errors import UserError
from cpt.report.advice_laws import Cell, Curve, Law
from cpt.report.rows import Row, read_rows

MOST_MISFIT = 0.2  # residuals over the largest change; above it the law doesn't describe the curves
ADVISED = "advised"  # the recommended run, and its mixture
Estimate = tuple[float, float, float]  # bits per byte and its 95 % interval
Point = dict[str, Any]  # of cpt.config_advise.Advised.proxy_points
SETTING_COLUMNS = (
    "tokens", "learning_rate", "replay", "weight_decay", "domain", "domain_low", "domain_high", "general",
    "general_low", "general_high", "epochs", "hours", "on_front",
)  # fmt: skip
PROXY_COLUMNS = ("run", "corpus", "tokens", "share", "learning_rate", "replay", "weight_decay")
PROXY_COLUMNS += ("start", "end", "fitted_end")
PREDICTION_COLUMNS = ("run", "corpus", "tokens", "start", "predicted", "low", "high", "measured", "inside")
SAME_START = (
    0.01  # relative difference of the base model's bits per byte: kernels and processes change it less
)


class Setting(NamedTuple):
    """A full run that could be trained, and its predictions."""

    point: Point
    domain: Estimate
    general: Estimate
    epochs: float  # over the domain's text
    hours: float

    @property
    def row(self) -> Row:
        """The row of settings.csv, without `on_front`."""
        names = ("", "_low", "_high")
        return {
            "tokens": self.point["tokens"],
            "learning_rate": f"{self.point['rate']:g}",
            "replay": f"{self.point['replay']:g}",
            "weight_decay": f"{self.point['decay']:g}",
            **{f"domain{name}": value for name, value in zip(names, self.domain, strict=True)},
            **{f"general{name}": value for name, value in zip(names, self.general, strict=True)},
            "epochs": self.epochs,
            "hours": self.hours,
        }


def cell_of(point: Point) -> Cell:
    """What a law's amplitude depends on: tokens of the full run, replay share, weight decay."""
    return point["tokens"], point["replay"], point["decay"]


def read_areas(schedule: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read from schedule.csv the area S1 (sum of the learning rates) and how far the rate has fallen from its
    peak, before the first step and after each: float64 [steps + 1] each."""
    rates = np.array([float(row["learning_rate"]) for row in read_rows(schedule, ("learning_rate",))])
    annealed = np.maximum.accumulate(rates) - rates
    return np.concatenate([[0.0], np.cumsum(rates)]), np.concatenate([[0.0], annealed])


def read_bits(held_out: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read steps (int64) and bits per byte (float64) of a run's held_out.csv, by corpus. Raises UserError if
    a corpus wasn't measured before the first step, or a value isn't finite."""
    measurements: dict[str, list[tuple[int, float]]] = {}
    for row in read_rows(held_out, ("step", "corpus", "bits_per_byte")):
        measurements.setdefault(row["corpus"], []).append((int(row["step"]), float(row["bits_per_byte"])))
    for corpus, values in measurements.items():
        if values[0][0] != 0 or not np.isfinite(values).all():
            raise UserError(
                f"{held_out}: {corpus} has no finite measurement before the first step; train the run again"
            )
    return {
        corpus: (np.array([step for step, _ in values]), np.array([bits for _, bits in values]))
        for corpus, values in measurements.items()
    }


def proxy_curves(point: Point, held_out: Path, schedule: Path) -> dict[str, Curve]:
    """The held-out curve of a proxy by corpus."""
    area, annealed = read_areas(schedule)
    return {
        corpus: Curve(cell_of(point), point["share"], area[steps], annealed[steps], bits)
        for corpus, (steps, bits) in read_bits(held_out).items()
    }


def full_settings(
    points: Sequence[Point],
    areas: Sequence[tuple[np.ndarray, np.ndarray]],
    summaries: Sequence[dict[str, Any]],
    ledgers: dict[str, dict[str, Any]],
    laws: tuple[Law, Law],
    domain: str,
) -> list[Setting]:
    """Predict each full run of the grid with the laws.

    Args:
        points: of the proxies.
        areas: of each, from read_areas. The full run's schedule has the same form, so its area grows with its
            steps and its peak; it is extrapolated from the largest proxy's.
        summaries: run.json of each: tokens of a step, and the speed, from which the full run's hours follow.
        ledgers: ledger.json of the proxies' mixtures by name, which say how much text there is.
        laws: of the domain and of the general corpus.
        domain: name of the domain's corpus.
    """
    longest = max(range(len(points)), key=lambda number: points[number]["share"])
    area, annealed = (float(series[-1]) / points[longest]["rate"] for series in areas[longest])
    area /= len(areas[longest][0]) - 1  # per step at a peak of 1
    smallest, settings = min(point["share"] for point in points), []
    for point, summary in zip(points, summaries, strict=True):
        if point["share"] > smallest:
            continue
        steps = math.ceil(point["tokens"] / (summary["global_batch"] * summary["sequence_length"]))
        place = area * point["rate"] * steps, annealed * point["rate"]
        estimates = [law.predict(cell_of(point), *place, seed) for seed, law in enumerate(laws)]
        source = ledgers[point["packed"]]["sources"][domain]
        text = source["sequences_available"] / point["share"] * summary["sequence_length"]
        epochs = point["tokens"] * point["mixture"][domain] / text
        settings.append(
            Setting(point, *estimates, epochs, point["tokens"] / summary["tokens_per_second"] / 3600)
        )
    return settings


def proxy_rows(points: Sequence[Point], curves: dict[str, list[Curve]], laws: dict[str, Law]) -> list[Row]:
    """Rows of proxies.csv (PROXY_COLUMNS): start and end of each proxy's curve, and the end by the law."""
    return [
        {
            "run": point["run"],
            "corpus": corpus,
            "tokens": point["tokens"],
            "share": f"{curve.share:g}",
            "learning_rate": f"{point['rate']:g}",
            "replay": f"{point['replay']:g}",
            "weight_decay": f"{point['decay']:g}",
            "start": float(curve.bits[0]),
            "end": float(curve.bits[-1]),
            "fitted_end": float(laws[corpus].at(curve.cell, curve.area[-1], curve.annealed[-1])),
        }
        for corpus in laws
        for point, curve in zip(points, curves[corpus], strict=True)
    ]


def facts(curves: dict[str, list[Curve]], summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The basis of the advice, for the page: corpora, proxies, measurements per corpus, training hours."""
    first = next(iter(curves.values()))
    hours = sum(summary["tokens"] / summary["tokens_per_second"] / 3600 for summary in summaries)
    measurements = sum(len(curve.bits) for curve in first)
    return {
        "corpora": list(curves),
        "proxies": len(first),
        "measurements": measurements,
        "hours": hours,
    }


def setting_rows(settings: Sequence[Setting], best: Sequence[Setting]) -> list[Row]:
    """Rows of settings.csv (SETTING_COLUMNS); `best` are those on the front."""
    return [setting.row | {"on_front": setting in best} for setting in settings]


def prediction_rows(
    runs: dict[str, Point], held_out: Sequence[Path], schedules: Sequence[Path], laws: dict[str, Law]
) -> list[Row]:
    """Rows of predictions.csv (PREDICTION_COLUMNS): for each run and corpus, predicted beside measured.

    Args:
        runs: tokens, replay, decay and rate of each.
        held_out, schedules: held_out.csv and schedule.csv of each.
        laws: by corpus.

    Raises:
        UserError: a run was measured on other held-out text than the proxies.
    """
    rows = []
    for (run, point), path, schedule in zip(runs.items(), held_out, schedules, strict=True):
        measured, (area, annealed) = read_bits(path), read_areas(schedule)
        for seed, (corpus, law) in enumerate(laws.items()):
            bits = measured[corpus][1]
            if abs(bits[0] / law.start - 1) > SAME_START:
                raise UserError(
                    f"{path}: {corpus} begins at {bits[0]:.4f} bits per byte, the proxies at "
                    f"{law.start:.4f}: they weren't measured on the same text; train the run again, or "
                    "the proxies"
                )
            predicted, low, high = law.predict(cell_of(point), float(area[-1]), float(annealed[-1]), seed)
            rows.append(
                {
                    "run": run,
                    "corpus": corpus,
                    "tokens": point["tokens"],
                    "start": law.start,
                    "predicted": predicted,
                    "low": low,
                    "high": high,
                    "measured": float(bits[-1]),
                    "inside": bool(low <= bits[-1] <= high),
                }
            )
    return rows


def law_to_json(law: Law) -> dict[str, Any]:
    """A law as values for JSON."""
    arrays = {key: np.asarray(getattr(law, key)).tolist() for key in ("nonlinear", "linear", "draws")}
    return law._asdict() | arrays


def law_from_json(plain: dict[str, Any]) -> Law:
    """The law that `law_to_json` wrote."""
    arrays = {key: np.array(plain[key]) for key in ("nonlinear", "linear", "draws")}
    return Law(**(plain | arrays | {"cells": [tuple(cell) for cell in plain["cells"]]}))


def front(settings: Sequence[Setting]) -> list[Setting]:
    """The settings that no other one beats in both predictions, the best at the domain first."""
    frontier: list[Setting] = []
    for setting in sorted(settings, key=lambda one: (one.domain[0], one.general[0])):
        if not frontier or setting.general[0] < frontier[-1].general[0]:
            frontier.append(setting)
    return frontier


def choose(
    settings: Sequence[Setting], laws: tuple[Law, Law], most_forgetting: float
) -> tuple[Setting | None, list[str]]:
    """Choose the setting to recommend: the best at the domain, then the cheapest, among those whose general
    text stays within `most_forgetting` up to the upper end of its interval.

    Returns:
        The setting and no reasons; or None and the reasons why nothing can be recommended honestly.
    """
    domain, general = laws
    misfit = domain.misfit / domain.change if domain.change else 1.0
    if misfit > MOST_MISFIT:
        return None, [
            f"The domain's law misses the proxies' curves by {misfit:.0%} of their largest change "
            f"({MOST_MISFIT:.0%} at most): residuals are too large to extrapolate. Leave out learning rates "
            "at which proxies diverge, or take more held-out tokens."
        ]
    limit = general.start * (1 + most_forgetting)
    candidates = [setting for setting in settings if setting.general[2] <= limit]
    if not candidates:
        least = min(setting.general[2] for setting in settings)
        return None, [
            f"No setting keeps general text within {most_forgetting:.1%} of the base model's "
            f"{general.start:.4f} bits per byte: the upper ends of the intervals begin at {least:.4f}, and "
            f"{limit:.4f} is allowed. Try more replay or a lower learning rate, larger proxies "
            "(advise.shares), which make intervals narrower, or raise advise.most_forgetting."
        ]
    best = min(candidates, key=lambda setting: (round(setting.domain[0], 6), setting.hours))
    if best.domain[2] >= domain.start:
        return None, [
            f"The interval of the best setting's domain, {best.domain[1]:.4f} to {best.domain[2]:.4f} "
            f"bits per byte, includes the base model's {domain.start:.4f}: these proxies are too small to "
            "say that training helps. Raise advise.shares or advise.tokens."
        ]
    return best, []


def overlay_of(
    chosen: Setting | None, place: dict[str, int], like: str, epochs: int, reasons: list[str]
) -> str:
    """The overlay that trains the recommended run, as YAML; without one, an overlay that changes nothing.

    Args:
        chosen: the setting.
        place: the run's processes: gpus or cpus, and nodes.
        like: the run that proxies resemble, which must stay the same once there is a larger one.
        epochs: with which mixtures may be packed.
        reasons: why there is no recommendation.
    """
    if chosen is None:
        return "".join(f"# {line}\n" for line in ["No recommendation.", *reasons]) + "{}\n"
    point = chosen.point
    run = {"tokens": point["tokens"], **place, "mixture": ADVISED, "train": point["train"]}
    overlay: dict[str, Any] = {
        "advise": {"like": like},
        "mixtures": {ADVISED: point["mixture"]},
        "runs": {ADVISED: run},
    }
    if epochs > 1:
        overlay["packing"] = {"maximum_epochs": epochs}
    return (
        "# Written by `snakemake advise` (advice.md says why). Predicted at the end, with 95 % intervals:\n"
        f"# domain {_interval(chosen.domain)}, general {_interval(chosen.general)} bits per byte.\n"
        + yaml.safe_dump(overlay, sort_keys=False)
    )


def _interval(estimate: Estimate) -> str:
    middle, low, high = estimate
    return f"{middle:.4f} ({low:.4f} to {high:.4f})"
