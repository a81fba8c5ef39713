"""Figure 3: domain and general bits per byte along training."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cpt.errors import UserError
from cpt.report import style
from cpt.report.training_figures import Curve, Point, draw_forgetting, read_curves, read_points

ORIGINS = {"first": "first", "second": "first"}
TOKENS = np.array([0, 2048, 4096, 40960])
BITS = [
    {"math": [1.0, 0.9, 0.8, 0.7], "web": [2.0, 2.2, 2.1, 2.1]},
    {"math": [0.7, 0.7, 0.7, 0.6], "web": [2.1, 2.2, 2.2, 2.3]},
]
CURVES = {
    run: {corpus: Curve(TOKENS, np.array(bits)) for corpus, bits in of_run.items()}
    for run, of_run in zip(ORIGINS, BITS, strict=True)
}


def test_curves_by_corpus(tmp_path: Path) -> None:
    path = tmp_path / "held_out.csv"
    header = "step,tokens,corpus,loss,bits_per_byte\n"
    path.write_text(header + "0,0,math,2.5,1.25\n0,0,web,3.5,1.75\n1,512,math,2.0,1.0\n1,512,web,4.0,2.0\n")
    found = read_curves(path)
    assert list(found) == ["math", "web"]
    assert found["web"].tokens.tolist() == [0, 512] and found["web"].bits.tolist() == [1.75, 2.0]
    path.write_text(header + "0,0,math,nan,nan\n")
    with pytest.raises(UserError, match=r"held_out\.csv: bits per byte of math aren't finite"):
        read_curves(path)
    path.write_text(header)
    with pytest.raises(UserError, match="no rows"):
        read_curves(path)


def test_sums_of_models_are_compared_with_the_base_model(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.json" for number in range(8)]
    for file, bits in zip(files, (1.0, 2.0, 0.9, 2.1, 0.8, 2.2, 0.7, 2.3), strict=True):
        file.write_text(json.dumps({"bits_per_byte": bits}))
    merges = {"at-50": {"base": 0.5, "first": 0.5}, "soup": {"first": 0.5, "second": 0.5}}
    merges["chat"] = {"first": 1, "instruct": 1, "base": -1}
    points = read_points(files, merges, ["math", "web"])
    assert [point.run for point in points] == ["first", None, None] and points[0].share == 0.5
    assert points[2][3:] == pytest.approx((-0.3, 0.3)) and points[2].name == "chat"
    assert read_points([], {}, ["math"]) == []


def test_each_panel_shows_what_its_axes_say() -> None:
    drawn = Figure()
    points = [Point("at-75", "first", 0.75, -0.2, 0.1), Point("at-25", "first", 0.25, -0.1, 0.05)]
    points.append(Point("chat", None, 1.0, -0.3, 0.2))
    draw_forgetting(drawn, CURVES, ORIGINS, ["math", "web"], points)
    panels = {axes.get_ylabel(): axes for axes in drawn.axes}
    general, domain = panels["web\nbits per byte"], panels["math\nbits per byte"]
    paths = panels["web\nchange in bits per byte"]
    assert paths.get_xlabel() == "math\nchange in bits per byte" and len(panels) == 3
    assert [line.get_ydata().tolist() for line in domain.lines] == [
        c["math"].bits.tolist() for c in CURVES.values()
    ]
    assert [line.get_ydata().tolist() for line in general.lines] == [
        c["web"].bits.tolist() for c in CURVES.values()
    ]
    first, second, way, between, elsewhere = paths.lines[:5]
    assert first.get_xdata() == pytest.approx([0, -0.1, -0.2, -0.3])
    assert first.get_ydata() == pytest.approx([0, 0.2, 0.1, 0.1])
    # The second run continues the first: its path begins where that one's ends.
    assert (second.get_xdata()[0], second.get_ydata()[0]) == pytest.approx((-0.3, 0.1))
    # From the base model over the sums, by their shares, to the run.
    assert way.get_xdata() == pytest.approx([0, -0.1, -0.2, -0.3])
    assert way.get_ydata() == pytest.approx([0, 0.05, 0.1, 0.1])
    assert between.get_xydata().tolist() == [[-0.2, 0.1], [-0.1, 0.05]]
    assert {line.get_color() for line in (way, between)} == {first.get_color()}
    assert elsewhere.get_xydata().tolist() == [[-0.3, 0.2]]
    assert [text.get_text() for text in paths.texts] == ["chat"]
    labels = [text.get_text() for text in drawn.legends[0].texts]
    assert labels == ["first", "second", "between the base model and the run", "other sums of models"]


def test_without_a_general_corpus_only_the_domain_is_drawn() -> None:
    with style.figure(height=2.6) as drawn:
        draw_forgetting(drawn, {"first": CURVES["first"]}, ORIGINS, ["math"], [])
        (axes,) = drawn.axes
        assert axes.get_ylabel() == "math\nbits per byte"
        drawn.canvas.draw()
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "2.05K", "10K"]
