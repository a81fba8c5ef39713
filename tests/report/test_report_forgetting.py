"""Figure 3: domain and general bits per byte during training, with their intervals."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from report_experiment import DOCUMENTS, write_held_out, write_losses

from cpt.errors import UserError
from cpt.report import style
from cpt.report.forgetting import (
    Curve,
    Measured,
    Point,
    curves_of,
    draw_forgetting,
    read_measured,
    read_points,
)
from cpt.report.held_out import Losses, held_out_rows

TOKENS = np.array([0, 2048, 4096, 40960])
BITS = {
    "first": {"math": [1.0, 0.9, 0.8, 0.7], "web": [2.0, 2.2, 2.1, 2.1]},
    "second": {"math": [0.7, 0.7, 0.7, 0.6], "web": [2.1, 2.2, 2.2, 2.3]},
}
START = {"math": 1.0, "web": 2.0}
GROUPS = {"math": 40, "web": 12}


def add_interval(change: float | np.ndarray) -> np.ndarray:
    """A change with an interval of 0.02 on both sides."""
    return np.array([change, change - 0.02, change + 0.02])


CURVES = {
    run: {
        corpus: Curve(
            TOKENS, np.array(bits), add_interval(np.array(bits) - START[corpus]), 50, GROUPS[corpus]
        )
        for corpus, bits in corpora.items()
    }
    for run, corpora in BITS.items()
}


def measured_files(folder: Path, shown: float = 1.0) -> tuple[Path, Path, dict[str, Path]]:
    """Two steps of a run on two corpora, with a loss of `shown` nats on each document of the second step."""
    held_out = {corpus: folder / f"{corpus}.npz" for corpus in ("math", "web")}
    for path in held_out.values():
        write_held_out(path, 7)
    table, document_table = folder / "held_out.csv", folder / "held_out_documents.csv"
    table.write_text(
        "step,tokens,corpus,loss,bits_per_byte\n"
        + "".join(f"{step},{512 * step},{corpus},1,1\n" for step in (0, 3) for corpus in held_out)
    )
    document_table.write_text(
        "step,corpus,document,nats\n"
        + "".join(
            f"{step},{corpus},{document},{shown if step else 2.0}\n"
            for step in (0, 3)
            for corpus in held_out
            for document in range(DOCUMENTS)
        )
    )
    return table, document_table, held_out


def test_losses_of_each_document_during_a_run(tmp_path: Path) -> None:
    table, document_table, held_out = measured_files(tmp_path)
    tokens, losses = read_measured(table, document_table, {"web": held_out["web"]})
    assert tokens.tolist() == [0, 1536] and list(losses) == ["web"]
    assert [each.nats.tolist() for each in losses["web"]] == [[2.0] * DOCUMENTS, [1.0] * DOCUMENTS]
    assert len(set(losses["web"][1].groups)) == 7

    document_table.write_text(document_table.read_text().replace("3,web,33,1.0\n", ""))
    with pytest.raises(
        UserError, match=r"_documents\.csv: its losses of web aren't those of 34 documents at eac"
    ):
        read_measured(table, document_table, held_out)
    table, document_table, held_out = measured_files(tmp_path, float("nan"))
    with pytest.raises(UserError, match=r"_documents\.csv: a loss on math isn't finite; train the run again"):
        read_measured(table, document_table, held_out)
    table.write_text("step,tokens,corpus,loss,bits_per_byte\n")
    with pytest.raises(UserError, match="no rows"):
        read_measured(table, document_table, held_out)


def losses_of(nats: float, documents: int = 9) -> Losses:
    """Documents of 10 bytes, each its own group, with a loss of about `nats`."""
    noise = np.random.default_rng(round(100 * nats)).normal(0, 0.1, documents)
    return Losses(Path("x.csv"), np.arange(documents), np.full(documents, 10), nats + noise)


def test_a_curve_is_compared_with_where_its_chain_began() -> None:
    first, second = ([losses_of(nats) for nats in values] for values in ((5.0, 4.0), (4.1, 3.0)))
    runs = {
        run: Measured(np.array([0, 8]), {"math": steps})
        for run, steps in (("first", first), ("second", second))
    }
    curves = curves_of(runs, {"first": "first", "second": "first"}, 0)
    row = held_out_rows([first[0], second[1]], 0)[1]
    curve = curves["second"]["math"]
    assert curve.bits[1] == row["score"] and (curve.documents, curve.groups) == (9, 9)
    ends = [row["difference"], row["difference_ci_low"], row["difference_ci_high"]]
    assert curve.changes[:, 1].tolist() == ends and ends[1] < ends[0] < ends[2]
    assert curves["first"]["math"].changes[:, 0].tolist() == [0, 0, 0]  # the base model itself
    alone = curves_of({"second": runs["second"]}, {"second": "first"}, 0)  # the first one wasn't measured
    assert alone["second"]["math"].changes[0, 0] == 0
    with pytest.raises(
        UserError, match=r"measured on 8 documents of 80 bytes, but .* on 9 of 90; measure both on"
    ):
        runs["second"] = Measured(np.array([0, 8]), {"math": [losses_of(4.1, 8), losses_of(3.0, 8)]})
        curves_of(runs, {"first": "first", "second": "first"}, 0)


def test_sums_of_models_are_compared_with_the_base_model(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.csv" for number in range(8)]
    for file, bits in zip(files, (1.0, 2.0, 0.9, 2.1, 0.8, 2.2, 0.7, 2.3), strict=True):
        nats = 10 * np.log(2) * (bits + 0.1 * np.arange(-2, 3))
        write_losses(file, range(5), [10] * 5, nats)
    merges = {"at-50": {"base": 0.5, "first": 0.5}, "soup": {"first": 0.5, "second": 0.5}}
    merges["chat"] = {"first": 1, "instruct": 1, "base": -1}
    points = read_points(files, merges, ["math", "web"], 0)
    assert [point.run for point in points] == ["first", None, None] and points[0].share == 0.5
    assert (points[2].domain[0], points[2].general[0]) == pytest.approx((-0.3, 0.3))
    assert points[2].domain == pytest.approx([-0.3] * 3)  # every document changed by the same amount
    assert points[2].name == "chat" and read_points([], {}, ["math"], 0) == []


def test_each_panel_shows_what_its_axes_say() -> None:
    drawn = Figure()
    places = {"at-75": ("first", 0.75, -0.2, 0.1), "at-25": ("first", 0.25, -0.1, 0.05)}
    places["chat"] = (None, 1.0, -0.3, 0.2)
    points = [
        Point(name, run, share, *map(add_interval, changes))
        for name, (run, share, *changes) in places.items()
    ]
    draw_forgetting(drawn, CURVES, ["math", "web"], points)
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
    first, second, path, sums, others = paths.lines[:5]
    assert first.get_xdata() == pytest.approx([0, -0.1, -0.2, -0.3])
    assert first.get_ydata() == pytest.approx([0, 0.2, 0.1, 0.1])
    # The second run continues the first: its path begins where that one's ends.
    assert (second.get_xdata()[0], second.get_ydata()[0]) == pytest.approx((-0.3, 0.1))
    # From the base model through the sums, ordered by share, to the run.
    assert path.get_xdata() == pytest.approx([0, -0.1, -0.2, -0.3])
    assert path.get_ydata() == pytest.approx([0, 0.05, 0.1, 0.1])
    assert sums.get_xydata().tolist() == [[-0.2, 0.1], [-0.1, 0.05]]
    assert {line.get_color() for line in (path, sums)} == {first.get_color()}
    assert others.get_xydata().tolist() == [[-0.3, 0.2]]
    assert [text.get_text() for text in paths.texts] == ["chat"]
    labels = [text.get_text() for text in drawn.legends[0].texts]
    between_label, others_label = "between the base model and the run", "other sums of models"
    assert labels == ["first", "second", between_label, others_label, "95 % CI of the change"]


def test_bands_and_crosses_are_the_intervals_and_panels_say_what_they_rest_on() -> None:
    drawn = Figure()
    chat = Point("chat", None, 1.0, add_interval(-0.3), add_interval(0.2))
    draw_forgetting(drawn, CURVES, ["math", "web"], [chat])
    panels = {axes.get_ylabel(): axes for axes in drawn.axes}
    general, domain = panels["web\nbits per byte"], panels["math\nbits per byte"]
    (band, _), (line, _) = domain.collections, domain.lines
    ends = {tuple(point) for point in band.get_paths()[0].vertices.round(6).tolist()}
    assert {(40960, 0.68), (40960, 0.72), (2048, 0.88), (2048, 0.92)} <= ends
    assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color())
    assert domain.get_title("left") == "50 documents of 40 groups"
    assert general.get_title("left") == "50 documents of 12 groups: below 30"
    crosses = panels["web\nchange in bits per byte"].collections  # two lines for each run and the sum
    segments = [path.get_segments()[0].round(6).tolist() for path in crosses]
    assert segments[:2] == [[[-0.32, 0.1], [-0.28, 0.1]], [[-0.3, 0.08], [-0.3, 0.12]]]
    assert segments[4:] == [[[-0.32, 0.2], [-0.28, 0.2]], [[-0.3, 0.18], [-0.3, 0.22]]]


def test_without_a_general_corpus_only_the_domain_is_drawn() -> None:
    with style.figure(height=2.6) as drawn:
        draw_forgetting(drawn, {"first": CURVES["first"]}, ["math"], [])
        (axes,) = drawn.axes
        assert axes.get_ylabel() == "math\nbits per byte"
        drawn.canvas.draw()
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "2.05K", "10K", "41K"]
