"""comparisons.csv, letters.csv, seeds.csv and the null baselines: worked examples and bad inputs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from report_experiment import summary_of, write_json

from comparisons import comparisons
from cpt.errors import UserError
from cpt.files import read_json
from cpt.report.comparisons import COLUMNS, read_comparisons
from cpt.report.letters import letter_rows
from cpt.report.samples import Answers, pair, read_answers
from cpt.report.scoring import null_scores, strongest_null
from cpt.report.seeds import seed_rows
from cpt.report.statistics import Pairs, holm, mcnemar_p

METRICS = {"mmlu": "acc"}
RUNS = {"base": 0, "a": 10, "b": 20}


def write(folder: Path, run: str, right: list[int], gold: list[int], leaf: str = "", **other: object) -> Path:
    """Samples of four choices; a wrong answer is the next letter, and the second choice is longest."""
    path = folder / run / "mmlu.samples.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "task": leaf or f"mmlu_{item % 2}",
            "item": item,
            "prompt_hash": "same",
            "gold": answer,
            "predicted": (answer + 1 - correct) % 4,
            "acc": correct,
            "acc_norm": None,
            "loglikelihoods": [-1.0] * 4,
            "bits_per_byte": 1.0,
            "choice_characters": [1, 9, 1, 9],
            **other,
        }
        for item, (correct, answer) in enumerate(zip(right, gold, strict=True))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(
        path.with_name("mmlu.json"), summary_of("mmlu", {"acc": sum(right) / len(right)}, len(right), 14042)
    )
    return path


def read(path: Path) -> Answers:
    """The answers in a file that `write` wrote."""
    return read_answers(path, read_json(path.with_name("mmlu.json")))


def compare_all(samples: list[Path], table: Path) -> None:
    comparisons(samples, [path.with_name("mmlu.json") for path in samples], table, RUNS, METRICS, ["mmlu"])


def test_pairs_by_hand(tmp_path: Path) -> None:
    """Eight items of two subjects, in another order in the second file."""
    gold = [0] * 8
    one = read(write(tmp_path, "base", [1, 1, 0, 0, 1, 0, 1, 0], gold))
    path = write(tmp_path, "a", [1, 0, 1, 0, 1, 1, 0, 0], gold)
    path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    even, odd = pair(one, read(path), "acc")
    assert (even, odd) == (Pairs(2, 1, 1, 0), Pairs(0, 1, 1, 2))


def test_comparisons_by_hand(tmp_path: Path) -> None:
    gold = [0] * 40
    right = {"base": [1] * 10 + [0] * 30, "a": [1] * 20 + [0] * 20, "b": [0] * 2 + [1] * 16 + [0] * 22}
    samples = [write(tmp_path, run, answers, gold) for run, answers in right.items()]
    compare_all(samples, tmp_path / "comparisons.csv")
    rows = read_comparisons(tmp_path / "comparisons.csv")
    assert [(row["reference"], row["run"], row["task"], row["family"]) for row in rows] == [
        ("base", "a", "mmlu", "base"),
        ("base", "a", "average", "base"),
        ("base", "b", "mmlu", "base"),
        ("base", "b", "average", "base"),
        ("a", "b", "mmlu", "runs"),
        ("a", "b", "average", "runs"),
    ]
    a_row, b_row, pair_row = (row for row in rows if row["task"] == "mmlu")
    assert (a_row["gained"], a_row["lost"], a_row["difference"]) == (10, 0, 0.25)
    assert a_row["p"] == pytest.approx(2 / 2**10, rel=1e-5)
    assert (b_row["gained"], b_row["lost"]) == (8, 2)
    assert b_row["p"] == pytest.approx(mcnemar_p(8, 2), rel=1e-5)
    assert [a_row["p_holm"], b_row["p_holm"]] == pytest.approx(holm([2 / 2**10, mcnemar_p(8, 2)]), rel=1e-5)
    assert (pair_row["gained"], pair_row["lost"], pair_row["p_holm"]) == (0, 4, 0.125)
    assert a_row["ci_low"] < 0.25 < a_row["ci_high"]
    average = rows[1]  # of one task: the same difference, tested by sign flips
    assert (average["difference"], average["test"]) == (0.25, "sign_flips")
    assert average["detectable_difference"] == a_row["detectable_difference"]
    assert average["p"] == pytest.approx(a_row["p"], abs=1e-3)
    assert tuple(rows[0]) == COLUMNS


def test_other_prompts_are_refused(tmp_path: Path) -> None:
    """The same items under another template are another measurement."""
    gold = [0, 1, 2, 3]
    hashes = {"base": "same", "a": "same", "b": "other"}
    samples = [write(tmp_path, run, [1, 0, 1, 0], gold, prompt_hash=digest) for run, digest in hashes.items()]
    with pytest.raises(UserError, match=r"b/mmlu\.samples\.jsonl: 4 of its items have another text, prompt"):
        compare_all(samples, tmp_path / "comparisons.csv")


def test_nulls_by_hand(tmp_path: Path) -> None:
    gold = [0, 1, 1, 1, 2, 3, 1, 0]
    answers = read(write(tmp_path, "base", [1, 0, 0, 0, 0, 0, 0, 0], gold, leaf="mmlu"))
    scores = null_scores(answers.choices)
    assert scores == {
        **{"chance": 0.25, "majority": 0.5},
        **{"always_A": 0.25, "always_B": 0.5, "always_C": 0.125, "always_D": 0.125},
        "longest": 0.5,  # the first of the two longest
    }
    null = strongest_null(answers.choices, answers.right("acc"))
    # One item right, four by always answering B, none by both: McNemar of 1 against 4.
    assert null == {
        **{"null": "always_B", "null_score": 0.5, "null_test": "mcnemar"},
        **{"null_p": mcnemar_p(1, 4), "above_null": False},
    }
    rows = letter_rows({"base": 0}, {("base", "mmlu"): answers})
    assert [row["letter"] for row in rows] == ["A", "B", "C", "D"]
    assert [row["gold"] for row in rows] == [2, 4, 1, 1]
    assert [row["answered"] for row in rows] == [2, 1, 4, 1]  # one A is right, else the next letter
    assert [row["right"] for row in rows] == [1, 0, 0, 0]
    assert sum(row["answered_share"] for row in rows) == 1


def test_more_choices_than_the_benchmarks_have(tmp_path: Path) -> None:
    """In a task of your own the best answer may be any letter, or a number from the 27th choice on."""
    gold = [29, 29, 29, 0, 7, 25]
    choices = {"predicted": 9, "choice_characters": [1] * 30}
    answers = read(write(tmp_path, "base", [0] * 6, gold, **choices))
    scores = null_scores(answers.choices)
    assert (scores["majority"], scores["always_30"]) == (0.5, 0.5)
    assert scores["always_A"] == scores["always_H"] == scores["always_Z"] == pytest.approx(1 / 6)
    assert strongest_null(answers.choices, answers.right("acc"))["null"] == "always_30"
    rows = letter_rows({"base": 0}, {("base", "own"): answers})
    assert [row["letter"] for row in rows[7:10] + rows[24:28]] == ["H", "I", "J", "Y", "Z", "27", "28"]
    assert sum(row["gold"] for row in rows) == sum(row["answered"] for row in rows) == 6
    assert rows[9]["answered_share"] == 1


def test_a_clear_score_is_above_the_nulls_and_chance_is_tested_by_its_own_test(tmp_path: Path) -> None:
    gold = [0, 1, 2, 3] * 25
    clear = read(write(tmp_path, "good", [1] * 70 + [0] * 30, gold))
    good = strongest_null(clear.choices, clear.right("acc"))
    assert (good["null"], good["null_score"], good["null_test"]) == ("always_A", 0.25, "mcnemar")
    assert good["above_null"]
    even = read(write(tmp_path, "even", [1] * 70 + [0] * 30, gold, choice_characters=[1] * 4))
    assert even.choices.longest is None
    # Chance above every letter.
    fewer = even.choices._replace(number=np.full(100, 2), gold=np.array([2] * 100))
    null = strongest_null(fewer, even.right("acc"))
    assert (null["null"], null["null_score"], null["null_test"]) == ("chance", 0.5, "binomial")
    assert null["above_null"]


def test_seeds_distinguish_runs_from_items(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    gold = [0] * 300
    likely = generator.random(300)
    answers: dict[tuple[str, str], Answers] = {}
    for run, shift in {"base": 0.0, "a": 0.1, "a-2": 0.12, "a-3": -0.1}.items():
        path = write(tmp_path, run, [int(value) for value in likely < 0.5 + shift], gold)
        answers[run, "mmlu"] = read(path)
    rows = seed_rows({"a": ["a", "a-2", "a-3"]}, "base", METRICS, ["mmlu"], answers)
    score, difference, *average = rows
    names = {"task": "average", "metric": "average"}
    assert average == [score | names, difference | names]  # of one task
    assert (score["quantity"], difference["quantity"], score["runs"]) == ("score", "difference", 3)
    each = [np.mean(likely < 0.5 + shift) for shift in (0.1, 0.12, -0.1)]
    assert score["mean"] == pytest.approx(np.mean(each))
    assert score["between_seeds"] == difference["between_seeds"] == pytest.approx(np.std(each, ddof=1))
    assert difference["mean"] == pytest.approx(np.mean(each) - np.mean(likely < 0.5))
    assert difference["item_error"] < score["item_error"]  # paired
    assert difference["ci_low"] < difference["mean"] < difference["ci_high"]


def test_made_up_demo_is_consistent(experiment: SimpleNamespace) -> None:
    """scores.csv and comparisons.csv agree on each run's comparison with the base model."""
    compared = {
        (row["run"], row["task"], row["metric"]): row
        for row in read_comparisons(experiment.root / "comparisons.csv")
        if row["reference"] == "base"
    }
    rows = [row for row in experiment.scores if row["tokens"] and row["metric"] != "bits_per_byte"]
    assert len(rows) == len(compared) == 2 * 12
    for row in rows:
        other = compared[row["run"], row["task"], row["metric"]]
        for ours, theirs in (
            ("difference", "difference"),
            ("mcnemar_p", "p"),
            ("mcnemar_p_holm", "p_holm"),
            ("difference_ci_low", "ci_low"),
            ("difference_ci_high", "ci_high"),
            ("gained", "gained"),
            ("detectable_difference", "detectable_difference"),
        ):
            assert row[ours] == other[theirs], (row["task"], ours)
