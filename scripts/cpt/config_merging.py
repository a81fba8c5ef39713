"""The merge of config files: which keys `null` removes, and which sections `{}` sets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cpt.config_errors import remedy
from cpt.config_runs import Train
from cpt.config_types import below, counts_keys, keys_of, names_freely, only_numbers


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the contents of config files, later ones over earlier ones, sections key by key."""
    result: dict[str, Any] = {}
    for contents in layers:
        for key, value in contents.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def with_empty_sections(config: dict[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config with the sections that the overlay gives as `{}`; all their keys have the default.

    Snakemake's merge (snakemake.utils.update_config) keeps null if the config had null before.
    """
    whole = dict(config)
    for key, value in overlay.items():
        if isinstance(value, Mapping):
            section = config.get(key)
            whole[key] = with_empty_sections(section if isinstance(section, Mapping) else {}, value)
    return whole


def prepared(value: Any, types: list[Any], path: tuple[Any, ...] = ()) -> Any:
    """Returns a config as the typed model reads it: without the nulls that remove a key.

    Nulls stay if the key is unknown, which is an error. They stay in a run's own `train`, where they override
    the section `train`, and for n-grams, whose rule they remove. true and false become text where only a
    number is allowed, because Python counts them as 1 and 0. Snakemake passes nulls of `--config` as text.

    Args:
        value: the config, or the part of it at `path`.
        types: the types that the model allows there (cpt.config_types).
        path: the keys that lead to the part.
    """
    own_train = _is_own_train(path)
    types = [Train] if own_train else types
    if isinstance(value, bool) and only_numbers(types):
        return str(value).lower()
    if isinstance(value, list):
        return [prepared(inner, below(types, 0), (*path, 0)) for inner in value]
    if not isinstance(value, dict):
        return value
    keys = {key for each in types for key in keys_of(each)}
    section = {}
    for key, inner in value.items():
        removed = _is_null(inner)
        if not removed or own_train or counts_keys(types) or (keys and key not in keys):
            name = str(key) if own_train else key
            section[name] = None if removed else prepared(inner, below(types, key), (*path, key))
    return section


def strange_removals(layers: Sequence[Mapping[str, Any]], types: list[Any]) -> Iterator[str]:
    """Yields a message for each null whose name no earlier layer has: `key: what; the nearest name`.

    Args:
        layers: config.yaml, and the files merged over it, in order.
        types: the types that the model allows.
    """
    for number, layer in enumerate(layers[1:], 1):
        for path in _removed_names(layer, types):
            names = dict.fromkeys(
                key for earlier in layers[:number] for key in _section_at(earlier, path[:-1])
            )
            if path[-1] not in names:
                where, name = ".".join(map(str, path)), str(path[-1])
                yield f"{where}: there is no {name!r} to remove{remedy(name, names)}"


def _is_null(value: Any) -> bool:
    return value is None or value in ("null", "~")


def _is_own_train(path: tuple[Any, ...]) -> bool:
    """Whether the path leads to a run's own `train`, whose keys the typed model doesn't list."""
    return len(path) == 3 and (path[0], path[2]) == ("runs", "train")


def _removed_names(value: Mapping[str, Any], types: list[Any], path: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yields the paths of nulls whose key is a name that the config chooses."""
    types = [Train] if _is_own_train(path) else types
    for key, inner in value.items():
        if _is_null(inner) and names_freely(types):
            yield (*path, key)
        elif isinstance(inner, Mapping):
            yield from _removed_names(inner, below(types, key), (*path, key))


def _section_at(config: Mapping[str, Any], path: tuple[Any, ...]) -> Mapping[str, Any]:
    """Returns the section at a path, or an empty one if the path has no section."""
    for key in path:
        inner = config.get(key)
        config = inner if isinstance(inner, Mapping) else {}
    return config
