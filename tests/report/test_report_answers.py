"""answers.csv, its summary in words, and its figure: right answers next to wrong ones."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from report_experiment import evaluation_files
from report_tasks import ITEMS, RUNS, TASKS, chosen, write_tasks
from scipy.stats import ttest_rel

from answers import answers
from cpt.errors import UserError
from cpt.report.likelihoods import (
    COLUMNS,
    QUANTITIES,
    change_of,
    mean_change,
    quantities_of,
    read_likelihoods,
    read_verdicts,
    text_of,
    verdicts,
)
from cpt.report.rows import Row
from cpt.report.samples import Choices
from cpt.report.scores import AVERAGE
from cpt.report.statistics import holm
from figure_answers import figure_answers

RISES = {"format": (0.2, 0.2), "knowledge": (0.4, 0.1), "nothing": (0.0, 0.0), "forgetting": (-0.3, 0.1)}


def measure(folder: Path, right: float, wrong: float, tasks: int = 2) -> tuple[list[Row], dict[str, str]]:
    """The rows and sentences of answers whose likelihoods rise by this many nats."""
    choice_tasks = {
        f"choice_{n}": partial(chosen, right=right, wrong=wrong, task=f"choice_{n}") for n in range(tasks)
    }
    write_tasks(folder, choice_tasks)
    labels = {task: task.replace("_", " ") for task in choice_tasks}
    samples = evaluation_files(folder, RUNS, choice_tasks, ".samples.jsonl")
    summaries = evaluation_files(folder, RUNS, choice_tasks, ".json")
    answers(samples, summaries, folder / "answers.csv", folder / "answers.md", RUNS, labels)
    return read_likelihoods(folder / "answers.csv"), read_verdicts(folder / "answers.md")


def test_quantities_by_hand(tmp_path: Path) -> None:
    """Computed for each item from the log-likelihoods in the samples; scipy gives t, p and the interval."""
    rows, _ = measure(tmp_path, 0.2, 0.1, tasks=1)
    values = {}
    for run in ("base", "cpt-10K"):
        _, samples = chosen(run, 0.2, 0.1, "choice_0")
        items = []
        for sample in samples:
            likely = sample["loglikelihoods"]
            right = likely.pop(sample["gold"])
            shares = [math.exp(value) for value in (right, *likely)]
            wrong = sum(likely) / 3
            items.append([right, wrong, right - wrong, shares[0] / sum(shares), sample["bits_per_byte"]])
        values[run] = np.array(items)
    mine = [row for row in rows if row["run"] == "cpt-10K" and row["task"] == "choice_0"]
    assert [row["quantity"] for row in mine] == list(QUANTITIES)
    for row, before, after in zip(mine, values["base"].T, values["cpt-10K"].T, strict=True):
        expected = ttest_rel(after, before)
        assert row["n"] == ITEMS
        assert row["base_mean"] == pytest.approx(before.mean(), abs=1e-6)
        assert row["difference"] == pytest.approx((after - before).mean(), abs=1e-6)
        assert row["p"] == pytest.approx(expected.pvalue, rel=1e-4)
        interval = expected.confidence_interval()
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high), abs=1e-5)
    assert tuple(rows[0]) == COLUMNS


def test_each_quantity_is_a_family_over_runs_and_tasks(tmp_path: Path) -> None:
    rows, _ = measure(tmp_path, 0.01, 0.0, tasks=3)
    for quantity in QUANTITIES:
        family = [row for row in rows if row["quantity"] == quantity and row["task"] != AVERAGE]
        assert len(family) == 2 * 3
        assert [row["p_holm"] for row in family] == pytest.approx(
            holm([row["p"] for row in family]), rel=1e-4
        )


@pytest.mark.parametrize(
    ("case", "says", "never"),
    [
        ("format", "This shows adaptation to the format of the answers, not knowledge.", "looks like"),
        ("knowledge", "what right ones gain beyond it looks like knowledge", "not knowledge"),
        ("forgetting", "This looks like forgetting", "knowledge"),
        ("nothing", "Nothing is resolved: right answers change on none of 2 tasks", "knowledge"),
    ],
)
def test_the_sentence_says_what_it_shows(tmp_path: Path, case: str, says: str, never: str) -> None:
    _, sentences = measure(tmp_path, *RISES[case])
    assert list(sentences) == ["cpt-10K", "cpt-25K"]
    for sentence in sentences.values():
        assert says in sentence and never not in sentence
        if case in ("format", "nothing"):
            assert "would have been found with 80 % power" in sentence
    if case == "format":
        assert sentence.startswith("Right answers become likelier on 2 of 2 tasks (p")
        assert "so do wrong ones on 2 of 2 tasks" in sentence
        assert "right less wrong changes on none" in sentence


def test_without_a_change_of_the_wrong_answers_the_cause_is_open() -> None:
    """The control didn't move, but right less wrong isn't resolved either."""
    changed = {"difference": 0.2, "p": 0.001, "p_holm": 0.01, "detectable_difference": 0.1}
    still = {"difference": 0.05, "p": 0.2, "p_holm": 0.6, "detectable_difference": 0.3}
    rows = [
        {"run": "cpt", "task": task, "quantity": quantity, **(changed if quantity == "right" else still)}
        for task in ("choice", AVERAGE)
        for quantity in QUANTITIES
    ]
    ((run, sentence),) = verdicts(rows, {"choice": "Choice"})
    assert run == "cpt" and sentence.startswith("Right answers become likelier on 1 of 1 task (p")
    assert "wrong ones don't follow" in sentence and "not knowledge" not in sentence
    assert sentence.endswith("isn't resolved whether this is the format of the answers or knowledge.")


def test_tasks_without_choices_have_no_rows(tmp_path: Path) -> None:
    write_tasks(tmp_path, TASKS)
    samples, summaries = (
        evaluation_files(tmp_path, RUNS, TASKS, kind) for kind in (".samples.jsonl", ".json")
    )
    labels = {task: task for task in TASKS}
    answers(samples, summaries, tmp_path / "answers.csv", tmp_path / "answers.md", RUNS, labels)
    assert {row["task"] for row in read_likelihoods(tmp_path / "answers.csv")} == {"choice", AVERAGE}
    fewer = {"gsm8k": "GSM8K"}
    samples, summaries = (
        evaluation_files(tmp_path, RUNS, fewer, kind) for kind in (".samples.jsonl", ".json")
    )
    answers(samples, summaries, tmp_path / "answers.csv", tmp_path / "answers.md", RUNS, fewer)
    assert read_likelihoods(tmp_path / "answers.csv") == []
    assert "no task with choices" in (tmp_path / "answers.md").read_text()
    figure_answers(tmp_path / "answers.csv", fewer, [tmp_path / "answers.svg"])
    assert (tmp_path / "answers.svg").stat().st_size > 500


def test_the_mean_has_each_question_once(tmp_path: Path) -> None:
    """MMLU with letters and as cloze are two tasks, and their errors aren't independent."""
    tasks = {"choice": chosen, "cloze": partial(chosen, right=0.3, task="choice_continuation")}
    write_tasks(tmp_path, tasks)
    files = [evaluation_files(tmp_path, RUNS, tasks, kind) for kind in (".samples.jsonl", ".json")]
    answers(*files, tmp_path / "answers.csv", tmp_path / "answers.md", RUNS, {"choice": "A", "cloze": "B"})
    rows = read_likelihoods(tmp_path / "answers.csv")
    changes = {(row["task"], row["quantity"]): row for row in rows if row["run"] == "cpt-10K"}
    assert changes[AVERAGE, "right"]["difference"] == changes["choice", "right"]["difference"]
    assert ("cloze", "right") in changes


