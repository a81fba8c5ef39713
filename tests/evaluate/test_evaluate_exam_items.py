"""The exam's items: balance of wrong answers, checks with a model, the files, and the same bytes again."""

import json
import logging
from collections import Counter

import lm_eval
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from exam_documents import DOCUMENTS
from lm_eval.tasks import TaskManager

import exam_candidates as candidates_stage
import exam_overlap as overlap_stage
import make_exam as exam_stage
from cpt.config_evaluate import Scoring
from cpt.config_exam import DIFFERENCE, DISCORDANT, Exam, items_needed
from cpt.config_sections import HeldOut
from cpt.corpus.documents import FILTERED_SCHEMA
from cpt.errors import UserError
from cpt.evaluate.exam import (
    apart_from_training,
    facts_of,
    notice_nulls,
    read_candidates,
    require_enough,
    rows_of,
    score,
    take,
)
from cpt.evaluate.exam_candidates import Candidate, corpus_digest, held_out_documents
from cpt.evaluate.exam_choices import NULLS, choose, credit, null_scores
from cpt.evaluate.scorer import Scorer
from cpt.files import read_json
from cpt.report.statistics import detectable_difference

SETTINGS = Scoring(seed=0, batch_tokens=256, precision="float32", add_bos_token=False)


def candidate(number=0, pool=("Rome", "Oslo", "Bern", "Kyiv", "Baku"), counts=None, **more):
    fields = {
        "kind": "entity",
        "document": f"d{number}",
        "url": None,
        "space": " ",
        "after": f" in {number}.",
    }
    fields |= {"before": f"Lake {number} lies near", "passage": f"Lake {number} lies near {pool[0]}."} | more
    return Candidate(pool=list(pool), counts=counts or [1] * len(pool), **fields)


class Oracle:
    """Log-likelihoods from a function of context and continuation."""

    def __init__(self, value):
        self.value, self.label = value, ""

    def loglikelihood(self, requests):
        return [(self.value(*request.args), False) for request in requests]


# --------------------------------------------------------------------------------------- balance
def test_nulls_are_credited_and_guess_between_equals():
    one = candidate(pool=("Lake", "Rome", "Venice", "Po"), counts=[5, 1, 1, 5])
    scores = null_scores(one, [-1.0, -2.0, -3.0, -3.0])
    credited = dict(zip(NULLS, credit(scores).tolist(), strict=True))
    assert credited == {
        "longest": 0,
        "shortest": 0,
        "most_frequent": 0.5,
        "rarest": 0,
        "likeliest": 1,
        "unlikeliest": 0,
        "most_overlapping": 1,
    }


def test_wrong_answers_bring_every_null_to_chance():
    """Right answers are frequent and likely: with any three wrong answers, nulls would find too many."""
    rng = np.random.default_rng(0)
    candidates, values = [], []
    for number in range(200):
        lengths = [int(rng.integers(4, 12)), *rng.integers(2, 14, 8).tolist()]
        pool = [f"{chr(97 + place)}" * length for place, length in enumerate(lengths)]
        candidates.append(
            candidate(number, pool, [int(rng.integers(4, 11)), *rng.integers(1, 12, 8).tolist()])
        )
        values.append([float(rng.normal(0.6)), *rng.normal(0, 1, 8).tolist()])
    chosen = choose(candidates, values)
    for count in (20, 50, 200):  # any beginning of the exam
        hits = [
            credit(null_scores(each, value)[:, [0, *places]])
            for each, value, places in zip(candidates[:count], values, chosen, strict=False)
        ]
        assert np.abs(np.mean(hits, 0) - 0.25).max() <= 2 / count + 0.01
    first = [credit(null_scores(each, value)[:, :4]) for each, value in zip(candidates, values, strict=True)]
    assert np.abs(np.mean(first, 0) - 0.25).max() > 0.08
    assert choose(candidates[:50], values[:50]) == chosen[:50]


def test_the_right_answer_is_in_every_place_equally_often():
    items, _ = take(Oracle(lambda context, text: float("Rome" in context and "Rome" in text)), MANY, 40)
    rows = rows_of(items)
    assert Counter(row["gold"] for row in rows) == {0: 10, 1: 10, 2: 10, 3: 10}
    for row, item in zip(rows, items, strict=True):
        assert row["choices"][row["gold"]] == "Rome" and sorted(row["choices"]) == sorted(item.answers)
        assert row["fillings"] == [f" {choice}{row['after']}" for choice in row["choices"]]
        assert row["open_book"] == f"{item.candidate.passage}\n\n{row['question']}"


# ----------------------------------------------------------------------------- checks with a model
MANY = [candidate(number) for number in range(60)]


