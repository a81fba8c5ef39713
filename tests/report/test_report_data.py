"""Figures of the data: documents taken and left at each stage, and token-level measures."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from cpt.config_sections import TokenQualityFilter
from cpt.errors import UserError
from cpt.files import write_json
from cpt.report.data import data_rows, read_steps
from cpt.report.runs import read_runs
from cpt.report.token_quality import draw_quality, read_bins
from cpt.report.waterfall import draw_waterfall
from figure6 import figure6
from runs import runs

MINUS, ABOUT = "\N{MINUS SIGN}", "\N{ALMOST EQUAL TO}"


def statistics(experiment: SimpleNamespace) -> Path:
    return experiment.root / "corpora" / "statistics.csv"


def texts(drawn: Figure) -> list[str]:
    return [text.get_text() for axes in drawn.axes for text in axes.texts]


def test_what_is_taken_and_left_adds_up_from_file_to_sequence(experiment: SimpleNamespace) -> None:
    steps = read_steps(statistics(experiment))["scientific_python"]
    assert [step.label for step in steps if step.taken is None] == [
        "read",
        "after length rules",
        "after repetition rules",
        "kept",
        "packed (domain)",
    ]
    assert [step.label for step in steps if step.taken] == [
        "minimum lines",
        "short lines",
        "top n-grams",
        "duplicate n-grams",
        "exact duplicates",
        "contaminated",
        "longest run",
        "held out",
        "tail (domain)",
    ]
    documents, tokens = steps[0].left.documents, steps[0].left.tokens
    for step in steps[1:]:
        if step.taken:
            documents = documents - step.taken.documents if step.taken.documents is not None else None
            tokens -= step.taken.tokens
        assert step.left[:2] == (documents, tokens)
    by_label = {step.label: step for step in steps}
    assert by_label["top n-grams"].taken[:2] == (52 + 34 + 26, 125 * (52 + 34 + 26))
    assert by_label["exact duplicates"].taken.estimated
    assert not by_label["longest run"].taken.estimated


def test_other_stages_and_mixtures_get_their_lines(experiment: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "statistics.csv"
    text = statistics(experiment).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("standard_library")]
    place = next(i for i, line in enumerate(lines) if ",contaminated," in line)
    lines.insert(place, "scientific_python,near_duplicates,,,0,0,,0")
    first = next(i for i, line in enumerate(lines) if ",filter," in line)
    lines.insert(first, "scientific_python,filter,where_score,,3,9,,2")
    place += 1
    lines[place + 1] = "scientific_python,contaminated,found,,1200,7,,7"
    kept = int(next(line for line in lines if ",kept," in line).split(",")[6])
    lines += [
        f"scientific_python,packing,unused,half,,,{kept - 512},",
        "scientific_python,packed,,half,,,512,",
    ]
    path.write_text("\n".join(lines) + "\n")
    labels = {step.label: step for step in read_steps(path)["scientific_python"]}
    assert "near-duplicates" in labels
    left = (labels["read"].left.documents, labels["after column rules"].left.documents)
    assert labels["where score"].taken.documents == 3 and left[0] - left[1] == 3
    assert "contaminated (1,200 left in)" in labels
    assert labels["unused (half)"].left[:2] == (None, 512)
    assert labels["packed (half)"].left.tokens == 512


def test_waterfall_shows_counts_and_percentages(experiment: SimpleNamespace, tmp_path: Path) -> None:
    corpora = read_steps(statistics(experiment))
    drawn = Figure()
    draw_waterfall(drawn, corpora)
    shown = texts(drawn)
    assert {"scientific_python", "standard_library", "held out"} <= set(shown)
    for text in (
        "5,230",
        f"{MINUS}581",
        "11.1 %",
        f"{ABOUT}654K",
        f"{ABOUT}{MINUS}72.6K",
        f"{MINUS}17",
        "<0.1 %",
    ):
        assert text in shown
    files = []
    for folder in ("a", "b"):
        files.append([tmp_path / folder / f"figure6.{kind}" for kind in ("pdf", "svg")])
        figure6(statistics(experiment), files[-1])
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_a_corpus_that_was_dropped_whole_can_be_drawn(tmp_path: Path) -> None:
    header = "corpus,stage,rule,mixture,documents,bytes,tokens,estimated_tokens"
    early = ["raw,,,4,9,,", "filter,empty,,4,9,,", "duplicates,,,0,0,,", "contaminated,found,,0,0,,"]
    late = [
        "contaminated,dropped,,0,0,,",
        "token_quality,unknown,,0,0,0,",
        "held_out,,,0,0,0,",
        "kept,,,0,0,0,",
    ]
    lines = [header, *(f"c,{line}" for line in early + late)]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    drawn = Figure()
    draw_waterfall(drawn, read_steps(tmp_path / "s.csv"))
    assert f"{MINUS}4" in texts(drawn)


def test_outlines_show_every_document_and_the_thresholds(experiment: SimpleNamespace) -> None:
    bins = read_bins(experiment.root / "corpora" / "token_quality.csv")
    edges, counts = bins["bytes_per_token"]["scientific_python"]
    assert edges.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 16.0, pytest.approx(16.8)]
    assert counts.tolist() == [20, 30, 40, 0, 60, 0, 1]
    drawn = Figure()
    draw_quality(drawn, bins, TokenQualityFilter().model_dump(), {})
    lines = [[line.get_xdata()[0] for line in axes.lines] for axes in drawn.axes]
    assert lines == [[1.5, 12.0], [0.01], [0.05], [100]]
    for axes in drawn.axes:
        assert len(axes.patches) == 2
        for outline in axes.patches:
            assert np.sum(outline.get_data().values) == pytest.approx(100)
    assert [text.get_text() for text in drawn.legends[0].texts] == [*experiment.corpora, "threshold"]


def test_a_table_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("corpus,stage\nc,raw\n")
    with pytest.raises(UserError, match=r"s\.csv: expected the columns corpus, stage, rule"):
        read_steps(tmp_path / "s.csv")


def test_table_of_data_follows_the_steps(experiment: SimpleNamespace) -> None:
    rows = [
        row for row in data_rows(read_steps(statistics(experiment))) if row["corpus"] != "standard_library"
    ]
    assert (rows[0]["step"], rows[0]["documents"], rows[0]["token_share"]) == ("read", 5230, 1.0)
    assert rows[0]["taken_documents"] is None
    kept = next(row for row in rows if row["step"] == "kept")
    dropped = [row["taken_documents"] for row in rows[: rows.index(kept)] if row["taken_documents"]]
    assert kept["documents"] == 5230 - sum(dropped)
    assert kept["token_share"] == pytest.approx(kept["documents"] / 5230)  # equally long documents
    assert (rows[0]["estimated"], kept["estimated"]) == (True, False)


def test_table_of_runs_by_hand(tmp_path: Path) -> None:
    """Two processes at 50 tokens/s each, 720,000 tokens: 2 hours, 4 device hours, 10 % of the peak."""
    summary = {
        **{"run": "a", "tokens": 720_000, "sequences": 360, "sequence_length": 2000, "steps": 4},
        **{"global_batch": 90, "processes": 2, "device": "NVIDIA A100", "engine": "ddp"},
        **{"parameters": 1000, "tokens_per_second": 100.0, "flops_per_token": 6.24e11},
        **{"peak_flops_per_process": 312e12, "peak_memory_mb": 12.5},
    }
    table = tmp_path / "runs.csv"
    files = [tmp_path / "run.json"], [tmp_path / "metrics.csv"]
    write_json(tmp_path / "run.json", summary)
    (tmp_path / "metrics.csv").write_text("step,loss,skipped\n1,nan,1\n2,3.5,\n3,3.0,\n4,2.5,\n")
    runs(table, *files)
    row = read_runs(table)["a"]
    assert (row["hours"], row["device_hours"], row["tokens_per_second_per_process"]) == (2, 4, 50)
    assert (row["utilization"], row["tokens_per_step"], row["tokens_per_parameter"]) == (0.1, 180_000, 720)
    assert (row["first_loss"], row["last_loss"], row["peak_memory_mb"]) == (3.5, 2.5, 12.5)
    write_json(tmp_path / "run.json", {**summary, "peak_flops_per_process": None})
    runs(table, *files)
    assert read_runs(table)["a"]["utilization"] is None
    runs(table)
    assert read_runs(table) == {}
    (tmp_path / "metrics.csv").write_text("step,loss,skipped\n1,nan,1\n")
    with pytest.raises(UserError, match=r"metrics\.csv: no step that wasn't skipped"):
        runs(table, *files)
