"""The law of held-out curves: fits recover its parameters, intervals cover, noise is refused."""

import numpy as np
import pytest

from cpt.report import advice_laws
from cpt.report.advice import choose, law_from_json, law_to_json
from cpt.report.advice_laws import Curve, backtest, fit_law

STEPS = 2_000  # of the full run
START, SPEED, POWER, GAIN = 1.1, 60.0, 0.35, 30.0
DOMAIN = {(1, 0.0, 0.0): -0.25, (1, 0.25, 0.0): -0.2}
RATES = (3e-5, 1e-4, 3e-4)


def cosine(steps: int, peak: float) -> np.ndarray:
    """Learning rates with 10 % of warmup."""
    warmup = steps // 10
    after = np.arange(steps - warmup) / max(1, steps - warmup)
    return peak * np.concatenate([np.arange(1, warmup + 1) / warmup, 0.5 * (1 + np.cos(np.pi * after))])


def curve(generator, cell, share, peak, noise=0.0, between=0.0) -> Curve:
    """A curve on the law, with noise of each measurement and of each run's amplitude."""
    rates = cosine(round(STEPS * share), peak)
    steps = np.unique(np.linspace(0, len(rates), 21).astype(int))
    area = np.concatenate([[0], np.cumsum(rates)])[steps]
    annealed = np.concatenate([[0], np.maximum.accumulate(rates) - rates])[steps]
    amplitude = DOMAIN[cell] * (1 + between * generator.normal())
    bits = START + amplitude * (1 - (1 + SPEED * area) ** -POWER) - GAIN * annealed
    bits[1:] += noise * generator.normal(size=len(bits) - 1)
    return Curve(cell, share, area, annealed, bits)


def proxies(generator, **noise) -> list[Curve]:
    """As `advise` trains them: the smaller at every rate, the larger at the middle one."""
    return [
        curve(generator, cell, share, peak, **noise)
        for cell in DOMAIN
        for share in (0.02, 0.05)
        for peak in (RATES if share == 0.02 else RATES[1:2])
    ]


def test_a_fit_recovers_the_parameters(monkeypatch):
    monkeypatch.setattr(advice_laws, "DRAWS", 2)
    generator = np.random.default_rng(0)
    law = fit_law(proxies(generator), 0)
    speed, power = np.exp(law.nonlinear)
    assert speed / law.unit == pytest.approx(SPEED) and power == pytest.approx(POWER)
    assert law.linear[:-1] == pytest.approx(list(DOMAIN.values()))
    assert law.linear[-1] / law.unit == pytest.approx(GAIN)
    assert law.misfit < 1e-9 and law.spread < 1e-9
    full = curve(generator, (1, 0.25, 0.0), 1.0, 1e-4)
    assert law.at(full.cell, full.area, full.annealed) == pytest.approx(full.bits)


def test_intervals_cover_the_full_run(monkeypatch):
    monkeypatch.setattr(advice_laws, "DRAWS", 40)
    inside, widths = [], []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        noise = {"noise": 0.001, "between": 0.01}
        law = fit_law(proxies(generator, **noise), 0)
        for cell in DOMAIN:
            full = curve(generator, cell, 1.0, 1e-4, **noise)
            _, low, high = law.predict(cell, full.area[-1], full.annealed[-1], 0)
            inside.append(low <= full.bits[-1] <= high)
            widths.append(high - low)
    assert np.mean(inside) >= 10 / 12
    assert np.mean(widths) < 0.1  # narrow enough to be useful: the change is 0.2


def test_a_law_that_bends_between_the_sizes_has_a_wide_interval():
    """Larger proxies that do worse than the smaller ones predict widen the interval."""
    generator = np.random.default_rng(0)
    curves = proxies(generator)
    bent = [
        one._replace(bits=one.bits + 0.02 * (one.area / one.area[-1])) if one.share == 0.05 else one
        for one in curves
    ]
    assert backtest(curves) < 1e-9
    # log(1 / 0.05) / log(0.05 / 0.02) = 3.27 steps as large as that between the sizes
    assert backtest(bent) == pytest.approx(0.02 * 3.27, rel=0.01)


def test_noise_is_refused(monkeypatch):
    monkeypatch.setattr(advice_laws, "DRAWS", 10)
    generator = np.random.default_rng(1)
    noisy = [
        one._replace(bits=START + 0.01 * generator.normal(size=len(one.bits)))
        for one in (curve(generator, cell, share, 1e-4) for cell in DOMAIN for share in (0.1, 0.2))
    ]
    law = fit_law(noisy, 0)
    chosen, reasons = choose([], (law, law), 0.01)
    assert chosen is None and "residuals are too large to extrapolate" in reasons[0]


def test_a_law_is_read_as_it_was_written(monkeypatch):
    monkeypatch.setattr(advice_laws, "DRAWS", 5)
    generator = np.random.default_rng(0)
    law = fit_law(proxies(generator, noise=0.001), 0)
    again = law_from_json(law_to_json(law))
    cell = (1, 0.0, 0.0)
    assert again.predict(cell, 0.1, 1e-4, 3) == law.predict(cell, 0.1, 1e-4, 3)


def test_the_same_curves_give_the_same_law(monkeypatch):
    monkeypatch.setattr(advice_laws, "DRAWS", 5)
    curves = proxies(np.random.default_rng(0), noise=0.001)
    assert law_to_json(fit_law(curves, 7)) == law_to_json(fit_law(curves, 7))
