"""Files of a dataset repository on the Hugging Face hub, at a pinned revision, verified."""

import fnmatch
import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

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
    hash must equal the hub's own record: SHA-256 for large files, git's blob hash for small ones.

    Raises UserError for whatever the user can mend: no access, wrong names, no network, damage.
    """
    repo, revision = source["repo"], source["revision"]
    where = f"corpora.{corpus}: {repo} at {revision}"
    try:
        api = HfApi()
        commit = api.repo_info(repo, repo_type="dataset", revision=revision).sha
        names = api.list_repo_files(repo, repo_type="dataset", revision=commit)
        names = sorted(name for name in names if fnmatch.fnmatchcase(name, source["files"]))
        if shard >= len(names):
            raise UserError(
                f"corpora.{corpus}.shards: {source['shards']} shards are asked for, but {len(names)} files "
                f"of {repo} match {source['files']!r}; lower shards or widen corpora.{corpus}.files"
            )
        name = names[shard]
        if not name.endswith(TABLES + LINES):
            raise UserError(
                f"corpora.{corpus}.files: there is no reader for {name}; "
                f"known endings: {' '.join(TABLES + LINES)}"
            )
        record = api.get_paths_info(repo, [name], repo_type="dataset", revision=commit)[0]
        logging.info("fetching %s of %s at %s (%s bytes)", name, repo, commit, f"{record.size:,}")
        path = Path(hf_hub_download(repo, name, repo_type="dataset", revision=commit, local_dir=folder))
    except GatedRepoError:
        raise UserError(
            f"{where}: access is gated; accept its terms on the hub, then set HF_TOKEN to a token of "
            "that account (or run `hf auth login`)"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{where}: there is no such dataset, or it is private; check corpora.{corpus}.repo and HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"{where}: there is no such revision; set corpora.{corpus}.revision to a commit of it"
        ) from None
    except HFValidationError as error:
        raise UserError(f"corpora.{corpus}.repo: {error}") from None
    except OfflineModeIsEnabled:
        raise UserError(f"{where}: HF_HUB_OFFLINE is set; unset it to download") from None
    except (HTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        raise _unreachable(where, error) from None
    return Fetched(path, name, commit, record.size, _verified(path, record, where))


def _unreachable(where: str, error: Exception) -> UserError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = f"the hub answered {status}" if status else f"the hub can't be reached ({type(error).__name__})"
    return UserError(
        f"{where}: {reason}; try again from a machine with access to the network "
        "(what was fetched is kept), or use a corpus with `source: local`"
    )


def _verified(path: Path, record: Any, where: str) -> str:
    """SHA-256 of a file whose size and hash equal the hub's record; else it is removed."""
    digest = sha256_of(path)
    if record.lfs is not None:
        right = digest == record.lfs.sha256
    else:
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        right = blob.hexdigest() == record.blob_id
    if not right or path.stat().st_size != record.size:
        path.unlink()
        raise UserError(
            f"{where}: {record.path} arrived damaged ({record.size} bytes were announced); it was removed, "
            "run again to fetch it anew"
        )
    return digest
