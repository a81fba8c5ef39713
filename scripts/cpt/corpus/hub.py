"""Downloads and verifies files of a dataset repository on the Hugging Face hub, at a pinned revision.

The official client handles names, sizes, hashes, addresses, access and redirects. cpt.corpus.remote reads the
bytes instead of the client, which restarts a file in each process and buffers up to 10 MB that a broken
connection loses.
"""

import fnmatch
import hashlib
import logging
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import httpx2
from huggingface_hub import HfApi, RepoFile, errors, hf_hub_url
from huggingface_hub.utils import build_hf_headers

from cpt.config_sections import HubCorpus
from cpt.corpus.readers import require_readers
from cpt.corpus.remote import CutShort, call_with_retries, described, folder_of_parts, status_of, stream_file
from cpt.errors import UserError
from cpt.files import sha256_of
from cpt.progress import NOTICE

# What to do about an error of the client; the server's own text is never repeated.
ADVICE = {
    errors.GatedRepoError: "access is gated; accept its terms on the hub, then set HF_TOKEN to a token of "
    "that account (or run `hf auth login`)",
    errors.DisabledRepoError: "the hub has disabled this dataset; use another one",
    errors.RepositoryNotFoundError: "there is no such dataset, or it is private; check "
    "corpora.{}.repo and HF_TOKEN",
    errors.RevisionNotFoundError: "there is no such revision; set corpora.{}.revision to a commit of it",
    errors.EntryNotFoundError: "the hub lists the file but doesn't have it; set another revision",
    errors.HFValidationError: "corpora.{}.repo must read owner/name, with letters, digits, '-', '_' and '.'",
    errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set; unset it to download",
    (httpx2.LocalProtocolError, UnicodeError): "the request can't be sent; look for line ends or unusual "
    "characters in HF_TOKEN",
}


def fetch_hub_file(
    source: HubCorpus, corpus: str, shard: int, shards: int, output: Path
) -> tuple[Path, str, dict[str, Any]]:
    """Download file number `shard` of those that match, for the raw shard `output`, and verify it.

    `source` is the corpus's entry in the config, of which `shards` files are used; their raw shards lie
    beside `output`. Patterns work as in the hub's own client (`*` matches "/" as well). Before the download
    a notice states sizes and free space. The file lies in the folder of parts, and an interrupted download
    resumes there. Size and hash must equal the hub's record: SHA-256 for large files, git's blob hash for
    small ones. If they differ, the file is fetched once more, from the beginning.

    Returns the file's path, the repository's commit, and the file's entry in the manifest.

    Raises UserError for anything the user can fix: no access, wrong names, no network, too little space
    for all files that are still missing, damage.
    """
    repo, revision = source.repo, source.revision
    where = f"corpora.{corpus}: {repo} at {revision}"
    try:
        api = HfApi()
        info = call_with_retries(where, lambda: api.repo_info(repo, repo_type="dataset", revision=revision))
        files = call_with_retries(where, lambda: _matching(api, repo, info.sha, source.files))
        _require_files(files, source, corpus, shards)
        record = files[shard]
        rows = _rows_on_card(info.card_data, {file.path for file in files})
        _announce(files, shard, shards, output, corpus, rows)
        url = hf_hub_url(repo, record.path, repo_type="dataset", revision=info.sha, endpoint=api.endpoint)
        path, digest = _verified_file(url, record, _part(record, output), f"corpora.{corpus}: {record.path}")
    except (
        httpx2.HTTPError,
        errors.HfHubHTTPError,
        errors.OfflineModeIsEnabled,
        ValueError,
        CutShort,
    ) as error:
        # The client's errors quote the server, which may quote the token, so they aren't passed on.
        raise UserError(f"{where}: {_advice(error, corpus)}") from None
    return path, info.sha, {"name": record.path, "bytes": record.size, "sha256": digest}


def _matching(api: HfApi, repo: str, commit: str, pattern: str) -> list[RepoFile]:
    """The hub's records of all matching files, sorted; requests only the folder before the first wildcard."""
    fixed = pattern[: min((pattern.find(sign) for sign in "*?[" if sign in pattern), default=len(pattern))]
    folder = fixed.rpartition("/")[0] or None
    try:
        entries = list(api.list_repo_tree(repo, folder, recursive=True, repo_type="dataset", revision=commit))
    except errors.EntryNotFoundError:
        entries = []
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    return sorted(
        (entry for entry in files if pattern == entry.path or fnmatch.fnmatchcase(entry.path, pattern)),
        key=lambda entry: entry.path,
    )


def _require_files(files: list[RepoFile], source: HubCorpus, corpus: str, shards: int) -> None:
    """Raise UserError if fewer than `shards` files match, or if a used file has no reader."""
    if not files:
        raise UserError(
            f"corpora.{corpus}.files: no file of {source.repo} at {source.revision} matches "
            f"{source.files!r}; compare it with the repository's list of files"
        )
    if shards > len(files):
        raise UserError(
            f"corpora.{corpus}.shards: {shards} are needed (set, or from tokens_per_shard and budgets), but "
            f"{len(files)} files of {source.repo} match {source.files!r}; lower shards or the budgets, or "
            f"widen corpora.{corpus}.files"
        )
    require_readers((file.path for file in files[:shards]), f"corpora.{corpus}.files", ("parquet", "jsonl"))


