"""Files of a dataset repository on the Hugging Face hub, at a pinned revision, verified.

Names, sizes, hashes, addresses, access and redirects are the official client's business. The loop over a
file's bytes is ours (cpt.corpus.remote): the client begins a file anew in each process, and holds back up to
10 MB that a broken connection then loses.
"""

import fnmatch
import hashlib
import logging
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import httpx2
from huggingface_hub import HfApi, RepoFile, hf_hub_url
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers

from cpt.corpus.remote import CutShort, described, patiently, status_of, stream_file
from cpt.corpus.sources import LINES, TABLES
from cpt.errors import UserError
from cpt.files import sha256_of


class Fetched(NamedTuple):
    """A file of the hub on this disk, verified."""

    path: Path
    name: str
    revision: str
    size: int
    sha256: str


def fetch_hub_file(source: dict[str, Any], corpus: str, shard: int, folder: Path) -> Fetched:
    """Download file number `shard` of those that match, into `folder`, and verify it.

    `source` is the corpus's entry in the config. Patterns mean what they mean to the hub's own client
    (`*` matches "/" as well). A download that was cut off goes on from what lies in `folder`. Size and
    hash must equal the hub's own record: SHA-256 for large files, git's blob hash for small ones. Bytes
    that don't are fetched once more, from the beginning.

    Raises UserError for whatever the user can mend: no access, wrong names, no network, damage.
    """
    repo, revision = source["repo"], source["revision"]
    where = f"corpora.{corpus}: {repo} at {revision}"
    try:
        api = HfApi()
        info = patiently(where, lambda: api.repo_info(repo, repo_type="dataset", revision=revision))
        files = patiently(where, lambda: _matching(api, repo, info.sha, source["files"]))
        record = _chosen(files, source, corpus, shard)
        _log_estimate(files, info.card_data, source, where)
        url = hf_hub_url(repo, record.path, repo_type="dataset", revision=info.sha, endpoint=api.endpoint)
        path, digest = _verified_file(url, record, folder, f"corpora.{corpus}: {record.path}")
    except (httpx2.HTTPError, HfHubHTTPError, OfflineModeIsEnabled, ValueError, CutShort) as error:
        # The client's errors quote the server, which may have quoted the token: they end here.
        raise UserError(f"{where}: {_advice(error, corpus)}") from None
    return Fetched(path, record.path, info.sha, record.size, digest)


def _matching(api: HfApi, repo: str, commit: str, pattern: str) -> list[RepoFile]:
    """The hub's records of all files that match, sorted; only the pattern's fixed folder is listed."""
    fixed = pattern[: min((pattern.find(sign) for sign in "*?[" if sign in pattern), default=len(pattern))]
    folder = fixed.rpartition("/")[0] or None
    try:
        entries = list(api.list_repo_tree(repo, folder, recursive=True, repo_type="dataset", revision=commit))
    except EntryNotFoundError:
        entries = []
    found = [entry for entry in entries if isinstance(entry, RepoFile)]
    return sorted(
        (entry for entry in found if fnmatch.fnmatchcase(entry.path, pattern)), key=lambda entry: entry.path
    )


def _chosen(files: list[RepoFile], source: dict[str, Any], corpus: str, shard: int) -> RepoFile:
    if not files:
        raise UserError(
            f"corpora.{corpus}.files: no file of {source['repo']} at {source['revision']} matches "
            f"{source['files']!r}; compare it with the repository's list of files"
        )
    if shard >= len(files):
        raise UserError(
            f"corpora.{corpus}.shards: {source['shards']} shards are asked for, but {len(files)} files "
            f"of {source['repo']} match {source['files']!r}; lower shards or widen corpora.{corpus}.files"
        )
    name = files[shard].path
    if not name.endswith(TABLES + LINES):
        raise UserError(
            f"corpora.{corpus}.files: there is no reader for {name}; "
            f"known endings: {' '.join(TABLES + LINES)}"
        )
    return files[shard]


def _log_estimate(files: list[RepoFile], card: Any, source: dict[str, Any], where: str) -> None:
    asked = files[: source["shards"]]
    total, available = (sum(file.size for file in some) for some in (asked, files))
    rows = _rows_on_card(card, {file.path for file in files})
    estimate = f", about {rows * total / max(1, available):,.0f} rows" if rows else ""
    logging.info(
        "%s: %s of %s matching files are asked for, %s of %s bytes%s",
        *(where, len(asked), len(files), f"{total:,}", f"{available:,}", estimate),
    )


def _rows_on_card(card: Any, names: set[str]) -> int | None:
    """Rows of the first configuration on the dataset's card that holds these files, if the card counts them.

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
        pass  # a card is free text: without the counts, no estimate
    return None


def _verified_file(url: str, record: RepoFile, folder: Path, what: str) -> tuple[Path, str]:
    """The file and its SHA-256. Its name on disk has the hash, so that other bytes are never gone on with."""
    expected = record.lfs.sha256 if record.lfs is not None else record.blob_id
    path = folder / f"{expected}-{PurePosixPath(record.path).name}"
    for left in folder.glob("*"):  # of another revision or pattern
        if left != path:
            left.unlink()
    for last in (False, True):
        stream_file(url, build_hf_headers(), path, record.size, what)
        digest = sha256_of(path)
        if (_blob_hash(path) if record.lfs is None else digest) == expected:
            return path, digest
        path.unlink()
        if not last:
            logging.warning("%s: the bytes don't have the hash that the hub states; fetching them anew", what)
    raise UserError(
        f"{what}: it arrived damaged twice (the hub states {record.size:,} bytes with the hash {expected}); "
        "it was removed; look for a proxy or mirror between here and the hub, then run again"
    )


def _blob_hash(path: Path) -> str:
    """Git's hash of a file, which the hub states for files that git itself holds."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _advice(error: Exception, corpus: str) -> str:
    """What went wrong and what to do about it; nothing of the server's own text."""
    status = status_of(error)
    if isinstance(error, GatedRepoError):
        return (
            "access is gated; accept its terms on the hub, then set HF_TOKEN to a token of that account "
            "(or run `hf auth login`)"
        )
    if isinstance(error, DisabledRepoError):
        return "the hub has disabled this dataset; use another one"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no such dataset, or it is private; check corpora.{corpus}.repo and HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return f"there is no such revision; set corpora.{corpus}.revision to a commit of it"
    if isinstance(error, EntryNotFoundError):
        return "the hub lists the file but doesn't have it; set another revision"
    if status in (401, 403):
        return f"the hub refuses access ({status}); set HF_TOKEN to a token that may read it, or unset it"
    if isinstance(error, HFValidationError):
        return f"corpora.{corpus}.repo must read owner/name, with letters, digits, '-', '_' and '.'"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it to download"
    if isinstance(error, httpx2.LocalProtocolError | UnicodeError):
        return "the request can't be sent; look for line ends or unusual characters in HF_TOKEN"
    if isinstance(error, httpx2.HTTPError | HfHubHTTPError | CutShort):
        return (
            f"{described(error)}; try again later or from a machine with access to the network "
            "(what was fetched is kept), or use a corpus with `source: local`"
        )
    return "the answer is not a hub's; check HF_ENDPOINT and proxies"