def test_other_prompts_are_refused(tmp_path: Path) -> None:
    measure(tmp_path, 0.1, 0.1, tasks=1)
    path = tmp_path / "evaluations" / "cpt-25K" / "choice_0.samples.jsonl"
    path.write_text(path.read_text().replace('"p3"', '"other"'))
    tasks = ["choice_0"]
    samples, summaries = (
        evaluation_files(tmp_path, RUNS, tasks, kind) for kind in (".samples.jsonl", ".json")
    )
    with pytest.raises(
        UserError, match=r"cpt-25K/choice_0\.samples\.jsonl: 1 of its items have another text"
    ):
        answers(
            samples, summaries, tmp_path / "answers.csv", tmp_path / "answers.md", RUNS, {"choice_0": "c"}
        )


def test_items_whose_right_answer_is_another_one_are_skipped(tmp_path: Path) -> None:
    """If several answers are right, the samples name the one that the run prefers."""
    measure(tmp_path, 0.1, 0.1, tasks=1)
    path = tmp_path / "evaluations" / "cpt-25K" / "choice_0.samples.jsonl"
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    samples[5]["gold"] = (samples[5]["gold"] + 1) % 4
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    files = [evaluation_files(tmp_path, RUNS, ["choice_0"], kind) for kind in (".samples.jsonl", ".json")]
    answers(*files, tmp_path / "answers.csv", tmp_path / "answers.md", RUNS, {"choice_0": "c"})
    counts = {row["run"]: row["n"] for row in read_likelihoods(tmp_path / "answers.csv")}
    assert counts == {"cpt-10K": ITEMS, "cpt-25K": ITEMS - 1}


