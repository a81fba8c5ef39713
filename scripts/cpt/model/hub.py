"""Snapshots of model repositories on the Hugging Face hub, at a pinned revision."""

import errno
import os
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from cpt.errors import UserError

# Configuration, weights, tokenizer, card. Never code.
PATTERNS = [
    "*.json",
    "*.safetensors",
    "pytorch_model*.bin",
    "tokenizer.model",
    "*.jinja",
    "*.txt",
    "README.md",
]


def snapshot(repo: str, revision: str, cache: Path) -> tuple[Path, dict[str, Any]]:
    """Download `repo` at `revision` into `cache`; return the folder and the facts for the report.

    Raises UserError where access must be asked for, the repository or revision doesn't exist, or the hub
    can't be reached.
    """
    try:
        folder = Path(snapshot_download(repo, revision=revision, cache_dir=cache, allow_patterns=PATTERNS))
    except GatedRepoError:
        raise UserError(
            f"base.repo: {repo} is gated. Accept its licence at https://huggingface.co/{repo} with your "
            "account, make an access token that may read it, and set HF_TOKEN (or run `hf auth login`)"
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"base.revision: {repo} has no revision {revision!r}; give a commit, tag or branch"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"base.repo: the hub has no model {repo!r}, or it is private: check the name, and set HF_TOKEN"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"base.repo: {repo} doesn't fit on the disk of {cache} ({os.strerror(error.errno)}); make "
                "room there, or set TMPDIR to a folder on a larger disk"
            ) from None
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"base.repo: couldn't download {repo}: {why}. Check the network, HF_ENDPOINT and proxy, and that "
            "HF_HUB_OFFLINE isn't set; or bring the folder here and set base.source: local"
        ) from None
    return folder, {"revision": folder.name, "licence": _licence(folder / "README.md")}


def _licence(card: Path) -> str | None:
    """The `license_name` or `license` in the header of a model card."""
    if not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3:
        return None
    try:
        header = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    return (header.get("license_name") or header.get("license")) if isinstance(header, dict) else None
