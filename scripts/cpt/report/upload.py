"""Upload of a released folder to the Hugging Face hub, by its own client."""

import hashlib
import re
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, RepoFile, RepoFolder, errors, get_token
from huggingface_hub.utils import disable_progress_bars

from cpt.errors import UserError
from cpt.files import sha256_of
from cpt.report.model_card import license_fields

NO_DERIVATIVES = re.compile(r"cc-by(-nc)?-nd\b")
# Advice on an answer of the hub, without the answer's own text, which may quote the token.
REFUSED = (
    "{} isn't allowed with this token; set HF_TOKEN to one with write access to {}, and accept "
    "its terms on the hub if it has any"
)


def upload(
    folder: Path, run: str, repo: str, private: bool, branch: str, licence: str | None
) -> dict[str, Any]:
    """Commit the files that differ to a model repository; create the repository if it doesn't exist.

    Other files of the repository stay. The commit's message names the run and the digest of all files.

    Args:
        folder: model and card.
        run: its name, for the message.
        repo: OWNER/NAME.
        private: whether a new repository is private.
        branch: to commit to; created if it doesn't exist.
        licence: of the base model; None: not known.

    Returns:
        repo, branch, commit, `uploaded` (names; empty if nothing differed), `files` (SHA-256 by name).

    Raises:
        UserError: the licence isn't known or forbids it, there is no token, or the hub refuses.
    """
    _require_licence(licence)
    if get_token() is None:
        raise UserError(
            "push: no token for the hub; set HF_TOKEN to one with write access "
            "(https://huggingface.co/settings/tokens), or run `hf auth login`"
        )
    disable_progress_bars()
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
    digest = hashlib.sha256("".join(f"{value}  {name}\n" for name, value in files.items()).encode())
    doing = f"creating or changing {repo}"
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if branch != "main":
            api.create_branch(repo, branch=branch, exist_ok=True)
        there = {entry.path: entry for entry in api.get_paths_info(repo, list(files), revision=branch)}
        missing = [name for name in files if not _same(there.get(name), folder / name, files[name])]
        if missing:
            doing = f"uploading to {repo}"
            message = f"{run}: {digest.hexdigest()[:16]}"
            commit = api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                revision=branch,
                commit_message=message,
                allow_patterns=missing,
            ).oid
        else:
            commit = api.repo_info(repo, revision=branch).sha
    except (httpx2.HTTPError, errors.HfHubHTTPError, errors.OfflineModeIsEnabled, ValueError) as error:
        raise UserError(f"push: {_advice(error, doing, repo)}") from None
    return {"repo": repo, "branch": branch, "commit": commit, "uploaded": missing, "files": files}


def _require_licence(licence: str | None) -> None:
    if license_fields(licence, None)["license"] == "unknown":
        raise UserError(
            "push: the licence of the base model isn't known, so what is made from it can't be passed on; "
            "find it out, and set base.license"
        )
    if NO_DERIVATIVES.search(licence.lower()):
        raise UserError(
            f"push: the base model's licence, {licence}, forbids passing on changed versions; if that is "
            "wrong, set base.license"
        )


def _same(entry: RepoFile | RepoFolder | None, path: Path, sha256: str) -> bool:
    """Whether the hub's entry has the content of the file at `path`."""
    if not isinstance(entry, RepoFile):
        return False
    if entry.lfs is not None:
        return entry.lfs.sha256 == sha256
    content = path.read_bytes()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _advice(error: Exception, doing: str, repo: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or isinstance(error, errors.RepositoryNotFoundError):
        return REFUSED.format(doing, repo)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it to upload"
    if isinstance(error, errors.HFValidationError):
        return f"release.repo: {repo!r} is no name that the hub allows"
    if status is not None:
        return f"{doing} failed: the hub answered {status}; try again later"
    return f"{doing} failed ({type(error).__name__}); check network, HF_ENDPOINT and HF_TOKEN, and try again"