@pytest.mark.filterwarnings("error")
def test_an_item_with_one_choice_gives_no_warning() -> None:
    likely = np.array([[-1.0, np.nan], [-1.0, -3.0]])
    choices = Choices(np.zeros(2, int), np.zeros(2, int), np.array([1, 2]), None, likely, np.ones(2))
    assert quantities_of(choices)[1, :3].tolist() == [-1, -3, 2]


def test_a_single_item_has_no_test() -> None:
    row = change_of(np.array([1.0]), np.array([2.0])).row()
    assert row == {"n": 1, "base_mean": 1.0, "mean": 2.0, "difference": 1.0}


def test_equal_models_differ_by_nothing() -> None:
    row = change_of(np.arange(5.0), np.arange(5.0)).row()
    assert (row["difference"], row["p"], row["ci_low"], row["detectable_difference"]) == (0, 1, 0, 0)


@pytest.mark.parametrize("n", [50, 300])
def test_t_keeps_its_level_with_skewed_changes(n: int) -> None:
    """The level of the test of one task, and of the mean over tasks with different spreads."""
    generator = np.random.default_rng(n)
    rejections = mean_rejections = 0
    for _ in range(1000):
        tasks = [generator.exponential(scale, n) - scale for scale in (1.0, 0.3, 2.0)]
        rejections += change_of(np.zeros(n), tasks[0]).row()["p"] < 0.05
        mean_rejections += mean_change([change_of(np.zeros(n), task) for task in tasks]).row()["p"] < 0.05
    assert rejections / 1000 == pytest.approx(0.05, abs=0.03)
    assert mean_rejections / 1000 == pytest.approx(0.05, abs=0.03)


def test_the_detectable_change_is_found_with_80_percent_power() -> None:
    generator = np.random.default_rng(3)
    reach = 2.8 / math.sqrt(100)  # (z 0.975 + z 0.8) standard errors
    rows = [change_of(np.zeros(100), generator.standard_normal(100) + reach).row() for _ in range(1000)]
    assert np.mean([row["detectable_difference"] for row in rows]) == pytest.approx(reach, rel=0.03)
    assert np.mean([row["p"] < 0.05 for row in rows]) == pytest.approx(0.8, abs=0.04)


def test_figure_is_equal_byte_for_byte(tmp_path: Path) -> None:
    measure(tmp_path, 0.2, 0.2)
    labels = {"choice_0": "First", "choice_1": "Second"}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        figure_answers(tmp_path / "answers.csv", labels, [tmp_path / folder / "answers.svg"])
    assert (tmp_path / "a" / "answers.svg").read_bytes() == (tmp_path / "b" / "answers.svg").read_bytes()


def test_the_table_in_words_marks_what_changed(tmp_path: Path) -> None:
    rows, _ = measure(tmp_path, 0.2, 0.2)
    text = text_of(rows, {"choice_0": "First", "choice_1": "Second"})
    line = next(line for line in text.splitlines() if line.startswith("| cpt-10K | First |"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[2] == str(ITEMS) and cells[3].endswith(r"\*") and cells[4].endswith(r"\*")
    assert not cells[5].endswith("*")
    assert any(line.startswith("| cpt-25K | Mean over the tasks |") for line in text.splitlines())
