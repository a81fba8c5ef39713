"""The gate: a base model that misses its published scores stops the workflow, with the likely cause."""

import json
from pathlib import Path

import pytest

from check_base import check_base
from cpt.config_sections import HubModel, LocalModel
from cpt.errors import UserError
from cpt.evaluate.tasks import DEFINITIONS
from cpt.expected_scores import expected_model, read_expected, tasks_of

FILE = Path(__file__).parents[2] / "paper" / "expected_scores.csv"
MODEL = "facebook/MobileLLM-125M"
CHANCE = {"winogrande": 0.5, "boolq": 0.5, "piqa": 0.5}
FULL = {
    "arc_easy": 2376,
    "arc_challenge": 1172,
    "winogrande": 1267,
    "hellaswag": 10042,
    "boolq": 3270,
    "piqa": 1838,
}


def check(folder, scores, n=None, model=MODEL):
    """Run the stage on these scores of the base model."""
    for task, score in scores.items():
        full = FULL[task]
        metrics = score if isinstance(score, dict) else {"acc": score}
        result = {"n": n or full, "items_of_full": full, "metrics": metrics}
        result |= {"chance": CHANCE.get(task, 0.25), "settings": {"add_bos_token": False}}
        (folder / f"{task}.json").write_text(json.dumps(result))
    report, comparison = folder / "base.json", folder / "out.json"
    report.write_text(json.dumps({"repairs": ["tokenizer: <s>"]}))
    check_base([folder / f"{task}.json" for task in scores], list(scores), FILE, report, model, comparison)
    return json.loads(comparison.read_text())["scores"]


PAPER = {  # the base row of the paper's Table 1
    **{"arc_challenge": 0.2432, "arc_easy": 0.4146, "winogrande": 0.5241, "hellaswag": 0.3816},
    **{"boolq": 0.6034, "piqa": 0.6513},
}


def test_the_papers_own_base_model_passes(tmp_path):
    rows = check(tmp_path, PAPER)
    assert len(rows) == 6 and all(row["reached"] for row in rows)
    assert {row["tasks"]: row["least"] for row in rows}["piqa"] == pytest.approx(0.653 - 0.03)


def test_the_better_metric_counts(tmp_path):
    assert check(tmp_path, {**PAPER, "arc_easy": {"acc": 0.2, "acc_norm": 0.43}})[0]["metric"] == "acc_norm"


def test_a_broken_import_is_named(tmp_path):
    near_chance = {**dict.fromkeys(FULL, 0.26), "winogrande": 0.5, "boolq": 0.42, "piqa": 0.53}
    with pytest.raises(UserError, match=r"near chance, so weights are missing.*repaired: tokenizer: <s>"):
        check(tmp_path, near_chance)
    assert not (tmp_path / "out.json").exists()


def test_a_model_that_works_less_well_points_to_tokens(tmp_path):
    with pytest.raises(UserError, match=r"piqa 0\.600 \(acc\), published 0\.653.*add_bos_token: true"):
        check(tmp_path, {**PAPER, "piqa": 0.6})


def test_a_check_that_guessing_would_pass_says_so(tmp_path, caplog):
    check(tmp_path, PAPER)  # the model's published score is hardly above chance
    assert [record.getMessage().split()[0] for record in caplog.records] == ["arc_challenge"]
    check(tmp_path, PAPER, n=50)
    assert len(caplog.records) == 1 + 6
    assert (
        "piqa can't tell a broken model: guessing (0.500) reaches the least that is expected" in caplog.text
    )


def test_a_subset_is_given_its_sampling_error(tmp_path):
    # 50 items: three standard errors of 0.067. What is a miss on all items isn't one here.
    assert all(row["reached"] for row in check(tmp_path, {**PAPER, "piqa": 0.5}, n=50))


def hub(repo: str, **keys: str) -> HubModel:
    return HubModel(source="hub", repo=repo, revision="main", **keys)


def test_which_model_is_expected():
    assert expected_model(hub(MODEL), FILE) == MODEL
    assert expected_model(hub(MODEL, expected_scores="none"), FILE) == ""
    assert expected_model(hub("someone/else"), FILE) == ""
    with pytest.raises(
        UserError,
        match=r"base\.expected_scores: expected_scores\.csv has no x/y; .*; set one of these, or none",
    ):
        expected_model(LocalModel(source="local", path="p", expected_scores="x/y"), FILE)
    rows = read_expected(FILE)
    assert {task for row in rows for task in row.tasks} <= set(DEFINITIONS) and all(
        row.source for row in rows
    )
    assert tasks_of("HuggingFaceTB/SmolLM2-135M", FILE)[:2] == ["arc_easy", "arc_challenge"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "model,score\n",
            r"x\.csv: expected the columns model, tasks, score, tolerance, source; fix its header",
        ),
        ("{columns}\nm,piqa,high,0,s\n", r"x\.csv, line 2: score .* numbers, but are 'high' and '0'; fix"),
        ("{columns}\nm,piqa\n", r"x\.csv, line 2: score .* numbers, but are None and None; fix the line"),
        (
            "{columns}\nm,piqa,0.6,0,s\nm,arc_easy,43.2,2,s\n",
            r"line 3: .* shares of 1, but are 43\.2 and 2; fi",
        ),
    ],
)
def test_published_scores_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "x.csv").write_text(content.format(columns="model,tasks,score,tolerance,source"))
    with pytest.raises(UserError, match=message):
        expected_model(hub(MODEL), tmp_path / "x.csv")
