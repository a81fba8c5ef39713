"""Refuses unsupported features of a task's definition before anything is fetched or trained."""

import ast
import contextlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lm_eval.api import metrics as _registered  # noqa: F401  (fills the registries)
from lm_eval.api.group import Group
from lm_eval.api.registry import AGGREGATION_REGISTRY, METRIC_REGISTRY
from lm_eval.api.samplers import SAMPLER_REGISTRY
from lm_eval.api.task import ConfigurableTask

from cpt.config_evaluate import Task
from cpt.data_sets import CLOZE
from cpt.errors import UserError
from cpt.evaluate.task_definitions import LM_EVAL_TASKS, PIP_NAMES, build, folders_of, naming, own_names
from cpt.evaluate.task_sources import Source, any_split, require_commit, source_of, splits_of

# The metrics that lm-eval computes by type of output, for tasks without their own process_results.
COMPUTED = {
    "multiple_choice": (
        "acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match",
        "brier_score", "f1", "mcc",
    ),
    "loglikelihood": ("acc", "perplexity"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "generate_until": ("exact_match", "bleu", "chrf", "chrf++", "ter"),
}  # fmt: skip
GREEDY = ("until", "do_sample", "temperature", "top_p", "top_k", "num_beams")
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class Stop(Exception):
    """Stops the construction of a task before its data are read."""


class Definition(ConfigurableTask):
    """A leaf task without data: its settings and metrics.

    Raises UserError for an unsupported feature.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        if reason := next(refusals(config), None):
            raise UserError(f"{config['task']} {reason}")
        with contextlib.suppress(Stop):
            super().__init__(config=config)
        if "class" in config:  # the class has its own settings
            self.config.metadata = {**(self.config.metadata or {}), **config["metadata"]}
            if reason := next(refusals({**vars(self.config), "class": config["class"]}), None):
                raise UserError(f"{config['task']} {reason}")

    def download(self, *_: Any, **__: Any) -> None:
        raise Stop


def is_own(metadata: dict[str, Any] | None) -> bool:
    """Whether a leaf task, by its `metadata`, is defined outside lm-eval's own folder."""
    return not Path((metadata or {}).get("config_source", "inline")).is_relative_to(LM_EVAL_TASKS)


def refusals(config: dict[str, Any]) -> Iterator[str]:
    """Yields the reasons why a leaf task can't be scored as its definition says."""
    kind = config.get("output_type", "generate_until")
    if kind not in COMPUTED:
        yield f"has output_type: {kind}; lm-eval knows {', '.join(COMPUTED)}, so fix it"
    for key in ("doc_to_image", "doc_to_audio"):
        if config.get(key) is not None:
            yield f"has {key}, and only text is scored; leave the task out"
    if config.get("unsafe_code"):
        yield "runs code that the model has written (unsafe_code), which isn't done; leave the task out"
    if config.get("use_prompt") is not None:
        yield "takes its prompt from promptsource (use_prompt); write it as doc_to_text"
    if config.get("custom_dataset") is not None:
        yield "makes its data by code (custom_dataset), of which no commit can be pinned; leave the task out"
    arguments = config.get("dataset_kwargs") or {}
    if arguments.get("streaming"):
        yield "streams its data (dataset_kwargs: streaming), so it can't be kept; remove streaming"
    if arguments.get("trust_remote_code") and is_own(config.get("metadata")):
        yield "asks for trust_remote_code, and `datasets` runs no code of data sets any more; remove it"
    yield from _metric_refusals(config, kind)
    yield from _generation_refusals(config, kind)
    yield from _shot_refusals(config)
    yield from _class_refusals(config.get("class"))
    if missing := sorted(_missing_packages(config)):
        names = " ".join(PIP_NAMES.get(name, name) for name in missing)
        yield (
            f"needs {', '.join(missing)}, which isn't installed; install it with `pip install {names}`, or "
            "leave the task out"
        )


def _metric_refusals(config: dict[str, Any], kind: str) -> Iterator[str]:
    own_function = config.get("process_results") is not None
    for entry in config.get("metric_list") or []:
        name = entry.get("metric")
        if callable(name) or not isinstance(name, str):
            continue
        aggregation = entry.get("aggregation")
        if isinstance(aggregation, str) and aggregation not in AGGREGATION_REGISTRY:
            aggregations = ", ".join(sorted(AGGREGATION_REGISTRY))
            yield f"has aggregation: {aggregation} of {name}; lm-eval knows {aggregations}"
        if own_function:
            if aggregation is None and name not in METRIC_REGISTRY:
                yield f"has the metric {name}, of which lm-eval knows no aggregation; state one"
        elif entry.get("hf_evaluate") or name not in METRIC_REGISTRY:
            yield (
                f"has the metric {name}, which isn't lm-eval's but would be code from the hub (`evaluate`); "
                f"lm-eval computes {', '.join(COMPUTED.get(kind, ()))} of {kind}"
            )
        elif name not in COMPUTED.get(kind, ()):
            yield (
                f"has the metric {name}, which lm-eval doesn't compute of output_type {kind}; use "
                f"{', '.join(COMPUTED.get(kind, ()))}"
            )


def _generation_refusals(config: dict[str, Any], kind: str) -> Iterator[str]:
    if kind != "generate_until":
        return
    settings = config.get("generation_kwargs") or {}
    warm = float(settings.get("temperature") or 0) > 0
    if settings.get("do_sample") or (settings.get("do_sample") is None and warm):
        yield (
            "draws its answers at random (generation_kwargs: do_sample, temperature), so two runs of one "
            "model would differ; only greedy answers are scored: in a YAML file of your own that includes "
            "this one, set do_sample: false and temperature: 0"
        )
    if settings.get("num_beams", 1) != 1:
        yield f"searches with num_beams: {settings['num_beams']}; only greedy answers are scored, so set 1"
    if others := sorted(set(settings) - {*GREEDY, *LENGTHS}):
        yield f"has generation_kwargs: {others[0]}, which isn't done; use until and max_gen_toks alone"


def _shot_refusals(config: dict[str, Any]) -> Iterator[str]:
    settings = config.get("fewshot_config")
    if not isinstance(settings, dict):
        return
    if settings.get("fewshot_indices"):
        yield "has fewshot_indices, which lm-eval reads and doesn't use; list the examples as samples"
    sampler = settings.get("sampler", "default")
    if isinstance(sampler, str) and sampler not in SAMPLER_REGISTRY:
        yield f"has sampler: {sampler}; lm-eval knows {', '.join(SAMPLER_REGISTRY)}"


def _class_refusals(own: type[ConfigurableTask] | None) -> Iterator[str]:
    if getattr(own, "MULTIMODAL", False):
        yield "asks about pictures or sound (MULTIMODAL), and only text is scored; leave the task out"
    if getattr(own, "UNSAFE_CODE", False):
        yield "runs code that the model has written (UNSAFE_CODE), which isn't done; leave the task out"
    if own is not None and (file := _file_of(own)) and "evaluate" in _imports(file):
        yield (
            "computes its metrics by code from the hub (`evaluate`), of which no commit can be pinned; "
            "leave the task out"
        )


def _missing_packages(config: dict[str, Any]) -> set[str]:
    """Returns modules that aren't installed and that the definition's functions import, even late."""
    functions = [value for value in _values(config) if callable(value)]
    files = {file for function in functions if (file := _file_of(function))}
    modules = {module for file in files for module in _imports(file)}
    return {module for module in modules if importlib.util.find_spec(module) is None}


def _file_of(function: Any) -> str | None:
    try:
        return inspect.getsourcefile(function)
    except TypeError:  # built in
        return None


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _values(inner)
    else:
        yield value


def _imports(file: str) -> set[str]:
    """Returns the top-level modules that a Python file imports outside `try` and outside its own folder."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    optional = {
        id(node) for block in ast.walk(tree) if isinstance(block, ast.Try) for node in ast.walk(block)
    }
    modules = set()
    for node in ast.walk(tree):
        if id(node) in optional:
            continue
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules.add(node.module.partition(".")[0])
    return {name for name in modules if not (Path(file).parent / f"{name}.py").exists()}


def _group_refusals(groups: Iterable[Group]) -> Iterator[str]:
    for group in groups:
        names = [leaf.task_name for leaf in group.get_all_tasks()]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            yield (
                f"several tasks of the group {group.name} have the one name {repeated[0]}, so lm-eval would "
                "score one of them; name its tasks one by one"
            )
        for metric in group.aggregate_metric_list or []:
            if callable(metric.aggregation):
                yield f"the group {group.name} aggregates {metric.metric} by code; name its tasks as columns"


def inspect_task(
    task: str,
    columns: dict[str, Task],
    commits: dict[str, str],
    include_path: Path | None,
    task_code: bool,
) -> dict[str, Any]:
    """Returns what is known about a task before its data are fetched.

    Args:
        task: lm-eval's name of the task.
        columns: the config's columns with this task.
        commits: commits of repositories on the hub.
        include_path: folder of the user's own YAML files.
        task_code: whether these may run code.

    Raises:
        UserError: the definition or a column asks for something unsupported; it names the column.
    """
    with naming(next(iter(columns))):
        folders = folders_of(task, include_path)
        built = build([task], folders, Definition, include_path, task_code)
        leaves = list(built["tasks"].values())
        if reason := next(_group_refusals(built["groups"].values()), None):
            raise UserError(reason)
        kinds = sorted({leaf.OUTPUT_TYPE for leaf in leaves})
        if len(kinds) != 1:
            raise UserError(
                f"its tasks have different output types ({', '.join(kinds)}), which one column can't hold; "
                "name its tasks as columns"
            )
        sources = [source_of(leaf, is_own(leaf.config.metadata)) for leaf in leaves]
        in_benchmarks = all(map(_benchmarks_hold, leaves, sources))
        names = [names_of_metrics(leaf) for leaf in leaves]
        common = [name for name in names[0] if all(name in others for others in names)]
        if not common:
            raise UserError("its tasks have no metric in common; name its tasks as columns")
        for leaf, source in zip(leaves, sources, strict=True):
            if source.repository and not in_benchmarks:
                require_commit(leaf.config.task, source.repository, commits)
    for column, settings in columns.items():
        _check_column(column, settings, leaves, common)
    return {
        "folders": folders,
        "output_type": kinds[0],
        "repositories": sorted({source.repository for source in sources if source.repository}),
        "files": sorted({file for source in sources for file in source.files}),
        "in_benchmarks": in_benchmarks,
        "own": bool(own_names(include_path) & {task, *built["tasks"], *built["groups"]}),
    }


def names_of_metrics(leaf: ConfigurableTask) -> list[str]:
    """Returns lm-eval's names of a leaf task's metrics, with the filter's name if it has several filters."""
    filters = [entry["name"] for entry in leaf.config.filter_list or []]
    metrics = list(leaf.aggregation())
    return [f"{m},{name}" for name in filters for m in metrics] if len(filters) > 1 else metrics


def _check_column(column: str, settings: Task, leaves: list[ConfigurableTask], metrics: list[str]) -> None:
    metric, shots = settings.metric, settings.shots
    if metric is not None and metric not in metrics:
        raise UserError(
            f"evaluate.tasks.{column}.metric: the task has no {metric}; choose one of {', '.join(metrics)}"
        )
    if not shots:
        return
    for leaf in leaves:
        if leaf.OUTPUT_TYPE == "loglikelihood_rolling":
            raise UserError(
                f"evaluate.tasks.{column}.shots: {leaf.config.task} measures running text "
                "(loglikelihood_rolling), to which lm-eval gives no examples; remove it"
            )
        if leaf.config.num_fewshot == 0:
            raise UserError(
                f"evaluate.tasks.{column}.shots: {leaf.config.task} is defined with num_fewshot: 0, which "
                "lm-eval never overrides; remove it"
            )
        if not all(map(_takes_examples, (leaf.doc_to_text, leaf.doc_to_target))):
            raise UserError(
                f"evaluate.tasks.{column}.shots: lm-eval can't give examples to {leaf.config.task}, as its "
                "Python class takes the item alone in doc_to_text or doc_to_target; remove it"
            )


def _takes_examples(function: Callable[..., Any]) -> bool:
    """Whether lm-eval can call a function with an item and a field of the examples' settings."""
    with contextlib.suppress(TypeError):
        return inspect.signature(function).bind({}, None) is not None
    return False


def _benchmarks_hold(leaf: ConfigurableTask, source: Source) -> bool:
    """Whether fetch_benchmarks has a leaf task's data: only for MMLU it has all that the tasks read."""
    return (
        source.repository == "cais/mmlu"
        and leaf.config.task.removesuffix(CLOZE) == f"mmlu_{leaf.DATASET_NAME}"
        and splits_of(leaf) <= {"test", "dev"}
        and not any_split(leaf)
    )
