"""Advice: the front, recommendations and refusals, a valid overlay, predictions next to measurements."""

import numpy as np
import pytest
import yaml
from tests.test_config import merged

from cpt.config import load
from cpt.errors import UserError
from cpt.report import advice, style
from cpt.report.advice import Setting, choose, front, full_settings, overlay_of, prediction_rows
from cpt.report.advice_laws import Law
from cpt.report.advice_page import advice_page, draw_front

FORGETTING = {
    "corpora": {"web": {"source": "local", "files": "web/*", "shards": 1}},
    "general": "web",
    "runs": {"cpt-1B": None},
    "advise": {
        "tokens": ["1B"],
        "learning_rates": [3e-5, 1e-4],
        "replay": [0, 0.05],
        "maximum_epochs": 4,
    },
}
CONFIG = load(merged(FORGETTING))
POINTS = CONFIG.proxy_points


def law(start: float, amplitude: float, misfit: float = 0.001, spread: float = 0.0) -> Law:
    """The amplitude times 1 - 1 / (1 + area) in each cell, without annealing; uncertain only by `spread`."""
    cells = sorted({advice.cell_of(point) for point in POINTS}, key=repr)
    linear = np.array([*[amplitude] * len(cells), 0.0])
    draws = np.tile(np.concatenate([[0.0, 0.0], linear]), (50, 1))
    return Law(start, 1.0, cells, np.zeros(2), linear, draws, misfit, spread, 0.1)


def setting(domain: float, general: float, half: float = 0.01, hours: float = 1.0, place: int = 0) -> Setting:
    return Setting(
        POINTS[place],
        (domain, domain - half, domain + half),
        (general, general - half, general + half),
        2.5,
        hours,
    )


LAWS = law(1.0, -0.2), law(0.8, 0.1)


def test_the_front_is_what_no_other_setting_beats_at_both():
    best, both, worse, least = setting(0.8, 0.9), setting(0.85, 0.85), setting(0.86, 0.87), setting(0.9, 0.8)
    assert front([worse, least, best, both]) == [best, both, least]


def test_the_best_at_the_domain_that_forgets_little_is_recommended():
    settings = [setting(0.8, 0.81), setting(0.85, 0.795), setting(0.9, 0.78)]
    chosen, reasons = choose(settings, LAWS, 0.01)  # up to 0.808, by the upper end of the interval
    assert chosen == settings[1] and reasons == []
    assert choose(settings, LAWS, 0.05)[0] == settings[0]
    same = [setting(0.8, 0.8, hours=2.0), setting(0.8, 0.8, hours=1.0)]
    assert choose(same, LAWS, 0.05)[0] == same[1]


@pytest.mark.parametrize(
    ("settings", "domain", "reason"),
    [
        (
            [setting(0.8, 0.8)],
            law(1.0, -0.2, misfit=0.03),
            "misses the proxies' curves by 30% of their largest",
        ),
        (
            [setting(0.8, 0.85)],
            LAWS[0],
            "No setting keeps general text within 1.0% of the base model's 0.8000",
        ),
        ([setting(0.995, 0.79)], LAWS[0], "0.9850 to 1.0050 bits per byte, includes the base model's 1.0000"),
    ],
)
def test_a_refusal_says_why_and_its_overlay_changes_nothing(settings, domain, reason):
    chosen, reasons = choose(settings, (domain, LAWS[1]), 0.01)
    assert chosen is None and reason in reasons[0]
    overlay = overlay_of(chosen, {}, "x", 0, reasons)
    assert reason in overlay and yaml.safe_load(overlay) == {}
    facts = {"overlay": "x", "corpora": ["a", "b"], "proxies": 2, "measurements": 9, "hours": 1.0}
    page = advice_page(settings, settings, None, reasons, LAWS, facts | {"most_forgetting": 0.01})
    assert "## No recommendation" in page and reason in page


