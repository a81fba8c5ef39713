"""The origin of a result: code, settings, packages, machine, time. Standard library only."""

import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cpt import command
from cpt.digest import settings_digest

PACKAGES = ("snakemake", "torch", "transformers", "deepspeed", "datasets", "lm_eval", "tokenizers")
PACKAGES += ("safetensors", "numpy", "pandas", "pyarrow", "matplotlib", "xxhash", "typst", "gguf")
PACKAGES += ("gigatoken", "huggingface_hub", "numba", "sentencepiece")


@cache
def git_commit() -> str:
    """Returns the checked-out commit, with `+dirty` if tracked files differ; "unknown" outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Returns the installed versions of Python and of the packages that results depend on."""
    package_versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            package_versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return package_versions


def hardware() -> dict[str, Any]:
    """Returns the processor, the cores usable by this process, and GPUs if torch is loaded and sees any."""
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = model[1] if model else platform.processor() or platform.machine()
    facts: dict[str, Any] = {"processor": processor, "cores": len(os.sched_getaffinity(0))}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def _process_seconds() -> float:
    """Returns the seconds since this process started."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - started


def provenance(settings: Any, seeds: dict[str, int] | None = None) -> dict[str, Any]:
    """Returns the block that every result JSON has under `provenance`.

    `settings` are the stage's config values (JSON values and sections of the config).
    `wall_seconds` counts from the start of the process.
    """
    return {
        "settings_digest": settings_digest(settings),
        "code_digest": command.code,
        "git_commit": git_commit(),
        "versions": versions(),
        "hardware": hardware(),
        "seeds": seeds or {},
        "wall_seconds": round(_process_seconds(), 3),
    }
