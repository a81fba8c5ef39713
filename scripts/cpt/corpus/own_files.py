"""Finds files on this disk by patterns. Without heavy imports, since every start of Snakemake uses it."""

# There may be 100,000 files, and making a Path takes longer than looking up a file.
# ruff: noqa: PTH100, PTH111, PTH112, PTH113, PTH114, PTH116, PTH118, PTH119

import errno
import functools
import heapq
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from fnmatch import translate
from itertools import chain
from pathlib import Path

from cpt.corpus.readers import SHOWN, format_of, require_readers
from cpt.errors import UserError

# Files that systems and office programs leave in folders. (Patterns skip names that begin with a dot.)
_LITTER = re.compile(r"Thumbs\.db|desktop\.ini|~\$.*|\._.*", re.IGNORECASE)
_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")  # Python's stand-ins for bytes of a name that aren't UTF-8
_SYSTEM_FOLDER = "lost+found"  # of a disk, readable by root only
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
# Why a path can't be read, and the remedy; other faults have the system's own message.
_DENIED = f"with {os.strerror(errno.EACCES)!r}"
_NO_TARGET, _NO_FILE, _NAME = "linked to nothing", "neither file nor folder", "not named in UTF-8"
_REMEDIES = {
    _DENIED: "allow reading (chmod -R u+rX FOLDER)",
    _NO_TARGET: "remove the links",
    _NO_FILE: "move away what is no file",
    _NAME: "rename the files (convmv -r -f cp1252 -t utf8 --notest FOLDER)",
}
Faults = defaultdict[str, set[str]]  # {fault: paths}


def matching_files(patterns: Iterable[str], key: str, readable: bool = True) -> list[str]:
    """All files that match, sorted. A pattern's part with `[` is no wildcard if a path has just that name.

    A file that is also reached through links is listed once.

    Args:
        patterns: globs, relative to the working directory; `**` stands for any folders, `~` for home.
        key: the config's key, for messages.
        readable: whether all files must have an ending with a reader.

    Raises:
        UserError: no file matches, a pattern names a folder, some files have no reader, or some can't be
            opened: links to nothing, no permission, pipes, names that aren't UTF-8.
    """
    patterns = list(map(os.path.expanduser, patterns))
    faults: Faults = defaultdict(set)
    paths = {path for pattern in patterns for path in _matches(pattern, faults)}
    folders, files = _separate_folders(paths, faults)
    _refuse_unreadable(faults, key)
    _refuse_folders(folders, files, patterns, key)
    if patterns and not files:
        raise UserError(
            f"{key}: no file matches {', '.join(patterns)} (relative to {Path.cwd()}); fix the pattern or "
            "put the files there"
        )
    names = sorted(_drop_duplicates(files))
    if readable:
        require_readers(names, key)
    return names


def count_files(patterns: Iterable[str], most: int) -> int:
    """The number of matching files, up to `most`. Checks nothing, and lists no more folders than needed."""
    files: set[str] = set()
    faults: Faults = defaultdict(set)
    for path in chain.from_iterable(_matches(os.path.expanduser(pattern), faults) for pattern in patterns):
        if not _LITTER.fullmatch(os.path.basename(path)) and os.path.isfile(path):
            files.add(os.path.realpath(path))
            if len(files) == most:
                break
    return len(files)


# ------------------------------------------------------------------------------------------- patterns
def _matches(pattern: str, faults: Faults) -> Iterator[str]:
    """All paths that match, one by one."""
    paths: Iterable[str] = [""]
    parts = Path(pattern).parts
    for part in (*parts, "*") if parts[-1:] == ("**",) else parts:
        if "[" in part:
            paths = list(paths)
            literal = any(os.path.lexists(os.path.join(path, part)) for path in paths)
        else:
            literal = not re.search(r"[*?]", part)
        step = _find_named if literal else _walk_folders if part == "**" else _match_inside
        paths = step(paths, part, faults)
    return filter(os.path.isdir, paths) if pattern.endswith("/") else filter(None, paths)


def _find_named(folders: Iterable[str], name: str, faults: Faults) -> Iterator[str]:
    """The paths with this name in the folders."""
    for folder in folders:
        path = os.path.join(folder, name)
        try:
            os.lstat(path)
        except ValueError:  # not a possible name
            continue
        except OSError as error:
            _note(error, folder, faults)
            continue
        yield path


def _match_inside(folders: Iterable[str], part: str, faults: Faults) -> Iterator[str]:
    """The paths in the folders whose name matches."""
    fits = re.compile(translate(part)).match
    for folder in folders:
        for entry in _list_folder(folder, faults):
            if fits(entry.name) and (part[0] == "." or entry.name[0] != "."):
                yield os.path.join(folder, entry.name)


