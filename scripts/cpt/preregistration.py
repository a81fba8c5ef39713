"""A plan registered before its results: its digest, and the runs that had results when it was written."""

import hashlib
import json
from pathlib import Path
from typing import Any

from cpt.errors import DamagedFileError
from cpt.files import read_json


def plan_sha256(plan: dict[str, Any]) -> str:
    """Returns the SHA-256, as hex, of a plan as canonical JSON: sorted keys, no white space, UTF-8."""
    canonical = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_registered(path: Path) -> dict[str, Any]:
    """Read preregistration.json. Raises DamagedFileError if its digest isn't that of its plan."""
    content = read_json(path)
    if plan_sha256(content["plan"]) != content["sha256"]:
        raise DamagedFileError(
            f"{path}: the plan was changed after it was registered (its SHA-256 isn't the file's "
            f"{content['sha256'][:16]}...); restore the file, or delete it and run again, which registers "
            "the plan as it is now"
        )
    return content


def registered_label(content: dict[str, Any] | None) -> str:
    """Returns a figure's label on when the plan was registered. `content` None: it never was."""
    if content is None:
        return "plan not registered before training"
    late = content["runs_with_results"]
    when = f"after results of {', '.join(late)}" if late else "before training"
    return f"plan registered {when}: SHA-256 {content['sha256'][:12]}"
