"""Bits per byte of held-out text: intervals by group, their coverage, and the text around them."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from markdown_it import MarkdownIt
from report_experiment import write_losses
from scipy.stats import bootstrap, norm, t

from cpt.corpus.overlap import NGRAM
from cpt.errors import UserError
from cpt.files import write_json
from cpt.report import resampling
from cpt.report.held_out import Losses, held_out_rows, read_losses
from cpt.report.held_out_text import NONE, few_groups_warnings, held_out_markdown
from cpt.report.labels import MINUS
from cpt.report.pages import render
from cpt.token_windows import FEWEST_GROUPS
from held_out_table import held_out_table

SIMULATIONS = 300


def losses(groups: np.ndarray, size: np.ndarray, nats: np.ndarray) -> Losses:
    return Losses(Path("losses.csv"), groups, size, nats)


def simulated(groups: int, generator: np.random.Generator) -> list[Losses]:
    """Base model and run on documents in groups of one to five, of sizes that differ tenfold; documents of a
    group are similarly hard, and the run improves on them by a similar share (4 % on average)."""
    per_group = generator.integers(1, 6, groups)
    group = np.repeat(np.arange(groups), per_group)
    size = np.exp(generator.normal(6, 0.8, len(group))).round()
    hardness = np.repeat(generator.normal(0, 0.15, groups), per_group)
    base = size * (0.7 + hardness + generator.normal(0, 0.1, len(group)))
    learnt = 0.04 + np.repeat(generator.normal(0, 0.03, groups), per_group)
    return [losses(group, size, base), losses(group, size, base * (1 - learnt))]


def covered(groups: int, monkeypatch: pytest.MonkeyPatch, split: bool = False) -> dict[str, float]:
    """Share of simulated corpora whose intervals cover the truth; `split`: each document its own group."""
    monkeypatch.setattr(resampling, "RESAMPLES", 400)
    generator, hits = np.random.default_rng(groups), []
    for seed in range(SIMULATIONS):
        models = simulated(groups, generator)
        if split:
            models = [model._replace(groups=np.arange(len(model.groups))) for model in models]
        row = held_out_rows(models, seed)[1]
        base = held_out_rows(models[:1], seed)[0]
        hits.append(
            (
                base["ci_low"] <= 0.7 / math.log(2) <= base["ci_high"],
                row["relative_ci_low"] <= -4 <= row["relative_ci_high"],
            )
        )
    return dict(zip(("bits", "change"), np.mean(hits, 0), strict=True))


@pytest.mark.parametrize("groups", [10, FEWEST_GROUPS, 82])
def test_intervals_cover_the_truth(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with few groups, where plain percentiles cover it in only 87 to 89 % of the cases."""
    assert all(0.9 <= share <= 0.98 for share in covered(groups, monkeypatch).values())