def _walk_folders(tops: Iterable[str], _: str, faults: Faults) -> Iterator[str]:
    """These folders and all folders in them, each once; through a link only if there is no other way."""
    entered = set()
    waiting = [(os.path.islink(top), top.count("/"), top, os.path.realpath(top)) for top in tops]
    heapq.heapify(waiting)
    while waiting:
        linked, depth, folder, real = heapq.heappop(waiting)
        if real in entered:
            continue
        entered.add(real)
        yield folder
        for entry in _list_folder(folder, faults):
            path = os.path.join(folder, entry.name)
            if entry.name[0] == ".":
                continue
            if not entry.is_symlink():
                if entry.is_dir():
                    heapq.heappush(waiting, (linked, depth + 1, path, os.path.join(real, entry.name)))
            elif os.path.isdir(path):
                heapq.heappush(waiting, (True, depth + 1, path, os.path.realpath(path)))


def _list_folder(folder: str, faults: Faults) -> list[os.DirEntry]:
    """The entries of a folder; none if it can't be listed."""
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except OSError as error:
        if os.path.basename(folder) != _SYSTEM_FOLDER:
            _note(error, folder, faults)
        return []


# --------------------------------------------------------------------------------------------- checks
def _note(error: OSError, path: str, faults: Faults) -> None:
    """Record a path that can't be opened as a fault; a missing path isn't one."""
    if error.errno not in _ABSENT:
        faults[f"with {os.strerror(error.errno or 0)!r}"].add(path or ".")


def _separate_folders(paths: Iterable[str], faults: Faults) -> tuple[list[str], dict[str, str]]:
    """The folders among the paths, and the files as {path: path without links}."""
    folders, files = [], {}
    real_folder = functools.cache(os.path.realpath)
    for path in paths:
        folder, name = os.path.split(path)
        if _LITTER.fullmatch(name):
            continue
        try:
            mode = os.lstat(path).st_mode
            if linked := stat.S_ISLNK(mode):
                mode = os.stat(path).st_mode
        except OSError as error:
            if error.errno in _ABSENT:
                faults[_NO_TARGET].add(path)
            _note(error, path, faults)
            continue
        if stat.S_ISDIR(mode):
            folders.append(path)
        elif not stat.S_ISREG(mode):
            faults[_NO_FILE].add(path)
        elif not os.access(path, os.R_OK):
            faults[_DENIED].add(path)
        elif _NOT_UTF8.search(path):
            faults[_NAME].add(path)
        else:
            files[path] = os.path.realpath(path) if linked else os.path.join(real_folder(folder), name)
    return folders, files


def _drop_duplicates(files: dict[str, str]) -> Iterable[str]:
    """One path for each file: the one without links, else the one with the fewest parts."""
    if len(set(files.values())) == len(files):
        return files
    kept: dict[str, str] = {}
    for path in sorted(files, key=lambda path: (os.path.abspath(path) != files[path], path.count("/"), path)):
        kept.setdefault(files[path], path)
    return kept.values()


def _refuse_unreadable(faults: Faults, key: str) -> None:
    if not faults:
        return
    listed, remedies = [], []
    for fault, paths in sorted(faults.items(), key=lambda item: (-len(item[1]), item[0])):
        shown = [path if path.isprintable() else ascii(path) for path in sorted(paths)[:SHOWN]]
        more = ", ..." if len(paths) > SHOWN else ""
        listed.append(f"{len(paths):,} {fault} ({', '.join(shown)}{more})")
        remedies += [_REMEDIES[fault]] if fault in _REMEDIES else []
    raise UserError(
        f"{key}: can't read {', '.join(listed)}; {', '.join([*remedies, 'or narrow the pattern'])}"
    )


def _refuse_folders(folders: list[str], files: dict[str, str], patterns: list[str], key: str) -> None:
    """Refuse folders that a pattern names, or with a file's ending (part files); `**` may match others."""
    parted = {folder for folder in folders if format_of(os.path.basename(folder)) is not None}
    within = {Path(file).parent for file in files.values()} if parted else set()
    above = {parent for folder in within for parent in (folder, *folder.parents)}
    pattern_paths = {Path(pattern) for pattern in patterns}
    for folder in sorted(map(Path, folders)):
        parts = str(folder) in parted and Path(os.path.realpath(folder)) not in above
        if folder in pattern_paths or parts:
            inside = folder / "**" / (f"*{folder.suffix}" if parts else "*")
            raise UserError(f"{key}: {folder} is a folder; name the files in it, as in {inside}")
