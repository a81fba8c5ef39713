"""Finds the definitions of lm-eval's and a user's own tasks, and builds them without or with data.

lm-eval indexes all of its 14,000 YAML files before it finds one of them, which takes several seconds. Here
the files' text is searched for the names, and only the folders that define them are indexed.
"""

import contextlib
import difflib
import functools
import importlib.util
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lm_eval.tasks
import numpy as np
from lm_eval.api.samplers import ContextSampler
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager, _factory, _yaml_loader
from lm_eval.tasks._index import Entry, TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from cpt.errors import UserError

LM_EVAL_TASKS = Path(lm_eval.tasks.__file__).parent
DEFINED = re.compile(r"""^["']?(?:task|group)["']?:[ \t]*["']?([^\s"'#\[{][^\n"'#]*)""", re.MULTILINE)
PIP_NAMES = {  # of modules whose package has another name
    "antlr4": "antlr4-python3-runtime==4.11",
    "bert_score": "bert-score",
    "math_verify": "math-verify",
    "rouge_score": "rouge-score",
    "sklearn": "scikit-learn",
}
NUMBERS = (
    "if answers are numbers, name their field alone (doc_to_target: answer), as lm-eval takes the number "
    "that a template gives for a place among the choices"
)
FEWSHOT_SEED = 1234  # lm-eval's default, also for numpy
Data = Callable[[ConfigurableTask], Any]  # returns a leaf task's data set, by split


@functools.cache
def _texts() -> dict[Path, str]:
    """Returns the text of all YAML files of lm-eval's tasks, and of included files (`_template_yaml`)."""
    return {path: path.read_text("utf-8", "replace") for path in sorted(LM_EVAL_TASKS.glob("**/*yaml"))}


@functools.cache
def defining_folders() -> dict[str, str]:
    """Returns, by name of a task or group, the folder in lm-eval's tasks that defines it."""
    folders: dict[str, str] = {}
    for path, text in _texts().items():
        for name in DEFINED.findall(text) if path.suffix == ".yaml" else ():
            folders.setdefault(name.strip(), path.relative_to(LM_EVAL_TASKS).parts[0])
    return folders


def _folders_of_tag(tag: str) -> set[str]:
    """Returns the folders with files that may give a task this tag."""
    line = re.compile(rf"""^(?:["']?tag["']?:|\s*-).*(?<![\w-]){re.escape(tag)}(?![\w-])""", re.MULTILINE)
    return {
        path.relative_to(LM_EVAL_TASKS).parts[0]
        for path, text in _texts().items()
        if tag in text and line.search(text)
    }


def _members(definition: dict[str, Any]) -> Iterator[str]:
    """Yields the names of a group's members."""
    members = definition.get("task")
    for member in members if isinstance(members, list) else []:
        if isinstance(member, str):
            yield member
        else:
            yield member.get("group") or member["task"]
            yield from _members(member)


def own_names(include_path: Path | None) -> set[str]:
    """Returns the names that the YAML files in a user's own folder define."""
    return set(TaskIndex.build([include_path])) if include_path else set()


def _index(folders: Iterable[str], include_path: Path | None) -> dict[str, Entry]:
    """Returns lm-eval's index of some of its folders, overridden by a user's own tasks.

    Like lm-eval, it skips files that can't be read.
    """
    index: dict[str, Entry] = {}
    for folder in sorted(folders):
        for path in TaskIndex._iter_yaml_files(LM_EVAL_TASKS / folder):
            with contextlib.suppress(Exception):
                TaskIndex.process_cfg(load_yaml(path, resolve_func=False), path, index)
    return index | (TaskIndex.build([include_path]) if include_path else {})


