"""Files on this disk by patterns. Without heavy imports: every start of Snakemake uses it."""

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from cpt.corpus.readers import format_of, require_readers
from cpt.errors import UserError

# What systems and office programs leave in folders. (Patterns skip names that begin with a dot.)
_LITTER = re.compile(r"Thumbs\.db|desktop\.ini|~\$.*|\._.*", re.IGNORECASE)


def matching_files(patterns: Iterable[str], key: str, readable: bool = True) -> list[str]:
    """All files that match, sorted. A part of a pattern that is there by just that name is a name.

    Args:
        patterns: globs, relative to the working directory; `**` stands for any folders.
        key: of the config, for messages.
        readable: whether all files must have endings that are read.

    Raises:
        UserError: no file matches, a folder is named where files are expected, or some files have no reader.
    """
    patterns = list(patterns)
    paths = {path for pattern in patterns for path in glob.glob(_literal(pattern), recursive=True)}  # noqa: PTH207
    folders = {path for path in paths if Path(path).is_dir()}
    files = {str(Path(path)) for path in paths - folders if not _LITTER.fullmatch(Path(path).name)}
    named = {Path(pattern) for pattern in patterns}
    parents = {folder for file in files for folder in Path(file).parents}
    for folder in sorted(map(Path, folders)):
        # `**` matches folders as well as what is in them. A folder of part files has a file's ending.
        parts = format_of(folder.name) is not None and folder not in parents
        if folder in named or parts:
            inside = folder / "**" / (f"*{folder.suffix}" if parts else "*")
            raise UserError(f"{key}: {folder} is a folder; name the files in it, as in {inside}")
    if patterns and not files:
        raise UserError(
            f"{key}: no file matches {', '.join(patterns)} (relative to {Path.cwd()}); fix the pattern or "
            "put the files there"
        )
    if readable:
        require_readers(sorted(files), key)
    return sorted(files)


def _literal(pattern: str) -> str:
    """A pattern with brackets escaped in those parts that are names of files or folders."""
    parts: list[str] = []
    for part in pattern.split("/"):
        # `*` and `?` match themselves; brackets don't.
        before = "/".join([*parts, ""]) or "./"
        folders = glob.iglob(before, recursive=True) if "[" in part else ()  # noqa: PTH207
        named = any((Path(folder) / part).exists() for folder in folders)
        parts.append(part.replace("[", "[[]") if named else part)
    return "/".join(parts)
