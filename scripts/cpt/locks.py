"""Locks on files, which the kernel frees when their process ends, and Snakemake's locks of its outputs.

Standard library only at import.
"""

import errno
import fcntl
import logging
import shutil
from pathlib import Path
from typing import TextIO

MISSING = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # such as on Lustre that is mounted without flock


def lock_file(path: Path) -> TextIO | None:
    """Lock a file, created if missing, until the returned file is closed or the process ends.

    filelock isn't used: on a file system without locks it leaves a file instead, and a killed process's file
    would stop all later processes. Here such a file system causes a warning, and the file stays unlocked.

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


def keep_locks_of_others() -> None:
    """Change Snakemake in this process: at its end it removes its own locks, not those of another workflow
    in the same folder. `--unlock` still removes all.
    """
    from snakemake.persistence.file import FilePersistence

    def delete_own_locks(persistence: FilePersistence) -> None:
        for lock in persistence._lockfile.values():
            Path(lock).unlink(missing_ok=True)
        persistence._lockfile.clear()

    def delete_all_locks(persistence: FilePersistence) -> None:
        shutil.rmtree(persistence._lockdir, ignore_errors=True)

    FilePersistence.cleanup_locks = delete_all_locks
    FilePersistence._delete_locks = delete_own_locks