@pytest.mark.parametrize("place", range(len(POINTS)))
def test_the_overlay_trains_what_was_recommended(place):
    point = POINTS[place]
    overlay = yaml.safe_load(
        overlay_of(setting(0.8, 0.8, place=place), CONFIG.advised_place, CONFIG.like, 4, [])
    )
    config = load(merged(FORGETTING, overlay))
    run, train = config.runs["advised"], config.train_settings("advised")
    assert (run.tokens, run.gpus, run.start_from) == (10**9, 3, None)
    assert (train.learning_rate, train.weight_decay) == (point["rate"], point["decay"])
    assert config.mixtures["advised"] == point["mixture"] and config.packing.maximum_epochs == 4
    wanted = {key: point[key] for key in ("tokens", "replay", "decay", "rate")}
    assert config.foreseen_runs["advised"] == wanted
    # The larger run changes nothing of the proxies, so they aren't trained again.
    assert config.proxies == CONFIG.proxies and config.proxy_points == CONFIG.proxy_points


def test_full_runs_have_the_area_the_epochs_and_the_hours_of_their_tokens():
    points = [point for point in POINTS if point["rate"] == 1e-4 and point["replay"] == 0.05]
    areas = [(np.linspace(0, share, 101), np.full(101, 1e-4)) for share in (0.2, 0.5)]
    summary = {"global_batch": 500, "sequence_length": 2_000, "tokens_per_second": 1e6 / 3.6}
    sources = {"fineweb_edu": {"sequences_available": 5_000}}
    ledgers = {point["packed"]: {"sources": sources} for point in points}
    (full_run,) = full_settings(points, areas, [summary] * 2, ledgers, LAWS, "fineweb_edu")
    # The larger proxy has 100 steps and the full run 1,000, so ten times its area of 0.5.
    assert full_run.domain[0] == pytest.approx(1.0 - 0.2 * 5 / 6)
    # 950M tokens of the domain, and 5,000 sequences of 2,000 tokens are 2 % of its text.
    assert full_run.epochs == pytest.approx(950 / 500) and full_run.hours == pytest.approx(1.0)


def run_files(folder, start: float, end: float):
    (folder / "schedule.csv").write_text("step,tokens,learning_rate\n1,10,0.5\n2,20,0.5\n")
    rows = [f"{step},1,{corpus},1,{bits}" for step, bits in ((0, start), (2, end)) for corpus in ("a", "b")]
    (folder / "held_out.csv").write_text("\n".join(["step,tokens,corpus,loss,bits_per_byte", *rows]) + "\n")
    return [folder / "held_out.csv"], [folder / "schedule.csv"]


def test_predictions_are_listed_next_to_measurements(tmp_path):
    laws = {"a": law(1.0, -0.2, spread=0.01), "b": law(1.0, -0.4, spread=0.01)}
    rows = prediction_rows({"advised": POINTS[0]}, *run_files(tmp_path, 1.0, 0.9), laws)
    assert [(row["corpus"], row["predicted"], row["measured"]) for row in rows] == [
        ("a", pytest.approx(0.9), 0.9),
        ("b", pytest.approx(0.8), 0.9),
    ]
    assert [row["inside"] for row in rows] == [True, False]


def test_another_text_is_not_compared(tmp_path):
    with pytest.raises(UserError, match=r"a begins at 1\.1000 bits per byte, the proxies at 1\.0000"):
        prediction_rows({"advised": POINTS[0]}, *run_files(tmp_path, 1.1, 0.9), {"a": LAWS[0]})


def test_a_curve_without_its_beginning_is_refused(tmp_path):
    held_out = tmp_path / "held_out.csv"
    held_out.write_text("step,corpus,bits_per_byte\n1,a,1.0\n")
    with pytest.raises(UserError, match="a has no finite measurement before the first step"):
        advice.read_bits(held_out)


def test_the_figure_is_the_same_each_time(tmp_path):
    settings = [setting(0.8, 0.81), setting(0.85, 0.795, place=2), setting(0.9, 0.82)]
    pictures = []
    for name in ("one.svg", "two.svg"):
        with style.figure(3.6, [tmp_path / name]) as drawn:
            draw_front(drawn, settings, front(settings), settings[1], LAWS, ("domain", "general"))
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1]