def folders_of(task: str, include_path: Path | None) -> list[str]:
    """Returns the folders of lm-eval's tasks to index for a task, group or tag; [] for a user's own task.

    Raises UserError with the nearest names if there is no such task, or if it runs code from the model.
    """
    own = TaskIndex.build([include_path]) if include_path else {}
    folders: set[str] = set()
    index: dict[str, Entry] = {}
    waiting, seen = [task], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if name not in own:
            defining = defining_folders()
            more = ({defining[name]} if name in defining else _folders_of_tag(name)) - folders
            index.update(_index(more, None))
            folders |= more
        entry = own.get(name) or index.get(name)
        if entry is None and name == task:
            raise UserError(_unknown(task, include_path, [*own, *defining_folders()]))
        if entry is not None and (entry.cfg or {}).get("unsafe_code"):
            raise UserError(
                f"{name} runs code that the model has written (unsafe_code), which isn't done; leave it out"
            )
        if entry is not None:
            waiting += {*_members(entry.cfg or {}), *(entry.tags if entry.cfg is None else ())} - seen
    return sorted(folders)


def _unknown(task: str, include_path: Path | None, names: list[str]) -> str:
    names = [name for name in names if name != task]
    near = difflib.get_close_matches(task, names, 5, 0.7)
    near += [name for name in sorted(names) if name.startswith(f"{task}_")][: 5 - len(near)]
    where = (
        f"nor in {include_path}" if include_path else "and evaluate.include_path names no folder of own ones"
    )
    return (
        f"lm-eval has no task or group {task}, {where}; "
        + (f"the nearest names: {', '.join(dict.fromkeys(near))}; " if near else "")
        + "fix its name"
    )


