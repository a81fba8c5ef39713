"""Plans registered before results, and the figure of a grid of learning rates and data orders."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from tests.test_config import merged
from tests.workflow.small_experiments import overlay

from cpt.config import load
from cpt.config_robustness import grid_of, planned_settings
from cpt.errors import DamagedFileError, UserError
from cpt.preregistration import plan_sha256, read_registered, registered_label
from cpt.report.robustness import Panel, draw_grid, panels_of
from cpt.report.scores import write_scores
from preregister import preregister
from robustness import robustness

RATES, ORDERS = (3e-5, 1e-4, 3e-4), (0, 1, 2)
GRID = {f"r{rate:g}-{order}": (rate, order) for rate in RATES for order in ORDERS}


def made_up_scores() -> list[dict[str, Any]]:
    """Domain text improves with the learning rate; order 2 is a bit better; the average moves by chance."""
    rows = []
    for number, (run, (rate, order)) in enumerate(GRID.items()):
        gain = -3 * RATES.index(rate) - 2 - 0.4 * order
        for corpus, change, half in (("own", gain, 1.0), ("prose", 0.1 * RATES.index(rate), 0.6)):
            rows.append(
                {
                    **{
                        "run": run,
                        "tokens": 10,
                        "task": f"bits_per_byte.{corpus}",
                        "metric": "bits_per_byte",
                    },
                    **{"n": 60, "groups": 41, "shown": False, "relative_change": change},
                    **{"relative_ci_low": change - half, "relative_ci_high": change + half},
                }
            )
        change = 0.004 * (number % 3 - 1)
        rows.append(
            {
                **{
                    "run": run,
                    "tokens": 10,
                    "task": "average",
                    "metric": "average",
                    "n": 350,
                    "shown": False,
                },
                **{"difference": change, "difference_ci_low": change - 0.02},
                "difference_ci_high": change + 0.02,
            }
        )
    return rows


def config_of(**changes: Any) -> Any:
    settings = merged(overlay("robustness"))
    for key, value in changes.items():
        settings[key] |= value
    return load(settings)


def test_the_overlay_is_a_grid_of_three_rates_and_three_orders() -> None:
    grid = grid_of(config_of())
    assert sorted(grid.values()) == [(rate, order) for rate in RATES for order in ORDERS]


def test_only_a_full_grid_of_similar_runs_counts_as_a_grid() -> None:
    assert grid_of(load(merged())) == grid_of(load(merged(overlay("seeds")))) == {}
    assert grid_of(config_of(runs={"high-2": None})) == {}  # a combination is missing
    other = {"tokens": 32_768, "cpus": 2, "mixture": "order-2", "train": {"learning_rate": 3e-4}}
    assert grid_of(config_of(runs={"high-2": other})) == {}
    assert len(grid_of(config_of(runs={"longer": other}))) == 9  # it isn't part of the grid
    assert grid_of(config_of(packing={"seeds": {"order-1": 1, "order-2": 1}})) == {}


def test_what_changes_no_result_is_not_part_of_the_plan() -> None:
    planned = planned_settings(config_of())
    assert {"train", "runs", "evaluate", "mixtures"} <= set(planned)
    assert not {"name", "results", "preregister", "release", "chat"} & set(planned)
    assert planned == planned_settings(config_of(release={"gguf": ["f16"]}))
    assert planned != planned_settings(config_of(train={"weight_decay": 0.1}))


def register(root: Path, started: list[str]) -> dict[str, Any]:
    """Write preregistration.json of a small plan."""
    content = {
        "plan.json": {"run": "a", "steps": 8, "provenance": {"wall_seconds": 1.0}},
        "base.json": {"sha256": {"model.safetensors": "e"}},
        "benchmarks.json": {"tasks": {"piqa": {"content_sha256": "f"}}},
    }
    for name, value in content.items():
        (root / name).write_text(json.dumps(value))
    preregister(
        [root / "plan.json"],
        root / "base.json",
        root / "benchmarks.json",
        root / "preregistration.json",
        ["a"],
        "Does it hold?",
        "It does.",
        {"train": {"learning_rate": 1e-4}},
        started,
    )
    return read_registered(root / "preregistration.json")


def test_a_plan_is_registered_with_its_digest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        first = register(tmp_path, [])
    assert first["plan"]["runs"] == {"a": {"run": "a", "steps": 8}}  # without what differs at each planning
    assert first["plan"]["question"] == "Does it hold?" and first["sha256"] == plan_sha256(first["plan"])
    shown = f"plan registered before training: SHA-256 {first['sha256'][:12]} ("
    assert caplog.messages[-1].startswith(shown)
    again = register(tmp_path, ["a"])
    assert again["sha256"] == first["sha256"]  # the same plan
    assert registered_label(again).startswith("plan registered after results of a: SHA-256")
    assert registered_label(None) == "plan not registered before training"


def test_a_plan_that_was_changed_later_is_noticed(tmp_path: Path) -> None:
    content = register(tmp_path, [])
    content["plan"]["prediction"] = "It does not."
    (tmp_path / "preregistration.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFileError, match="the plan was changed after it was registered"):
        read_registered(tmp_path / "preregistration.json")


def test_panels_have_changes_intervals_and_n() -> None:
    own, prose, average = panels_of(made_up_scores(), GRID, ["own", "prose"])
    assert own.changes["r0.0003-2"] == pytest.approx((-8.8, -9.8, -7.8))
    assert average.changes["r3e-05-0"] == pytest.approx((-0.4, -2.4, 1.6))  # percentage points
    assert (own.items, average.items) == ("60 documents, 41 groups", "350 items")
    assert own.clear() == "below 0: 9 of 9" and prose.clear() == "beyond 0: none of 9"
    assert own.spreads(GRID) == pytest.approx((3.0, 0.4))
    both = Panel("", "", {"a": (1.0, 0.5, 1.5), "b": (-1.0, -2.0, -0.5), "c": (0.0, -1.0, 1.0)})
    assert both.clear() == "below 0: 1, above 0: 1 of 3"
    with pytest.raises(UserError, match=r"scores\.csv: no row of bits_per_byte\.own for r0\.0001-0"):
        panels_of([row for row in made_up_scores() if row["run"] != "r0.0001-0"], GRID, ["own"])


def test_every_run_is_drawn_with_its_interval() -> None:
    drawn = Figure()
    draw_grid(drawn, panels_of(made_up_scores(), GRID, ["own", "prose"]), GRID, "plan registered")
    assert len(drawn.axes) == 3
    for axes in drawn.axes:
        assert len(axes.containers) == 3  # orders
        assert [len(container[0].get_xdata()) for container in axes.containers] == [3, 3, 3]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["3e-5", "1e-4", "3e-4"]
    shown = {text.get_text() for text in drawn.legends[0].get_texts()}
    assert shown == {"order 0", "order 1", "order 2", "mean over orders"}


def test_the_stage_draws_the_same_bytes_again(tmp_path: Path) -> None:
    register(tmp_path, [])
    write_scores(tmp_path / "scores.csv", made_up_scores())
    grid = {run: list(point) for run, point in GRID.items()}
    for name in ("one", "two"):
        files = [tmp_path / f"{name}.{kind}" for kind in ("svg", "png")]
        registered = [tmp_path / "preregistration.json"]
        robustness(tmp_path / "scores.csv", grid, ["own", "prose"], files, registered)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
