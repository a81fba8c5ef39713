"""The law of a held-out curve in continued pre-training: fitted to proxies, carried over to the full run."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

DRAWS = 200  # of the bootstrap
LEVEL = 0.95
TOLERANCE = 1e-10  # of the fit
WEIGHTS = [sign * math.sqrt(size) for sign in (-1, 1) for size in (0.5, 1.0, 1.5)]  # mean 0, variance 1
# Bounds of the logarithms of the two nonlinear parameters; the area's unit is the largest area of a proxy.
LOWEST, HIGHEST = np.log([0.05, 0.05]), np.log([1e4, 4.0])
STARTS = [(speed, power) for speed in (0.0, 2.0, 5.0) for power in (-1.6, -0.4, 0.7)]

Cell = tuple[Any, ...]  # what proxies of one amplitude have in common


class Curve(NamedTuple):
    """Held-out bits per byte of one corpus along a proxy.

    Attributes:
        cell: tokens of the full run, replay share, weight decay: what the amplitude depends on.
        share: of the full run's tokens.
        area: float64 [measurements], sum of the learning rates so far (S1).
        annealed: float64 [measurements], the highest rate so far less the current one.
        bits: float64 [measurements].
    """

    cell: Cell
    share: float
    area: np.ndarray
    annealed: np.ndarray
    bits: np.ndarray


class Law(NamedTuple):
    """A fitted law and its bootstrap.

    Attributes:
        start: bits per byte before training.
        unit: of areas.
        cells: in the order of their amplitudes.
        nonlinear: logarithms of speed and power, float64 [2].
        linear: an amplitude for each cell, then the annealing coefficient, float64 [cells + 1].
        draws: the same parameters in each resample, float64 [draws, 2 + cells + 1].
        misfit: root mean square of the residuals, in bits per byte.
        spread: standard deviation of what a full run may add to the law, in bits per byte (see fit_law).
        change: the largest measured change, in bits per byte.
    """

    start: float
    unit: float
    cells: list[Cell]
    nonlinear: np.ndarray
    linear: np.ndarray
    draws: np.ndarray
    misfit: float
    spread: float
    change: float

    def at(self, cell: Cell, area: Any, annealed: Any) -> Any:
        """Bits per byte by the law at these areas."""
        place = self.cells.index(cell)
        shift = self.linear[place] * _shift(self.nonlinear, np.asarray(area) / self.unit)
        return self.start + shift - self.linear[-1] * np.asarray(annealed) / self.unit

    def predict(self, cell: Cell, area: float, annealed: float, seed: int) -> tuple[float, float, float]:
        """Bits per byte at the end of a run, with the lower and upper end of its 95 % interval."""
        place = self.cells.index(cell)
        shifts = np.array([_shift(draw[:2], area / self.unit) for draw in self.draws])
        drawn = self.start + self.draws[:, 2 + place] * shifts - self.draws[:, -1] * annealed / self.unit
        drawn = drawn + np.random.default_rng(seed).normal(0.0, self.spread, len(drawn))
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        middle = float(self.at(cell, area, annealed))
        return middle, min(float(low), middle), max(float(high), middle)


def _shift(nonlinear: np.ndarray, area: Any) -> Any:
    """1 - (1 + speed * area) ** -power: 0 before training, towards 1."""
    speed, power = np.exp(nonlinear)
    return -np.expm1(-power * np.log1p(speed * area))


class _Rows(NamedTuple):
    """The measurements of several curves, concatenated: areas and annealing in units, numbers of cells."""

    area: np.ndarray
    annealed: np.ndarray
    cells: np.ndarray
    count: int

    def design(self, nonlinear: np.ndarray) -> np.ndarray:
        """Columns of the linear parameters, float64 [measurements, cells + 1]."""
        columns = np.zeros((len(self.area), self.count + 1))
        columns[np.arange(len(self.area)), self.cells] = _shift(nonlinear, self.area)
        columns[:, -1] = -self.annealed
        return columns


def _rows(curves: Sequence[Curve], cells: list[Cell], unit: float) -> _Rows:
    area = np.concatenate([curve.area for curve in curves]) / unit
    annealed = np.concatenate([curve.annealed for curve in curves]) / unit
    numbers = np.repeat([cells.index(curve.cell) for curve in curves], [len(curve.bits) for curve in curves])
    return _Rows(area, annealed, numbers, len(cells))


def _fit(
    rows: _Rows, changes: np.ndarray, starts: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit by variable projection: least squares gives the linear parameters for any nonlinear ones (Golub and
    Pereyra 1973). Returns nonlinear and linear parameters and residuals."""

    def solved(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        design = rows.design(nonlinear)
        linear = np.linalg.lstsq(design, changes, rcond=1e-10)[0]
        return linear, changes - design @ linear

    # In units of the largest change: the gradient's tolerance is absolute, and the law's valley is flat.
    size = float(np.abs(changes).max()) or 1.0
    tolerances = dict.fromkeys(("ftol", "xtol", "gtol"), TOLERANCE)
    tries = [
        least_squares(
            lambda nonlinear: solved(nonlinear)[1] / size,
            start,
            bounds=(LOWEST, HIGHEST),
            max_nfev=100,
            **tolerances,
        )
        for start in starts
    ]
    best = min(tries, key=lambda attempt: attempt.cost).x
    return best, *solved(best)


def fit_law(curves: Sequence[Curve], seed: int) -> Law:
    """Fit the law to the curves of one corpus, with a bootstrap.

    At learning-rate area S1 and rate eta after a peak eta_max, bits per byte are

        L = L_0 + B (1 - (1 + E S1) ** -beta) - C (eta_max - eta).

    This is the law of continued pre-training by Wang et al. 2025 (arXiv 2505.07796): a shift between two
    distributions with the area S1, and a gain by annealing. Two of its parts are simplified. Its first term,
    A (S1_pretraining + S1) ** -alpha, belongs to L_0, which is measured: the base model's own S1 isn't known,
    and is large beside a proxy's. Its annealing area S2 adds up each reduction of the rate with a memory of
    1,000 steps (factor 0.999; Tissue et al. 2024, arXiv 2408.11029); proxies are shorter than that, so that
    S2 of the full run would be many times theirs by arithmetic alone. With factor 0 it is eta_max - eta.

    B differs between cells, so between replay shares: as in the D-CPT law (Que et al. 2024, arXiv
    2406.01375), L = E + A / N ** alpha + B r ** eta / D ** beta + C / (r + eps) ** gamma for one model size
    N, the mixture r changes both how fast the loss falls with D and where it ends. Its two functions of r
    have four parameters; a grid has two or three values of r, so their values are fitted instead, and only
    replay shares that were tried are predicted.

    Intervals: a wild bootstrap clustered by proxy (Cameron, Gelbach and Miller 2008): all residuals of a
    curve are multiplied by one of Webb's six weights (2014, for few clusters), scaled up for the number of
    fitted parameters. `spread` adds two errors: that at a proxy's end, and that with which the law of the
    smaller proxies predicts the ends of the largest ones, extrapolated to the full run in proportion to the
    logarithm of the tokens.

    Args:
        curves: of all proxies, each with a measurement before the first step.
        seed: of the bootstrap.
    """
    cells = sorted({curve.cell for curve in curves}, key=repr)
    unit = max(float(curve.area.max()) for curve in curves)
    start = float(np.mean([curve.bits[0] for curve in curves]))
    changes = np.concatenate([curve.bits for curve in curves]) - start
    rows = _rows(curves, cells, unit)
    nonlinear, linear, residuals = _fit(rows, changes, STARTS)
    fitted = changes - residuals
    lengths = [len(curve.bits) for curve in curves]
    parameters = 2 + len(linear)
    scale = math.sqrt(len(curves) / max(1.0, len(curves) - parameters / 2))
    generator = np.random.default_rng(seed)
    draws = np.empty((DRAWS, parameters))
    for number in range(DRAWS):
        weights = np.repeat(generator.choice(WEIGHTS, len(curves)), lengths)
        resampled = fitted + weights * scale * residuals
        solution = _fit(rows, resampled, [nonlinear])
        draws[number] = np.concatenate(solution[:2])
    ends = residuals[np.cumsum(lengths) - 1]
    return Law(
        start,
        unit,
        cells,
        nonlinear,
        linear,
        draws,
        float(np.sqrt(np.mean(residuals**2))),
        math.hypot(scale * float(np.sqrt(np.mean(ends**2))), backtest(curves)),
        float(np.abs(changes).max()),
    )


def backtest(curves: Sequence[Curve]) -> float:
    """The error with which the smaller proxies predict the largest ones' ends, extrapolated to the full run.

    Returns:
        Root mean square of the errors in bits per byte, times log(1 / largest share) over
        log(largest / second largest). This factor is the distance from the largest proxies to the full run,
        in units of the distance between the two largest shares.
    """
    *_, second, largest = sorted({curve.share for curve in curves})
    smaller = [curve for curve in curves if curve.share < largest]
    cells = sorted({curve.cell for curve in smaller}, key=repr)
    unit = max(float(curve.area.max()) for curve in smaller)
    start = float(np.mean([curve.bits[0] for curve in smaller]))
    changes = np.concatenate([curve.bits for curve in smaller]) - start
    nonlinear, linear, _ = _fit(_rows(smaller, cells, unit), changes, STARTS)
    errors = []
    for curve in curves:
        if curve.share == largest:
            predicted = _rows([curve], cells, unit).design(nonlinear)[-1] @ linear
            errors.append(curve.bits[-1] - start - predicted)
    far = math.log(1 / largest) / math.log(largest / second)
    return far * float(np.sqrt(np.mean(np.square(errors))))