def test_items_whose_document_does_not_help_are_dropped():
    """Every third passage draws the model to a wrong answer; whether it was right before doesn't matter."""

    def value(context, text):
        number = int(context.split("Lake ")[-1].split()[0]) if context else 0
        if "Rome" not in context:  # without the passage
            return -float(number % 2) if "Rome" in text else -0.5
        return -3.0 if ("Rome" in text) == (number % 3 == 0) else -1.0

    items, dropped = take(Oracle(value), MANY, 30)
    assert len(items) == 30 and {int(item.candidate.document[1:]) % 3 for item in items} == {1, 2}
    assert {int(item.candidate.document[1:]) % 3 for item in dropped} == {0}
    facts = facts_of(items, dropped)
    assert facts["base"]["without_document"]["acc"]["score"] == 0.5
    assert facts["base"]["with_document"]["acc"]["score"] == 1
    assert facts["base"]["without_document_before_check"]["acc"]["score"] == pytest.approx(0.5, abs=0.05)
    assert facts["n"] == facts["documents"] == facts["groups"] == 30 and facts["kinds"] == {"entity": 30}
    assert facts["nulls"]["most_frequent"]["score"] == 0.25  # all are equally frequent


def test_scores_are_those_of_lm_eval():
    likelihood = np.array([[-2.0, -3.0, -9.0, -9.0], [-2.0, -1.0, -9.0, -9.0]])
    scores = score(likelihood, [[" aaaa", " aaaaaaaaa", " a", " a"]] * 2)
    assert scores["acc"]["score"] == 0.5 and scores["acc_norm"]["score"] == 0
    assert scores["acc"]["low"] == pytest.approx(0.0945, abs=1e-4)  # Wilson, 1 of 2


def test_questions_in_training_text_are_refused():
    refused = Counter()
    overlap = np.array([[20, 0, 9], [0, 0, 1]])
    assert apart_from_training(MANY[:3], overlap, refused) == MANY[:1]
    assert refused == {
        "fewer than 13 words to look for in training text": 1,
        "13 words in a row are in training text": 1,
    }
    with pytest.raises(UserError, match=r"overlap of an exam: \[2, 3\] numbers don't fit 2 candidates"):
        apart_from_training(MANY[:2], overlap, refused)


def test_too_few_items_are_reported_with_what_to_do(caplog):
    refused = Counter({"too little text before the blank": 7, "fewer": 9})
    require_enough(5, Exam(items=5), "handbook", 12, refused)
    with pytest.raises(UserError) as error:
        require_enough(4, Exam(items=5), "handbook", 12, refused)
    assert "evaluate.exam.items: 4 of 5 items could be made from 12 held-out documents of handbook" in str(
        error.value
    )
    assert "9 questions: fewer; 7 questions: too little text before the blank" in str(error.value)
    assert "set items: 4, or hold out more of it with corpora.handbook.held_out_share" in str(error.value)
    with pytest.raises(UserError, match=r"evaluate\.exam: 0 of 626 items could be made .*; hold out more"):
        require_enough(0, Exam(), "handbook", 12, refused)
    with caplog.at_level(logging.INFO):
        require_enough(4, Exam(), "handbook", 12, refused)
    assert "4 of 626 items could be made" in caplog.text and "smaller changes to be found" in caplog.text


def test_a_null_that_finds_too_many_is_reported(caplog):
    """Right answers that are longer than all others can't be balanced."""
    candidates = [candidate(number, ("Constantinople", "Oslo", "Bern", "Rome")) for number in range(40)]
    items, dropped = take(
        Oracle(lambda context, text: float("Con" in text and "Con" in context)), candidates, 30
    )
    with caplog.at_level(logging.INFO):
        notice_nulls(facts_of(items, dropped))
    assert "the answer that is longest is right in 100 % of the exam's items" in caplog.text
    assert "rarest" not in caplog.text


def test_the_usual_size_finds_five_points():
    n = items_needed(DIFFERENCE, DISCORDANT)
    assert n == Exam().wanted == 626 and Exam(items="1K").wanted == 1_000
    assert detectable_difference(DISCORDANT, n) <= DIFFERENCE < detectable_difference(DISCORDANT, n - 2)


