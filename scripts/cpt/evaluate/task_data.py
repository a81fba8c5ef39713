"""The data of tasks outside the seven test sets: fetched once at pinned commits, then read offline."""

import errno
import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import datasets.exceptions
import httpx2
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import errors
from lm_eval.api.task import ConfigurableTask

from cpt.errors import UserError
from cpt.evaluate.task_checks import is_own
from cpt.evaluate.task_definitions import Data
from cpt.evaluate.task_sources import (
    Source,
    any_split,
    key_of,
    pinned,
    require_commit,
    source_of,
    splits_of,
)


def quiet() -> None:
    """Turn off progress bars, lm-eval's warnings, and cache files beside the data."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    datasets.disable_caching()


def saved_in(folder: Path) -> Data:
    """Returns a function that reads a leaf task's data from a folder that `save` wrote."""

    def data(leaf: ConfigurableTask) -> dict[str, datasets.Dataset]:
        data_folder = folder / key_of(leaf)
        splits = [path.name for path in sorted(data_folder.iterdir())] if any_split(leaf) else splits_of(leaf)
        return {split: datasets.load_from_disk(str(data_folder / split)) for split in splits}

    return data


def read_directly(cache: Path, place: str | None = None) -> Data:
    """Returns a function that reads a leaf task's data with `datasets`; `place` replaces DATASET_PATH."""

    def data(leaf: ConfigurableTask) -> datasets.DatasetDict:
        arguments = {**(leaf.config.dataset_kwargs or {}), "cache_dir": str(cache)}
        arguments.pop("trust_remote_code", None)
        return datasets.load_dataset(place or leaf.DATASET_PATH, leaf.DATASET_NAME, **arguments)

    return data


def offline() -> None:
    """Keep all libraries from asking the hub from now on."""
    huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


def save(
    leaves: Iterable[ConfigurableTask],
    commits: dict[str, str],
    folder: Path,
    cache: Path,
    benchmarks: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Read the data of leaf tasks and write the splits that they may use into `folder`, each once.

    The data come from the hub at `commits` (by repository), from files on this disk, or all from
    `benchmarks`, the folder of fetch_benchmarks. Returns the origin of each data set, and for each split the
    number of rows and the SHA-256 of their content, independent of how they are stored.

    Raises UserError for problems that the user can fix: a repository without a commit, no access, no network,
    a missing split.
    """
    leaf_groups: dict[str, list[ConfigurableTask]] = {}
    for leaf in leaves:
        leaf_groups.setdefault(key_of(leaf), []).append(leaf)
    saved = {}
    for key, (leaf, *others) in sorted(leaf_groups.items()):
        source = source_of(leaf, is_own(leaf.config.metadata))
        origin: dict[str, Any] = {"files": list(source.files)}
        if benchmarks:
            origin = {"repository": source.repository, "fetched_by": "fetch_benchmarks"}
            data = read_directly(cache, str(benchmarks / source.repository))(leaf)
        else:
            if source.repository:
                commit = require_commit(leaf.config.task, source.repository, commits)
                origin = {"repository": source.repository, "commit": commit}
            data = _read(leaf, source, origin.get("commit"), cache)
        counts = {}
        splits = splits_of(leaf).union(*map(splits_of, others))
        for split in sorted(splits | set(data) if any(map(any_split, (leaf, *others))) else splits):
            if split not in data:
                raise UserError(
                    f"{leaf.config.task}: {source.repository or leaf.DATASET_PATH} has no split {split}; it "
                    f"has {', '.join(data)}: pin a commit that has it in evaluate.revisions, or fix the "
                    "definition"
                )
            data[split].save_to_disk(str(folder / key / split))
            counts[split] = {"rows": len(data[split]), "content_sha256": _digest(data[split])}
        saved[key] = {**origin, "name": leaf.DATASET_NAME, "splits": counts}
    return saved


def _read(leaf: ConfigurableTask, source: Source, commit: str | None, cache: Path) -> datasets.DatasetDict:
    arguments = {**(leaf.config.dataset_kwargs or {}), "cache_dir": str(cache)}
    arguments.pop("trust_remote_code", None)
    where = f"{leaf.config.task}: {', '.join(source.files[:3])}"
    if commit:
        where = f"{leaf.config.task}: {source.repository} at {commit}"
        arguments = pinned(arguments, commit)
        if source.repository == leaf.DATASET_PATH:
            arguments["revision"] = commit
    try:
        return datasets.load_dataset(leaf.DATASET_PATH, leaf.DATASET_NAME, **arguments)
    except Exception as error:  # `datasets` raises errors of many classes
        raise UserError(f"{where}: {_reason(error, source, cache)}") from None


def _reason(error: Exception, source: Source, cache: Path) -> str:
    """Returns what went wrong and what to do; for known errors, without the server's message."""
    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)
    text = " ".join(str(link) for link in chain)

    def any_is(*types: type[BaseException]) -> bool:
        return any(isinstance(link, types) for link in chain)

    if any(getattr(link, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for link in chain):
        return f"the disk of {cache} is full; make room there, or set HF_HOME and TMPDIR to a larger one"
    if any_is(errors.GatedRepoError) or "gated dataset" in text:
        return "access is gated; accept its terms on the hub and set HF_TOKEN to a token of that account"
    if any_is(errors.RevisionNotFoundError) or ("Revision" in text and "doesn't exist" in text):
        return (
            "there is no such commit; pin one that its list of commits on the hub has in evaluate.revisions"
        )
    if "scripts are no longer supported" in text:
        return (
            "its data are made by a script, which `datasets` runs no more; pin a commit that has them as "
            "files (refs/convert/parquet on the hub), or leave the task out"
        )
    if any_is(errors.RepositoryNotFoundError, datasets.exceptions.DatasetNotFoundError):
        return "there is no such data set, or it is private; check HF_ENDPOINT, and set HF_TOKEN"
    if any_is(httpx2.HTTPError, ConnectionError, TimeoutError):
        return "the hub can't be reached; check the network of this machine, HF_ENDPOINT and proxy"
    remedy = (
        "pin a commit that `datasets` can read in evaluate.revisions" if source.repository else "fix them"
    )
    return f"`datasets` can't read it ({type(error).__name__}: {error}); {remedy}"


def _digest(rows: datasets.Dataset) -> str:
    content = hashlib.sha256()
    for row in rows:
        content.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return content.hexdigest()


def write_items(path: Path, texts: dict[str, list[str]]) -> None:
    """Write items.parquet, a row per scored item, as fetch_benchmarks does; `texts` by leaf task."""
    rows = [(leaf, number, text) for leaf in sorted(texts) for number, text in enumerate(texts[leaf])]
    schema = pa.schema([("task", pa.string()), ("item", pa.int64()), ("text", pa.string())])
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    table = pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)
    pq.write_table(table, path, compression="zstd")
