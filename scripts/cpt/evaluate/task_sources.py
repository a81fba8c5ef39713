"""The source of a task's data (a repository on the hub, or files on this disk), and the splits it reads."""

import contextlib
import glob
from pathlib import Path
from typing import Any, NamedTuple

from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES
from lm_eval.api.task import ConfigurableTask

from cpt.digest import settings_digest
from cpt.errors import UserError

HUB_FILES = "hf://datasets/"


class _Asked(dict[str, Any]):
    """A data set without splits that records the names of the splits that are asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __missing__(self, split: str) -> None:
        self.names.add(split)
        raise KeyError(split)


class Source(NamedTuple):
    """The source of a leaf task's data."""

    repository: str | None  # on the hub
    files: tuple[str, ...]  # on this disk


def key_of(leaf: ConfigurableTask) -> str:
    """Returns the name of the folder for a leaf task's data: equal for equal data."""
    prefix = f"{Path(leaf.DATASET_PATH).name}-{leaf.DATASET_NAME or 'default'}".replace("/", "-")
    return (
        f"{prefix}-{settings_digest([leaf.DATASET_PATH, leaf.DATASET_NAME, leaf.config.dataset_kwargs])[:8]}"
    )


def source_of(leaf: ConfigurableTask, own: bool) -> Source:
    """Returns the source of a leaf task's data. Raises UserError if it is missing or unsupported."""
    path, arguments = leaf.DATASET_PATH, leaf.config.dataset_kwargs or {}
    if path is None:
        raise UserError(
            f"{leaf.config.task} has no dataset_path; name its data set, or files (json, csv, ...)"
        )
    if path in _PACKAGED_DATASETS_MODULES:
        addresses = _addresses(arguments.get("data_files"))
        if repositories := sorted({_repository_of(name) for name in addresses if name.startswith(HUB_FILES)}):
            return Source(repositories[0], ())
        if remote := [address for address in addresses if "://" in address]:
            raise UserError(
                f"{leaf.config.task} reads {remote[0]}, which has no commit that could be pinned; download "
                "it, and name the file in a YAML file of your own"
            )
        folder = Path(arguments.get("data_dir") or "")
        files = [file for address in addresses for file in sorted(glob.glob(str(folder / address)))]  # noqa: PTH207
        if not files:
            raise UserError(
                f"{leaf.config.task}: no files {', '.join(addresses) or '(data_files)'} (relative to "
                f"{Path.cwd()}); fix dataset_kwargs: data_files"
            )
        return Source(None, tuple(files))
    if own and Path(path).is_dir():
        files = sorted(str(file) for file in Path(path).rglob("*") if file.is_file())
        return Source(None, tuple(files))
    if Path(path).exists():
        raise UserError(
            f"{leaf.config.task} reads the data set {path} of the hub, but `datasets` would read the folder "
            "of that name here; rename the folder"
        )
    return Source(path, ())


def _addresses(files: Any) -> list[str]:
    if isinstance(files, dict):
        files = list(files.values())
    if isinstance(files, list):
        return [address for inner in files for address in _addresses(inner)]
    return [] if files is None else [str(files)]


def _repository_of(address: str) -> str:
    owner, name = address.removeprefix(HUB_FILES).split("/")[:2]
    return f"{owner}/{name.partition('@')[0]}"


def pinned(arguments: dict[str, Any], commit: str) -> dict[str, Any]:
    """Returns the arguments of `datasets` with every file on the hub pinned to a commit."""

    def pin(files: Any) -> Any:
        if isinstance(files, dict):
            return {split: pin(inner) for split, inner in files.items()}
        if isinstance(files, list):
            return [pin(inner) for inner in files]
        repository = _repository_of(files) if files.startswith(HUB_FILES) else ""
        path = files.removeprefix(HUB_FILES).split("/", 2)[-1]
        return f"{HUB_FILES}{repository}@{commit}/{path}" if repository else files

    files = arguments.get("data_files")
    return arguments if files is None else {**arguments, "data_files": pin(files)}


def any_split(leaf: ConfigurableTask) -> bool:
    """Whether a leaf task may read any split of its data set, because its own Python class chooses them."""
    return getattr(leaf, "by_code", False)


def splits_of(leaf: ConfigurableTask) -> set[str]:
    """Returns the splits that a leaf task reads: the scored split and the examples' split, which lm-eval
    reads even without examples. For a Python class that reads several at once (`any_split`): the first."""
    leaf.dataset = asked = _Asked()
    with contextlib.suppress(KeyError, ValueError):  # ValueError: lm-eval says that nothing is scored
        _ = leaf.eval_docs
    with contextlib.suppress(KeyError):
        leaf.fewshot_docs()
    return asked.names


def require_commit(task: str, repository: str, commits: dict[str, str]) -> str:
    """Returns the commit to which a repository is pinned. Raises UserError if it isn't pinned."""
    if repository not in commits:
        raise UserError(
            f"evaluate.revisions: {task} reads {repository}, which isn't pinned; add a commit that the hub "
            f"lists for it, as {repository}: 40 hex digits"
        )
    return commits[repository]