def _announce(
    files: list[RepoFile], shard: int, shards: int, output: Path, corpus: str, rows: int | None
) -> None:
    """Log what will be fetched and the free space; UserError if the missing files don't fit."""
    output.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(output.parent).free
    # Free space is measured first: bytes that other jobs fetch in between then lower the need, not the space.
    missing = sum(_missing(file, output, number) for number, file in enumerate(files[:shards]))
    asked, available = (sum(file.size for file in some) for some in (files[:shards], files))
    estimate = f" (about {rows * asked / max(1, available):,.0f} rows)" if rows else ""
    name, size = files[shard].path, _amount(files[shard].size)
    logging.log(
        NOTICE,
        "corpora.%s, shard %s: %s, %s; %s of %s matching files are asked for, %s of %s%s; "
        "%s are still to come, %s are free in %s",
        corpus,
        shard,
        name,
        size,
        shards,
        len(files),
        _amount(asked),
        _amount(available),
        estimate,
        _amount(missing),
        _amount(free),
        output.parent,
    )
    if missing > free:
        raise UserError(
            f"corpora.{corpus}: {name} ({size}) and later files need {_amount(missing)}, but only "
            f"{_amount(free)} are free in {output.parent}; free space, set `results` to a folder on a larger "
            f"disk, or lower corpora.{corpus}.shards or the budgets"
        )


def _missing(record: RepoFile, output: Path, number: int) -> int:
    """Bytes of a file still to fetch; 0 if its shard beside `output` is finished."""
    raw = output.with_name(f"{number:05d}{output.suffix}")
    try:
        fetched = _part(record, raw).stat().st_size
    except FileNotFoundError:
        fetched = 0
    return 0 if raw.exists() else max(0, record.size - fetched)


def _part(record: RepoFile, raw: Path) -> Path:
    """The path a file is fetched to. The name contains its hash, so a resume never mixes two versions."""
    return folder_of_parts(raw) / f"{_hash_of(record)}-{PurePosixPath(record.path).name}"


def _hash_of(record: RepoFile) -> str:
    """The hub's hash of a file: SHA-256 of a large one, git's blob hash of a small one."""
    return record.lfs.sha256 if record.lfs is not None else record.blob_id


def _amount(size: int) -> str:
    """A number of bytes in decimal units: 2.15 GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:,.2f} {unit}"
    return f"{size} bytes"


def _rows_on_card(card: Any, names: set[str]) -> int | None:
    """Rows of the card's first configuration with all these files, if the card counts rows, else None.

    (FineWeb-Edu's card doesn't.)
    """
    try:
        sizes = card.get("dataset_info") or []
        sizes = sizes if isinstance(sizes, list) else [sizes]
        for config in card.get("configs") or []:
            patterns = [part["path"] for part in config["data_files"]]
            if all(any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) for name in names):
                (size,) = (size for size in sizes if size["config_name"] == config["config_name"])
                return sum(split["num_examples"] for split in size["splits"])
    except (AttributeError, KeyError, TypeError, ValueError):
        pass  # cards are free text, so the counts may be missing
    return None


def _verified_file(url: str, record: RepoFile, path: Path, what: str) -> tuple[Path, str]:
    """Fetch a file to `path`; returns the path and its SHA-256."""
    expected = _hash_of(record)
    for left in path.parent.glob("*"):  # leftovers of another revision or pattern
        if left != path:
            left.unlink()
    for last in (False, True):
        stream_file(url, build_hf_headers(), path, record.size, what)
        digest = sha256_of(path)
        if (_blob_hash(path) if record.lfs is None else digest) == expected:
            return path, digest
        path.unlink()
        if not last:
            logging.warning(
                "%s: the bytes differ from the hash that the hub states; fetching them again", what
            )
    raise UserError(
        f"{what}: it arrived damaged twice (the hub states {record.size:,} bytes with the hash {expected}); "
        "it was removed; look for a proxy or mirror between here and the hub, then run again"
    )


def _blob_hash(path: Path) -> str:
    """Git's hash of a file; the hub states it for files stored in git (up to 10 MB)."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _advice(error: Exception, corpus: str) -> str:
    """What went wrong and what to do about it, without the server's own text."""
    for kinds, advice in ADVICE.items():
        if isinstance(error, kinds):
            return advice.format(corpus)
    if (status := status_of(error)) in (401, 403):
        return f"the hub refuses access ({status}); set HF_TOKEN to a token that may read it, or unset it"
    if isinstance(error, httpx2.HTTPError | errors.HfHubHTTPError | CutShort):
        return (
            f"{described(error)}; try again later or from a machine with access to the network "
            "(what was fetched is kept), or use a corpus with `source: local`"
        )
    return "the answer is not a hub's; check HF_ENDPOINT and proxies"
