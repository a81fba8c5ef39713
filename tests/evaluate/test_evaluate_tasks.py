"""Tasks: which items, lm-eval's definitions on local data, resuming, and the two output files."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from miniature_wheel import COUNTS

from cpt.errors import UserError
from cpt.evaluate.scorer import Scorer
from cpt.evaluate.tasks import DEFINITIONS, benchmark_items, choose_items, evaluate_task
from evaluate_tasks import main

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate_tasks.py"
SETTINGS = {"items": None, "seed": 0, "batch_tokens": 256, "precision": "float32", "add_bos_token": False}


class Oracle(Scorer):
    """Answers from a table {(end of context, continuation): log-likelihood}, -5 for anything else."""

    def __init__(self, loaded, table=None, stop_after=None):
        super().__init__(*loaded, 4, False, "oracle")
        self.table, self.stop_after, self.asked = table or {}, stop_after, []

    def _loglikelihood_tokens(self, requests, disable_tqdm=True):
        answers = []
        for (context, continuation), _, _ in requests:
            if self.stop_after is not None and len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append((context, continuation))
            value = next(
                (v for (end, c), v in self.table.items() if context.endswith(end) and c == continuation), -5.0
            )
            answers.append((value, False))
            self.cache_hook.add_partial("loglikelihood", (context, continuation), answers[-1])
        return answers


def test_a_subset_is_fixed_and_lies_inside_a_larger_one(benchmarks):
    whole, full = choose_items(benchmarks, "mmlu", None, 0)
    assert (whole, full) == ({"mmlu_anatomy": [0, 1, 2], "mmlu_virology": [0, 1]}, 5)
    assert choose_items(benchmarks, "mmlu", 99, 0) == (whole, 5)

    def flat(n, seed):
        return {
            (leaf, i) for leaf, rows in choose_items(benchmarks, "mmlu", n, seed)[0].items() for i in rows
        }

    for n in range(1, 5):
        assert len(flat(n, 0)) == n and flat(n, 0) < flat(n + 1, 0)
    assert len({frozenset(flat(2, seed)) for seed in range(20)}) > 3
    assert choose_items(benchmarks, "arc_easy", 2, 0)[0].keys() == {"arc_easy"}


def test_a_folder_without_the_task_is_told(benchmarks):
    with pytest.raises(UserError, match=r"items\.parquet: no items of triviaqa"):
        choose_items(benchmarks, "triviaqa", None, 0)


@pytest.mark.parametrize("task", DEFINITIONS)
def test_every_task_runs_on_the_local_data(loaded, benchmarks, tmp_path, task):
    result, samples = evaluate_task(
        Scorer(*loaded, 4, False, task), benchmarks, task, None, 0, tmp_path / "a"
    )
    assert result["n"] == result["items_of_full"] == len(samples) == COUNTS[task]
    assert samples == sorted(samples, key=lambda sample: (sample["task"], sample["item"]))
    assert result["metrics"]["acc"] == sum(sample["acc"] for sample in samples) / len(samples)
    normalised = task in ("arc_easy", "arc_challenge", "hellaswag", "piqa")
    assert ("acc_norm" in result["metrics"]) == normalised
    for sample in samples:
        scores, sizes = sample["loglikelihoods"], sample["choice_characters"]
        assert sample["predicted"] == scores.index(max(scores))
        assert sample["acc"] == (sample["predicted"] == sample["gold"])
        if normalised:
            per_character = [score / size for score, size in zip(scores, sizes, strict=True)]
            best = per_character.index(max(per_character))
            assert sample["acc_norm"] == (best == sample["gold"])


def test_gold_answers_are_the_data_sets(loaded, benchmarks, tmp_path):
    expected = {
        "mmlu": [0, 1, 2, 0, 1],
        "arc_easy": [0, 1, 2],
        "winogrande": [1, 0],
        "hellaswag": [0, 1, 2],
        "boolq": [1, 0],  # of no, yes
        "piqa": [0, 1],
    }
    for task, gold in expected.items():
        _, samples = evaluate_task(Oracle(loaded), benchmarks, task, None, 0, tmp_path / task)
        assert [sample["gold"] for sample in samples] == gold, task


def test_scores_are_pooled_over_items_and_normalised_by_characters(loaded, benchmarks, tmp_path):
    table = {
        (
            "Which anatomy 0?\nA. anatomy 0 w\nB. anatomy 0 x\nC. anatomy 0 y\nD. anatomy 0 z\nAnswer:",
            " A",
        ): -1.0,
        ("D. anatomy 1 z\nAnswer:", " C"): -1.0,
        ("D. virology 1 z\nAnswer:", " B"): -1.0,
    }
    result, _ = evaluate_task(Oracle(loaded, table), benchmarks, "mmlu", None, 0, tmp_path / "mmlu")
    # Anatomy: item 0 right, 1 and 2 wrong (ties go to A). Virology: 0 right by a tie, 1 right.
    assert result["metrics"]["acc"] == 3 / 5
    assert result["metrics"]["acc_stderr"] == pytest.approx((0.6 * 0.4 / 4) ** 0.5)
    assert result["per_subject"] == {
        "anatomy": {"n": 3, "acc": 1 / 3},
        "virology": {"n": 2, "acc": 1.0},
    }
    # PIQA, item 0: 12 against 26 characters; the long one is less likely, but likelier by character.
    table = {("Answer:", " turn the lid"): -4.0, ("Answer:", " turn the table upside down"): -6.0}
    _, (sample, _) = evaluate_task(Oracle(loaded, table), benchmarks, "piqa", None, 0, tmp_path / "piqa")
    assert sample["choice_characters"] == [12, 26]
    assert (sample["acc"], sample["acc_norm"]) == (1, 0)


def test_a_killed_evaluation_asks_only_for_the_rest(loaded, benchmarks, tmp_path):
    whole = evaluate_task(Oracle(loaded), benchmarks, "hellaswag", None, 0, tmp_path / "whole")
    killed = Oracle(loaded, stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        evaluate_task(killed, benchmarks, "hellaswag", None, 0, tmp_path / "answers")
    second = Oracle(loaded)
    assert evaluate_task(second, benchmarks, "hellaswag", None, 0, tmp_path / "answers") == whole
    assert len(killed.asked) == 5 and len(second.asked) == 7
    assert set(killed.asked).isdisjoint(second.asked)


def test_script_repeats_itself_to_the_byte_and_leaves_nothing_else(tmp_path, model_folder, benchmarks):
    settings = {**SETTINGS, "items": 4}
    one, two = tmp_path / "one", tmp_path / "two"
    command = [sys.executable, SCRIPT, "--model", model_folder, "--benchmarks", benchmarks, "--task", "mmlu"]
    command += ["--settings", json.dumps(settings), "--threads", "1", "--log-file", tmp_path / "log"]
    command += ["--output", one / "mmlu.json", "--samples", one / "mmlu.samples.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    main(
        argparse.Namespace(
            **{"model": model_folder, "benchmarks": benchmarks, "task": "mmlu", "settings": settings},
            **{"threads": 1, "code": "unknown", "output": two / "mmlu.json"},
            samples=two / "mmlu.samples.jsonl",
        )
    )
    assert sorted(path.name for path in one.iterdir()) == ["mmlu.json", "mmlu.samples.jsonl"]
    results = [json.loads((folder / "mmlu.json").read_text()) for folder in (one, two)]
    for result in results:
        assert result.pop("provenance")["seeds"] == {"items": 0}
    assert results[0] == results[1]
    lines = (one / "mmlu.samples.jsonl").read_bytes()
    assert lines == (two / "mmlu.samples.jsonl").read_bytes()
    assert len(lines.splitlines()) == result["n"] == 4
    assert result["items_of_full"] == 5 and result["lm_eval"] and result["task_versions"]
    assert len(result["model_sha256"]) == 64
