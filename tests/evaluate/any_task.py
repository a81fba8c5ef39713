"""Tasks of lm-eval, scored by the workflow and by lm-eval's own model class, and their comparison."""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lm_eval
import numpy as np
import pytest
import task_facts
import tiny_reader
from huggingface_hub import HfApi
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from task_hub import TaskHub
from transformers import PreTrainedTokenizerFast

import evaluate_tasks
import fetch_task
from cpt.config_evaluate import ScoredTask, Scoring, Task, benchmarks_hold
from cpt.data_sets import DATA_SETS
from cpt.errors import UserError
from cpt.evaluate import task_results
from cpt.evaluate.benchmarks import write_benchmarks
from cpt.evaluate.hub_benchmarks import HubSource
from cpt.evaluate.model import load_model
from cpt.evaluate.scorer import Scorer
from cpt.evaluate.task_checks import inspect_task
from cpt.evaluate.task_definitions import LM_EVAL_TASKS, folders_of
from cpt.files import read_json, write_json

NATS = 1e-4  # largest difference of a log-likelihood, or
ROUNDING = 2.0**-22  # its share of a large one: lm-eval's own class sums up in float32, which has 24 bits

Answers = dict[tuple[str, int, int], Any]  # of a model, by leaf task, item and number of the request


class Column(NamedTuple):
    """A task with a number of examples; None: as its definition says."""

    task: str
    shots: int | None = None

    @property
    def name(self) -> str:
        return self.task if self.shots is None else f"{self.task}-{self.shots}"


def columns(text: str) -> list[Column]:
    """Columns from words such as `sciq:5`, a task with its number of examples."""
    words = (word.partition(":") for word in text.split())
    return [Column(task, int(shots) if shots else None) for task, _, shots in words]


COLUMNS = columns("""
sciq sciq:5 openbookqa arc_easy:1 arc_challenge:5 winogrande:3 hellaswag:2 piqa:3 boolq:2 mmlu:5 mmlu_stem
truthfulqa_mc1 truthfulqa_mc2 cb copa rte:2 wic wnli multirc cola mrpc mathqa medmcqa medqa_4options:2
pubmedqa logiqa race swag social_iqa commonsense_qa:3 headqa_en blimp_adjunct_island agieval_lsat_ar toxigen
xnli_fr xcopa_it belebele_deu_Latn:2 global_mmlu_de_business cmmlu_anatomy:5 ceval-valid_law paws_de
qasper_bool webqs crows_pairs_english mutual wsc273 anli_r1 mc_taco prost ethics_cm gpqa_main_zeroshot
lambada_openai lambada_standard lambada_openai_mt_de lambada_openai_cloze_yaml arithmetic_2da asdiv
wikitext pile_10k c4 paloma_c4_en
gsm8k gsm8k:2 triviaqa:2 nq_open:3 drop bbh_zeroshot_boolean_expressions bbh_cot_fewshot_navigate
hendrycks_math_algebra eq_bench babi anagrams1 mgsm_direct_de:2 qasper_freeform truthfulqa_gen
mmlu_anatomy_generative wmt16-ro-en:1 squad_completion fda swde
""")
# One of each kind, for every commit: outputs, metrics, templates, groups, examples, filters of answers.
DAILY = columns("""
sciq sciq:5 arc_challenge:5 winogrande:3 mmlu_stem truthfulqa_mc2 cb multirc cola pubmedqa race
blimp_adjunct_island xnli_fr belebele_deu_Latn:2 cmmlu_anatomy:5 qasper_bool webqs crows_pairs_english mutual
wsc273 mc_taco lambada_openai lambada_openai_cloze_yaml arithmetic_2da wikitext pile_10k paloma_c4_en
gsm8k gsm8k:2 triviaqa:2 drop bbh_cot_fewshot_navigate eq_bench mgsm_direct_de:2 wmt16-ro-en:1
squad_completion
""")
REFUSED = {  # with what the message says
    "coqa": "transformers.data.metrics",
    "record": "transformers.data.metrics",
    "xquad_de": "transformers.data.metrics",
    "ifeval": "langdetect",
    "minerva_math_algebra": "antlr4",
    "humaneval": "unsafe_code",
    "mbpp": "unsafe_code",
    "niah_single_1": "wonderwords",
    "code2text_python": "num_beams",
    "squadv2": "code from the hub",
}


class Reader(NamedTuple):
    """A kind of tiny model: whether its tokenizer has a BOS, whether texts begin with it, and its context."""

    bos: bool = False
    add_bos_token: bool = False
    context: int = tiny_reader.CONTEXT

    @property
    def name(self) -> str:
        return f"bos-{self.bos}-{self.add_bos_token}-{self.context}"


