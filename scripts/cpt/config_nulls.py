"""null removes a key of the config."""

from typing import Any


def without_nulls(value: Any, path: tuple[str, ...] = ()) -> Any:
    """Drop null entries, but for those of a run's own `train`, which lie over the section `train`, and those
    of `filters.repetition`, which take an n-gram's rule away.

    Snakemake hands over the nulls of `--config` as text.
    """
    if not isinstance(value, dict):
        return value
    found = {
        key: None if inner == "null" else without_nulls(inner, (*path, key)) for key, inner in value.items()
    }
    if len(path) == 3 and ((path[0], path[2]) == ("runs", "train") or path[:2] == ("filters", "repetition")):
        return found
    return {key: inner for key, inner in found.items() if inner is not None}
