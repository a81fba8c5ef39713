"""Locks on files, which the kernel frees with their process. Standard library only."""

import errno
import fcntl
import logging
from pathlib import Path
from typing import TextIO

MISSING = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # such as on Lustre that is mounted without flock


def lock_file(path: Path) -> TextIO | None:
    """Lock a file, which is made where it isn't there, until what is returned is closed or the process ends.

    Not by filelock: where the file system has no locks, that leaves a file instead, and a killed process's
    would stop all later ones. Here a warning says so, and the file stays unlocked.

    Returns None if another process has the lock. Raises OSError if the file can't be written.
    """
    file = open(path, "w")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        return None
    except OSError as error:
        if error.errno not in MISSING:
            file.close()
            raise
        logging.warning(
            "%s: this file system has no locks (%s), so nothing keeps two jobs from using it at once; ask "
            "for it to be mounted with flock, or see to it that only one job runs",
            path,
            error.strerror,
        )
    return file
