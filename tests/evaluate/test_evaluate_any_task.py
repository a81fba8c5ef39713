"""Tasks of lm-eval: prompts, answers and scores equal those of lm-eval's own model class."""

from collections import Counter

import any_task
import pytest
import task_table
from any_task import COLUMNS, DAILY, READERS, READERS_DAILY, REFUSED

from cpt.data_sets import BY_TASK
from cpt.report.samples import pair, read_answers

CASES = [
    pytest.param(
        kind,
        column,
        id=f"{kind}-{column.name}",
        marks=() if column in READERS_DAILY[kind][1] else pytest.mark.experiments,
    )
    for kind, (_, columns) in READERS.items()
    for column in columns
]

SUBSETS = any_task.columns("arc_challenge:5 gsm8k:2 belebele_deu_Latn:2 mmlu_stem")


@pytest.fixture(scope="module")
def readers(pytestconfig) -> any_task.Readers:
    """Kinds of readers with their columns: all, or one of each kind."""
    return READERS if pytestconfig.getoption("--experiments") else READERS_DAILY


@pytest.fixture(scope="module")
def compared(task_hub, proof, readers):
    """{kind of reader: (the workflow's results, lm-eval's results)}, by column."""
    return task_table.compare(task_hub, proof, readers)


@pytest.fixture(scope="module")
def refused(task_hub, proof):
    """The runs of the tasks of REFUSED, and the requests that reached the hub."""
    count = len(task_hub.asked)
    return task_table.refuse(task_hub, proof), task_hub.asked[count:]


@pytest.mark.parametrize(("kind", "column"), CASES)
def test_agrees_with_lm_evals_own_model_class(compared, kind, column):
    ours, other = (each[column.name] for each in compared[kind])
    assert not ours.error
    assert any_task.differences(column, ours, other) == []


def test_tasks_are_many_and_of_all_types_of_output(compared):
    assert set(DAILY) < set(COLUMNS) and len({column.task for column in COLUMNS}) > 60
    runs = compared["no BOS"][0].values()
    kinds = Counter(run.result["output_type"] for run in runs)
    assert len(runs) > 30 and len(kinds) == 4 and min(kinds.values()) >= 3
    assert {len(run.result["benchmark_sha256"]) for run in runs} == {64}
    aggregations = {name for run in runs for name in run.result["aggregations"].values()}
    assert {"mean", "perplexity", "weighted_perplexity", "bits_per_byte", "bleu"} <= aggregations
    # Not all right or all wrong: equal scores would prove little.
    scores = [[run.result["metrics"][name] for name in run.result["aggregations"]] for run in runs]
    assert sum(any(0 < score < 1 for score in some) for some in scores) > len(runs) / 3


def test_a_difference_would_be_seen(compared):
    runs, other = compared["no BOS"]
    column = COLUMNS[0]
    run = runs[column.name]
    moved = {key: (value + 2e-4, greedy) for key, (value, greedy) in run.answers.items()}
    assert len(any_task.differences(column, run._replace(answers=moved), other[column.name])) == len(moved)
    hashes = [{**sample, "prompt_hash": "0"} for sample in run.samples]
    messages = any_task.differences(column, run._replace(samples=hashes[1:]), other[column.name])
    assert [words for words in messages if "in one of the two only" in words]
    assert sum("prompt_hash differs" in words for words in messages) == len(hashes) - 1
    result = {
        **run.result,
        "metrics": {"acc": 2.0, "acc_norm": 2.0, "acc_stderr": 2.0, "acc_norm_stderr": 2.0},
    }
    assert len(any_task.differences(column, run._replace(result=result), other[column.name])) == 4


@pytest.mark.parametrize("column", SUBSETS, ids=[column.name for column in SUBSETS])
def test_a_subset_has_the_prompts_and_answers_of_the_whole(task_hub, proof, compared, column):
    whole = {(s["task"], s["item"]): s for s in compared["no BOS"][0][column.name].samples}
    part = any_task.ours(task_hub, proof, READERS["no BOS"][0], [column], items=4)[column.name]
    assert len(part.samples) == 4 and part.result["items_of_full"] == len(whole)
    for sample in part.samples:
        same = whole[sample["task"], sample["item"]]
        computed = {key: same[key] for key in ("loglikelihoods", "bits_per_byte") if key in same}
        assert sample == same | {key: pytest.approx(value, abs=1e-4) for key, value in computed.items()}


GROUPS = {  # with an inner group whose own weights lm-eval ignores
    "unequal": "[blimp_adjunct_island, {group: passives, task: [blimp_passive_1, blimp_passive_2],"
    " aggregate_metric_list: [{metric: acc, weight_by_size: true}]}, blimp_causative]",
    "equal": "[blimp_adjunct_island, blimp_wh_island]",
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups_that_average_their_tasks_whatever_their_size(task_hub, proof, tmp_path, name):
    weights = "aggregate_metric_list: [{metric: acc, weight_by_size: false}]"
    (tmp_path / "group.yaml").write_text(f"group: {name}\ntask: {GROUPS[name]}\n{weights}\n")
    reader, column = READERS["no BOS"][0], any_task.Column(name)
    with task_hub.online():
        other = any_task.theirs(any_task.lm_evals_own(proof, reader), [column], tmp_path)[name]
    run = any_task.ours(task_hub, proof, reader, [column], own=tmp_path)[name]
    assert not run.error and any_task.differences(column, run, other) == []
    scored = proof / "scores" / reader.name / "None" / f"{name}.samples.jsonl"
    answers = read_answers(scored, run.result)  # the report's
    measure, tested = answers.measures["acc"], pair(answers, answers, "acc")
    metrics, sizes = run.result["metrics"], Counter(sample["task"] for sample in run.samples)
    if name == "equal":
        assert set(sizes.values()) == {10} and measure.aggregation == "mean"
        assert measure.values.mean() == pytest.approx(metrics["acc"]) and len(tested) == 2
    else:  # a value's weight follows from its task's size
        assert len(set(sizes.values())) > 1 and measure.aggregation == BY_TASK
        by_item = sum(sample["acc"] for sample in run.samples) / len(run.samples)
        assert metrics["acc"] != pytest.approx(by_item)
        assert tested.run_score == pytest.approx(metrics["acc"]) and tested.difference == 0
        assert metrics["acc_stderr"] == pytest.approx(other["results"][name]["acc_stderr,none"])


def test_what_does_not_fit_into_the_context_is_counted(compared):
    ours = compared["BOS first, short context"][0]
    assert ours["truthfulqa_mc2"].result["cut"]["tokens"] > 100
    assert ours["gsm8k-1"].result["cut"]["items"] == 8  # 256 new tokens leave room for 44
    assert ours["sciq"].result["cut"] == {"items": 0, "tokens": 0}


def test_what_cannot_be_run_is_refused_before_anything_is_fetched(refused):
    runs, requests = refused
    for task, reason in REFUSED.items():
        assert reason in runs[task].error and runs[task].result is None
    assert requests == []


def test_the_page_has_all_rows(compared, refused, readers):
    rows = task_table.tables(compared, refused[0], readers).splitlines()
    assert set(rows) <= set(task_table.PAGE.read_text().splitlines()), "run tests/evaluate/task_table.py"


@pytest.mark.experiments
def test_the_page_lists_what_was_run(compared, refused):
    tables = task_table.tables(compared, refused[0])
    assert tables in task_table.PAGE.read_text(), "run tests/evaluate/task_table.py"