# ------------------------------------------------------------------------------------------ files
def test_damaged_files_are_named(tmp_path):
    (tmp_path / "candidates.jsonl").write_text('{"kind": "entity"}\n')
    with pytest.raises(UserError, match=r"candidates\.jsonl: not the candidates of an exam"):
        read_candidates(tmp_path / "candidates.jsonl")
    (tmp_path / "held_out.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"held_out\.parquet: no held-out documents"):
        held_out_documents(tmp_path / "held_out.parquet")


COPIED = "\n".join(document["text"] for document in DOCUMENTS[:10])  # occurs in training text too


def run_stages(folder, model_folder, documents, items=6):
    """All three stages on documents, in `folder`."""
    held_out, training = folder / "held_out.parquet", folder / "00000.parquet"
    pq.write_table(pa.Table.from_pylist(documents), held_out)
    copied = {"row": 0, "id": "t", "url": "t", "text": COPIED, "bytes": 1, "digest": b"0" * 16}
    pq.write_table(pa.Table.from_pylist([copied], FILTERED_SCHEMA), training)
    np.save(folder / "00000.keep.npy", np.array([True]))
    files = {"candidates": folder / "candidates.jsonl", "manifest": folder / "candidates.json"}
    exam = Exam(items=items)
    candidates_stage.exam_candidates(held_out, "handbook", exam, folder / "written.jsonl", **files)
    split = {"handbook": HeldOut(share=0.0, group_by="url", drop_overlap=None)}
    overlap = folder / "overlap.npy"
    overlap_stage.exam_overlap(
        {"handbook": 1}, [training], [folder / "00000.keep.npy"], split, files["candidates"], overlap
    )
    outputs = {"questions": "exam.jsonl", "task": "exam.yaml", "open_book": "exam_open_book.yaml"}
    outputs = {name: folder / file for name, file in outputs.items()} | {"report": folder / "exam.json"}
    exam_stage.make_exam(
        **files,
        overlap=overlap,
        model=model_folder,
        exam=exam,
        settings=SETTINGS,
        answers=folder / ".answers",
        **outputs,
        device="cpu",
    )


@pytest.fixture(scope="module")
def exam(tmp_path_factory, model_folder):
    folder = tmp_path_factory.mktemp("exam")
    run_stages(folder, model_folder, DOCUMENTS)
    return folder


def test_the_exam_is_an_lm_eval_task_on_disk(exam, monkeypatch):
    """lm-eval alone loads it and asks its questions."""
    # It would wait for the network: for `pip list`, and for the tokenizer that it describes.
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)
    monkeypatch.setattr("lm_eval.evaluator.add_tokenizer_info", lambda results, model: None)
    manager = TaskManager(include_defaults=False, include_path=str(exam))
    tasks = manager.load(["exam", "exam_open_book"])["tasks"]
    rows = [json.loads(line) for line in (exam / "exam.jsonl").open()]
    for name, field in (("exam", "question"), ("exam_open_book", "open_book")):
        task = tasks[name]
        docs = list(task.eval_docs)
        assert [task.doc_to_text(doc) for doc in docs] == [row[field] for row in rows]
        assert [task.doc_to_target(doc) for doc in docs] == [row["gold"] for row in rows]
        assert [task.doc_to_choice(doc) for doc in docs] == [row["fillings"] for row in rows]
        assert task.config.metadata["version"] == corpus_digest(DOCUMENTS)[:12]
    results = lm_eval.simple_evaluate(
        model="dummy", tasks=["exam"], task_manager=manager, bootstrap_iters=0, limit=3
    )
    assert set(results["results"]["exam"]) >= {"acc,none", "acc_norm,none"}


def test_the_report_says_what_the_exam_is(exam):
    facts = read_json(exam / "exam.json")
    rows = [json.loads(line) for line in (exam / "exam.jsonl").open()]
    assert facts["n"] == 6 and facts["corpus"] == "handbook" and facts["writer"] is None
    assert facts["corpus_sha256"] == corpus_digest(DOCUMENTS)
    assert set(facts["nulls"]) == set(NULLS) and facts["chance"] == 0.25
    assert facts["refused"]["13 words in a row are in training text"] > 0
    assert {row["document"] for row in rows}.isdisjoint(each["id"] for each in DOCUMENTS[:10])
    questions = [row["question"] + row["after"] for row in rows]
    assert len(set(questions)) == 6 and all(len(set(row["choices"])) == 4 for row in rows)


def test_the_same_bytes_again_on_more_threads(exam, tmp_path, model_folder):
    torch.set_num_threads(2)
    run_stages(tmp_path, model_folder, DOCUMENTS)
    for name in ("candidates.jsonl", "exam.jsonl"):
        assert (tmp_path / name).read_bytes() == (exam / name).read_bytes()
    facts, former = read_json(tmp_path / "exam.json"), read_json(exam / "exam.json")
    assert {**facts, "provenance": 0} == {**former, "provenance": 0}


def test_a_job_that_begins_again_asks_the_model_nothing_twice(exam, model_folder, monkeypatch):
    former = (exam / "exam.jsonl").read_bytes()
    (exam / "exam.jsonl").unlink()
    monkeypatch.setattr(Scorer, "_score", None)
    run_stages(exam, model_folder, DOCUMENTS)
    assert (exam / "exam.jsonl").read_bytes() == former


def test_another_corpus_is_another_version(exam, tmp_path, model_folder):
    run_stages(tmp_path, model_folder, DOCUMENTS[:-1], items=2)
    assert (
        read_json(tmp_path / "exam.json")["corpus_sha256"] != read_json(exam / "exam.json")["corpus_sha256"]
    )
