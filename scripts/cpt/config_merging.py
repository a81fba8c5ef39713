"""Config files over one another: what `null` removes, and what `{}` sets."""

from collections.abc import Mapping
from typing import Any


def merged(*given: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of several config files as one: the later over the earlier, sections key by key."""
    result: dict[str, Any] = {}
    for contents in given:
        for key, value in contents.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def with_empty_sections(config: dict[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the sections that the overlay gives as `{}`, all of whose keys have their default.

    Where the config had null before, Snakemake's merge (snakemake.utils.update_config) leaves it.
    """
    whole = dict(config)
    for key, value in overlay.items():
        if isinstance(value, Mapping):
            section = config.get(key)
            whole[key] = with_empty_sections(section if isinstance(section, Mapping) else {}, value)
    return whole


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