def test_documents_of_a_group_are_not_independent_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resampling single documents gives intervals that are far too narrow."""
    coverage = covered(82, monkeypatch, split=True)
    assert max(coverage.values()) < 0.88


def test_a_row_by_hand_and_the_interval_by_scipy() -> None:
    generator = np.random.default_rng(0)
    group = np.array([7, 3, 3, 9, 4, 4, 1, 8])
    size = generator.integers(50, 500, len(group))
    base, run = (size * generator.normal(mean, 0.1, len(group)) for mean in (0.7, 0.65))
    first, row = held_out_rows([losses(group, size, base), losses(group, size, run)], 1)
    assert (row["n"], row["groups"]) == (8, 6)
    assert row["score"] == pytest.approx(run.sum() / math.log(2) / size.sum())
    assert row["base_score"] == first["score"] == pytest.approx(base.sum() / math.log(2) / size.sum())
    assert row["relative_change"] == pytest.approx(100 * (run.sum() / base.sum() - 1))
    assert row["difference"] == pytest.approx(row["score"] - row["base_score"])
    assert (first["difference"], first["relative_change"]) == (0, 0) and "relative_ci_low" not in first

    sums = [[each[group == number].sum() for number in np.unique(group)] for each in (run, base)]
    level = 1 - 2 * norm.cdf(-math.sqrt(6 / 5) * t.ppf(0.975, 5))
    expected = bootstrap(
        sums,
        lambda run, base, axis: 100 * (run.sum(axis) / base.sum(axis) - 1),
        paired=True,
        n_resamples=40_000,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    width = row["relative_ci_high"] - row["relative_ci_low"]
    assert tuple(expected.confidence_interval) == pytest.approx(
        (row["relative_ci_low"], row["relative_ci_high"]), abs=0.04 * width
    )


def test_intervals_are_the_same_again_and_whatever_else_is_compared() -> None:
    base, run = simulated(12, np.random.default_rng(0))
    assert held_out_rows([base, run], 5) == held_out_rows([base, run], 5)
    other = run._replace(nats=1.1 * run.nats)
    assert held_out_rows([base, other, run], 5)[2] == held_out_rows([base, run], 5)[1]


def test_a_single_group_has_no_interval() -> None:
    model = losses(np.zeros(3, int), np.array([10, 20, 30]), np.array([7.0, 14.0, 21.0]))
    first, second = held_out_rows([model, model._replace(nats=0.9 * model.nats)], 0)
    assert second["relative_change"] == pytest.approx(-10)
    assert not {"ci_low", "standard_error", "difference_ci_low"} & {*first, *second}
    named = {"task": "bits_per_byte.docs", "run": "cpt", "tokens": 5, "relative_ci_low": None}
    row = {**second, **named, "ci_low": None, "ci_high": None, "relative_ci_high": None}
    shown = held_out_markdown([row], {})[0].splitlines()[-1]
    assert shown.replace(MINUS, "-").replace(NONE, "?") == "| docs | 3 | 1 | cpt | 0.909 | ? | -10.0 % | ? |"
    assert "docs has only 3 documents of 1 group." in few_groups_warnings([row])[0]


def test_damaged_losses_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bits_per_byte.docs.documents.csv"
    write_losses(path, [0, 1], [4, 5], [2.5, 3.0])
    documents = read_losses(path)
    assert documents.nats.tolist() == [2.5, 3.0] and documents.bytes.tolist() == [4, 5]
    write_losses(path, [0, 1], [4, 5], [2.5, math.nan])
    with pytest.raises(
        UserError, match=r"documents\.csv: the loss on document 1 is nan, no finite number; tr"
    ):
        read_losses(path)


def test_the_table_and_its_page_say_what_they_rest_on(experiment: SimpleNamespace, tmp_path: Path) -> None:
    text, overlap = tmp_path / "bits_per_byte.md", tmp_path / "overlap.json"
    counts = {"scientific_python": {"ngrams": 400, "shared": 45}}
    counts["standard_library"] = {"ngrams": 0, "shared": 0}  # all of its documents are short
    write_json(overlap, {"corpora": counts})
    held_out_table(experiment.root / "scores.csv", text, {"scientific_python": "domain"}, overlap)
    page = MarkdownIt("js-default").render(text.read_text())
    assert page.count("<tr>") == 1 + 3 * 2 and "scientific_python (domain)" in page
    row = next(
        row
        for row in experiment.scores
        if (row["run"], row["task"]) == ("cpt-25K", "bits_per_byte.standard_library")
    )
    cells = ["standard_library", "42", "21", NONE, "cpt-25K", f"{row['score']:.3f}"]
    cells += [f"{row['ci_low']:.3f} to {row['ci_high']:.3f}", f"{row['relative_change']:+.1f} %"]
    cells.append(f"{row['relative_ci_low']:+.1f} to {row['relative_ci_high']:+.1f}")
    assert f"| {' | '.join(cells)} |" in text.read_text().replace(MINUS, "-")
    assert text.read_text().count("| scientific_python (domain) | 41 | 41 | 11.2 % |") == 3
    assert f"In training text: the share of held-out {NGRAM}-grams" in text.read_text()
    html = render(text, "Bits per byte", "Caption.")
    assert "No run trained on these documents; the base model may have." in html
    assert "Warning: standard_library has only 42 documents of 21 groups." in html


def test_a_benchmark_in_bits_per_byte_is_not_held_out_text(experiment: SimpleNamespace) -> None:
    rows = [row | {"metric": "bits_per_byte"} for row in experiment.scores if row["shown"]]
    assert held_out_markdown(rows, {}) == []
