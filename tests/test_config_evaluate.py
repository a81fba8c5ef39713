"""The section `evaluate`: columns, jobs, what must be fetched, and the exam."""

import pytest
from test_config import load, merged, problem

from cpt.config_evaluate import benchmarks_hold


def evaluate(**keys):
    return load(merged({"evaluate": keys})).evaluate


def test_a_column_has_the_task_and_the_label_of_its_name():
    tasks = evaluate(tasks={"sciq": {}, "mmlu5": {"task": "mmlu", "shots": 5}}).tasks
    assert (tasks["sciq"].task, tasks["sciq"].label, tasks["sciq"].metric) == ("sciq", "sciq", None)
    assert (tasks["mmlu5"].task, tasks["mmlu5"].label, tasks["mmlu5"].shots) == ("mmlu", "mmlu5", 5)
    assert (tasks["mmlu"].task, tasks["mmlu"].label) == ("mmlu", "MMLU")


def test_further_tasks_and_the_exam_change_no_job_of_the_seven_test_sets():
    jobs = evaluate().jobs
    later = evaluate(tasks={"sciq": {}, "arc_easy5": {"task": "arc_easy", "shots": 5}}, exam={"items": 300})
    assert later.jobs == [*jobs, ["sciq", "arc_easy5"], ["exam"]]


def test_what_must_be_fetched_is_what_the_seven_test_sets_lack():
    tasks = {"sciq": {}, "sciq5": {"task": "sciq", "shots": 5}, "mmlu5": {"task": "mmlu", "shots": 5}}
    tasks |= {"piqa5": {"task": "piqa", "shots": 5}, "piqa0": {"task": "piqa", "shots": 0}}
    further = evaluate(tasks=tasks, exam={}).further_tasks
    assert {task: list(columns) for task, columns in further.items()} == {
        "sciq": ["sciq", "sciq5"],
        "piqa": ["piqa5"],
    }
    assert benchmarks_hold("mmlu_continuation", 3) and not benchmarks_hold("hellaswag", 1)


def test_the_exam_is_a_column_that_tasks_may_describe():
    assert "exam" not in evaluate().tasks
    assert evaluate(exam={}).tasks["exam"].label == "Exam"
    settings = evaluate(exam={"items": 300}, tasks={"exam": {"label": "Our exam", "in_table": False}})
    assert (settings.tasks["exam"].label, settings.tasks["exam"].in_table) == ("Our exam", False)
    assert settings.exam_columns == ["exam"] and settings.further_tasks == {}


def test_the_exams_corpus_must_be_there_and_is_prepared():
    assert "evaluate.exam.corpus: there is no 'nothere'" in problem(
        {"evaluate": {"exam": {"corpus": "nothere"}}}
    )
    extra = {"corpora": {"extra": {"source": "local", "files": ["x/*.txt"], "shards": 1}}}
    assert "extra" not in load(merged(extra)).used_corpora
    assert "extra" in load(merged(extra, {"evaluate": {"exam": {"corpus": "extra"}}})).used_corpora


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tasks": {"x": {"shots": -1}}}, "evaluate.tasks.x.shots: "),
        ({"tasks": {"x": {"tasks": "mmlu"}}}, "evaluate.tasks.x.tasks: "),
        ({"revisions": {"allenai/sciq": "main"}}, "evaluate.revisions.allenai/sciq: "),
        (
            {"tasks": {"mmlu": {"metric": "acc_norm"}}},
            "tasks.mmlu.metric: lm-eval measures no acc_norm of mmlu",
        ),
        ({"tasks": {"x": {"task": "a/b"}}}, "evaluate.tasks.x.task: "),
    ],
)
def test_bad_values_name_their_key(keys, message):
    assert message in problem({"evaluate": keys})