Readers = dict[str, tuple[Reader, list[Column]]]
# Columns by the model that reads them. A model without BOS reads all; other models also read those where a
# BOS, an empty question, or a text longer than the context makes a difference.
READERS: Readers = {
    "no BOS": (Reader(), COLUMNS),
    "BOS first, short context": (
        Reader(bos=True, add_bos_token=True, context=300),
        columns(
            "sciq blimp_adjunct_island truthfulqa_mc2 lambada_openai wikitext c4 gsm8k:1 mgsm_direct_de:1"
        ),
    ),
    "BOS not first": (
        Reader(bos=True),
        columns("sciq:2 winogrande:1 blimp_adjunct_island xnli_fr wikitext qasper_freeform"),
    ),
}
READERS_DAILY: Readers = READERS | {"no BOS": (Reader(), DAILY)}


class Recorder(Scorer):
    """A Scorer that keeps its answers in `recorded`; each new Recorder empties it."""

    recorded: ClassVar[Answers] = {}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.recorded.clear()

    def record(self, requests: list[Any], answers: list[Any]) -> list[Any]:
        for request, answer in zip(requests, answers, strict=True):
            self.recorded[request.task_name, request.doc_id, request.idx] = answer
        return answers

    def loglikelihood(self, requests: list[Any], **options: Any) -> list[Any]:
        return self.record(requests, super().loglikelihood(requests, **options))

    def loglikelihood_rolling(self, requests: list[Any], **options: Any) -> list[Any]:
        return self.record(requests, super().loglikelihood_rolling(requests, **options))

    def generate_until(self, requests: list[Any], **options: Any) -> list[Any]:
        return self.record(requests, super().generate_until(requests, **options))


class Run(NamedTuple):
    """What the workflow's stages returned for a column, or the error that stopped them."""

    result: dict[str, Any] | None = None
    samples: list[dict[str, Any]] | None = None
    answers: Answers | None = None
    error: str = ""


def lm_evals_own(folder: Path, reader: Reader) -> HFLM:
    """lm-eval's own class on the model of a reader."""
    place = folder / "models" / reader.name
    model, _ = load_model(place, "float32", 1, "cpu")
    options = {"batch_size": 8, "add_bos_token": reader.add_bos_token, "device": "cpu"}
    return HFLM(pretrained=model, tokenizer=PreTrainedTokenizerFast.from_pretrained(place), **options)