@contextlib.contextmanager
def _build_as(kind: type[ConfigurableTask], task_code: bool) -> Iterator[None]:
    """Make lm-eval build tasks as `kind`, and run Python code only from its own folder unless `task_code`."""
    imported, read = _yaml_loader._import_func_in_yml, _factory.TaskFactory._load_full_config

    def import_function(name: str, folder: Path) -> Any:
        if not task_code and not folder.resolve().is_relative_to(LM_EVAL_TASKS.resolve()):
            raise UserError(
                f"a YAML file in {folder} calls Python code (!function {name}), which would run on every "
                "machine that scores; read it, and set evaluate.task_code: true to allow it"
            )
        return imported(name, folder)

    def read_config(factory: Any, entry: Entry, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        config = read(factory, entry, overrides)
        return {**config, "class": _class_of(kind, config)} if "class" in config else config

    _factory.ConfigurableTask, _yaml_loader._import_func_in_yml = kind, import_function
    _factory.TaskFactory._load_full_config = read_config
    try:
        yield
    finally:
        _factory.ConfigurableTask, _yaml_loader._import_func_in_yml = ConfigurableTask, imported
        _factory.TaskFactory._load_full_config = read


def _class_of(kind: type[ConfigurableTask], config: dict[str, Any]) -> type[ConfigurableTask]:
    """Returns a task's own Python class combined with `kind`. Raises UserError if that isn't possible."""
    own, task = config["class"], config["task"]
    if not (isinstance(own, type) and issubclass(own, ConfigurableTask)):
        raise UserError(
            f"{task} is defined by Python code that isn't a ConfigurableTask of lm-eval; write it as one or "
            "in YAML, or leave the task out"
        )
    if own.download is not ConfigurableTask.download:
        raise UserError(
            f"{task} makes its data by code ({own.__name__}.download), of which no commit can be pinned; "
            "leave the task out"
        )

    class Own(own):
        by_code = True

        def __init__(self, config: dict[str, Any]) -> None:
            arguments = {"config": config} if _factory._ctor_accepts_config(own) else {}
            super().__init__(**arguments)

    # `kind` comes first, so that it overrides the class.
    return type(own.__name__, (kind, Own), {"__module__": own.__module__})


def build(
    names: list[str],
    folders: list[str],
    kind: type[ConfigurableTask],
    include_path: Path | None = None,
    task_code: bool = False,
) -> dict[str, Any]:
    """Returns lm-eval's tasks and groups of some names from its TaskManager; leaf tasks have class `kind`.

    Raises UserError for any error of lm-eval, its templates or its data readers.
    """
    random.seed(0)  # as lm-eval does: some functions shuffle choices
    np.random.seed(FEWSHOT_SEED)
    manager = TaskManager(include_defaults=False)
    manager._index = _index(folders, include_path)
    try:
        with _build_as(kind, task_code):
            return manager.load(names)
    except UserError:
        raise
    except ImportError as error:
        # A definition may raise its own ImportError; the original error has the module's name.
        first = error.__context__ if error.name is None else error
        package = (getattr(first, "name", None) or "").partition(".")[0]
        remedy = f"install it with `pip install {PIP_NAMES.get(package, package)}`, or "
        if not package or importlib.util.find_spec(package):  # installed, but lacks something
            remedy = ""
        raise UserError(
            f"its definition needs a package that isn't installed ({error}); {remedy}leave the task out"
        ) from None
    except Exception as error:
        remedy = f"fix its YAML file in {include_path}, or its data" if include_path else "use another task"
        # lm-eval looks up the first item's right answer among the choices.
        hint = f"; {NUMBERS}" if isinstance(error, IndexError) else ""
        raise UserError(f"lm-eval can't load it ({type(error).__name__}: {error}); {remedy}{hint}") from None


@contextlib.contextmanager
def naming(column: str) -> Iterator[None]:
    """Put the column's key before error messages that name no config key."""
    try:
        yield
    except UserError as error:
        text = str(error)
        raise UserError(
            text if text.startswith("evaluate.") else f"evaluate.tasks.{column}: {text}"
        ) from None


class Drawn(ContextSampler):
    """Returns examples that were drawn before, question by question, in an endless cycle."""

    def __init__(self, draws: list[Sequence[dict[str, Any]]]) -> None:
        self.draws = itertools.cycle(draws)

    def sample(self, n: int, *_: Any, **__: Any) -> Sequence[dict[str, Any]]:
        return next(self.draws)


def _call_once(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Call a function of a split only once per split. So examples and items are shuffled alike, as with
    lm-eval and the cache of `datasets`."""
    results: dict[int, tuple[Any, Any]] = {}

    @functools.wraps(function)
    def processed(rows: Any) -> Any:
        if id(rows) not in results:
            results[id(rows)] = (rows, function(rows))
        return results[id(rows)][1]

    return processed


class LoadedTask(ConfigurableTask):
    """A leaf task with data, which can be limited to chosen items."""

    chosen: Sequence[int] | None = None

    def __init__(self, config: dict[str, Any]) -> None:
        if callable(process := config.get("process_docs")):
            config = {**config, "process_docs": _call_once(process)}
        super().__init__(config=config)

    def choose(self, items: Sequence[int]) -> None:
        """Score only these items, with the examples that lm-eval gives them when it scores all items."""
        if len(items) == len(self.task_docs):
            return
        self.chosen = sorted(items)
        if shots := self.config.num_fewshot:
            draws = {}
            same_split = self.fewshot_cfg.split == self.config.test_split
            for item in range(self.chosen[-1] + 1):  # draws depend on all earlier draws
                draws[item] = self.sampler.sample(shots, self.task_docs[item] if same_split else None)
            self.sampler = Drawn([draws[item] for item in self.chosen])

    def doc_iterator(self, **_: Any) -> Iterator[tuple[int, Any]]:
        """Returns numbers and contents of the chosen items."""
        items = range(len(self.task_docs)) if self.chosen is None else self.chosen
        return ((item, self.task_docs[item]) for item in items)


def with_data(data: Data) -> type[LoadedTask]:
    """Returns a class of leaf tasks whose data sets come from `data`."""

    class Loaded(LoadedTask):
        def download(self, *_: Any, **__: Any) -> None:
            self.dataset = data(self)

    return Loaded