def theirs(model: HFLM, columns: list[Column], own: Path | None = None) -> dict[str, dict[str, Any]]:
    """lm-eval's own results for each column, by name; lm-eval reads its data from the hub.

    `own` is a folder of further YAML files.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # An index of all of lm-eval's tasks takes ten seconds.
    folders = sorted({folder for column in columns for folder in folders_of(column.task, own)})
    places = [LM_EVAL_TASKS / folder for folder in folders] + ([own] if own else [])
    manager = TaskManager(include_defaults=False, include_path=places)
    # Without resamples lm-eval gives no standard errors, not even those of means.
    options = {"task_manager": manager, "bootstrap_iters": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISABLE_MULTIPROC", "1")
        # It would run a dozen programs to describe the machine each time; `pip list` waits for the network.
        patch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)
        return {
            column.name: lm_eval.simple_evaluate(
                model, tasks=[column.task], num_fewshot=column.shots, **options
            )
            for column in columns
        }


def ours(
    hub: TaskHub,
    folder: Path,
    reader: Reader,
    columns: list[Column],
    items: int | None = None,
    own: Path | None = None,
) -> dict[str, Run]:
    """Run the workflow's stages on columns: read definitions, fetch data at commits, score offline.

    `folder` holds the models, the benchmarks, and what earlier calls fetched. `items` is a subset's size,
    `own` a folder of further YAML files.
    """
    runs = {}
    for column in columns:
        try:
            _fetch(hub, folder, column, own)
            runs[column.name] = _score(folder, reader, column, items, own)
        except UserError as error:
            runs[column.name] = Run(error=str(error))
    return runs


def _fetch(hub: TaskHub, folder: Path, column: Column, own: Path | None) -> None:
    task = Task(task=column.task, shots=column.shots)
    facts = inspect_task(column.task, {column.name: task}, hub.revisions, own, False)
    fetched = folder / "tasks" / column.task
    manifest = fetched.with_name(f"{column.task}.json")
    if benchmarks_hold(column.task, column.shots) or manifest.exists():
        return
    commits = {name: hub.revisions[name] for name in facts["repositories"]}
    benchmarks = folder / "benchmarks" if facts["in_benchmarks"] else None
    with hub.online():
        shots = {column.name: column.shots}
        fetch_task.fetch_task(
            column.task, fetched, manifest, facts["folders"], shots, commits, benchmarks, own
        )


def _score(folder: Path, reader: Reader, column: Column, items: int | None, own: Path | None) -> Run:
    outputs = folder / "scores" / reader.name / str(items)
    scores, samples = outputs / f"{column.name}.json", outputs / f"{column.name}.samples.jsonl"
    add_bos = {"add_bos_token": reader.add_bos_token}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_tasks, "Scorer", Recorder)
        patch.setattr(task_results, "RESAMPLES", 10)  # for standard errors that aren't compared
        evaluate_tasks.evaluate_tasks(
            folder / "models" / reader.name,
            folder / "benchmarks",
            folder / "benchmarks.json",
            [scores],
            [samples],
            {column.name: ScoredTask(task=column.task, shots=column.shots, items=items)},
            Scoring(seed=0, batch_tokens=1024, precision="float32", **add_bos),
            outputs / "answers",
            fetched=folder / "tasks",
            include_path=own,
            device="cpu",
        )
    lines = samples.read_text().splitlines()
    return Run(read_json(scores), [json.loads(line) for line in lines], dict(Recorder.recorded))


def make_benchmarks(hub: TaskHub, folder: Path) -> None:
    """Write the folder of fetch_benchmarks and its manifest, with all items of the seven test sets."""
    counts = dict.fromkeys(DATA_SETS, len(task_facts.ENGLISH) // 2)
    counts["mmlu"] = 2 * len(task_facts.MMLU)
    with hub.online():
        source = HubSource(HfApi(endpoint=hub.url), hub.revisions, folder / "downloads")
        tasks = write_benchmarks(source, folder / "benchmarks", counts)
    write_json(folder / "benchmarks.json", {"tasks": tasks})


def differences(column: Column, run: Run, other: dict[str, Any]) -> list[str]:
    """The differences between a column's results and lm-eval's own (`other`), in words."""
    messages: list[str] = []
    ours = {(sample["task"], sample["item"]): sample for sample in run.samples}
    theirs: set[tuple[str, int]] = set()
    for leaf, records in other["samples"].items():
        several = len({record["filter"] for record in records}) > 1
        for record in records:
            item = (leaf, record["doc_id"])
            theirs.add(item)
            if item in ours:
                suffix = f",{record['filter']}" if several else ""
                different = _item(ours[item], record, run.answers, suffix)
                messages += [f"{leaf}, item {item[1]}: {words}" for words in different]
    if theirs != set(ours):
        messages.append(f"items {sorted(theirs ^ set(ours))[:5]} are in one of the two only")
    return [*messages, *_scores(column, run.result, other["results"].get(column.task, {}))]


def _item(sample: dict[str, Any], record: dict[str, Any], answers: Answers, suffix: str) -> Iterator[str]:
    for key in ("doc_hash", "prompt_hash", "target_hash"):
        if sample[key] != record[key]:
            yield f"{key} differs"
    for number, responses in enumerate(record["resps"]):
        answer = answers.get((sample["task"], sample["item"], number))
        if not _same(answer, responses[0]):
            yield f"answer {number} is {answer!r}, lm-eval's {responses[0]!r}"
    for metric in record["metrics"]:
        name = metric + suffix
        if not _same(sample.get(name), record[metric]):
            yield f"{name} is {sample.get(name)}, lm-eval's {record[metric]}"


def _scores(column: Column, result: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """Differences from lm-eval's scores of the task or group, and of a task's standard errors of means."""
    keys = [key for key in other if "," in key and "_stderr" not in key]
    several = len({key.partition(",")[2] for key in keys}) > 1
    for key in keys:
        name, scores = key if several else key.partition(",")[0], result["metrics"]
        pairs = {f"score {name}": (scores.get(name), other[key])}
        if result["aggregations"].get(name) == "mean" and "sample_count" not in other:
            error = other["{}_stderr,{}".format(*key.split(",", 1))]
            if error != "N/A":  # lm-eval gives none for numpy's mean
                pairs[f"standard error of {name}"] = (scores.get(f"{name}_stderr"), error)
        for words, (score, theirs) in pairs.items():
            if not math.isclose(score or 0, theirs, rel_tol=1e-5, abs_tol=1e-5):
                yield f"{words} is {score}, lm-eval's {theirs}"
    if not keys:
        yield f"lm-eval has no score of {column.task}"


def _same(ours: Any, other: Any) -> bool:
    """Whether two values are alike: numbers within NATS or ROUNDING, all else equal."""
    if isinstance(other, (np.ndarray, np.generic)):
        other = other.tolist()
    if isinstance(other, (list, tuple)):
        return isinstance(ours, (list, tuple)) and len(ours) == len(other) and all(map(_same, ours, other))
    if isinstance(other, (int, float)) and isinstance(ours, (int, float)):
        return math.isclose(ours, other, rel_tol=ROUNDING, abs_tol=NATS)
    return ours == other


def largest_difference(run: Run, other: dict[str, Any]) -> float | None:
    """The largest difference of a log-likelihood in nats; None for generated answers."""
    pairs = [
        (run.answers[leaf, record["doc_id"], number], responses[0])
        for leaf, records in other["samples"].items()
        for record in records
        for number, responses in enumerate(record["resps"])
    ]
    values = [tuple(one[0] if isinstance(one, (list, tuple)) else one for one in pair) for pair in pairs]
    return max((abs(a - b) for a, b in values if not isinstance(b, str)), default=None)
