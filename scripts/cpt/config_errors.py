"""What is wrong with a config, in words: key, what was given, what is allowed, the nearest known name."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def require_known(name: str, among: Any, where: str, section: str) -> None:
    """Raise ValueError naming the key `where` unless `name` is one of the names in `section`."""
    if name not in among:
        raise ValueError(f"{where}: there is no {name!r} in {section}{nearest(name, among)}")


def nearest(name: str, among: Any) -> str:
    """The end of a message: the known name that is most like `name`, else all known ones."""
    close = difflib.get_close_matches(str(name), [str(key) for key in among], n=1, cutoff=0.6)
    listed = ", ".join(map(str, among)) or "none"
    return f"; did you mean {close[0]!r}?" if close else f"; known: {listed}"


def _fields_at(model: Any, path: tuple) -> list[str]:
    """Names of the keys allowed in the section at `path`, as far as the types tell."""
    for step in path:
        options = _sections(model)
        found = [m.model_fields[step].annotation for m in options if step in m.model_fields]
        if found:
            model = found[0]
        elif named := [m for m in options if m.model_fields.get("source") and step == _source_of(m)]:
            model = named[0]
        elif not options:
            model = _value_type(model)
        else:
            return []
    return sorted({field for option in _sections(model) for field in option.model_fields})


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if getattr(annotation, "__origin__", None) is dict:
        return []
    return [m for inner in getattr(annotation, "__args__", ()) for m in _sections(inner)]


def _source_of(section: type[BaseModel]) -> str:
    return section.model_fields["source"].annotation.__args__[0]


def _value_type(annotation: Any) -> Any:
    return annotation.__args__[1] if getattr(annotation, "__origin__", None) is dict else None


def describe(error: ValidationError, model: type[BaseModel], given: dict, prefix: str = "") -> str:
    """All problems of a validation as lines `key: what is wrong; what is allowed`."""
    lines = []
    for problem in error.errors():
        path = tuple(step for step in problem["loc"] if step != "[key]")
        shown = _without_tags(path, given)
        key = (prefix + ".".join(map(str, shown))).removesuffix(".")
        if problem["type"] == "extra_forbidden":
            text = f"unknown key{nearest(path[-1], _fields_at(model, path[:-1]))}"
        elif problem["type"] == "missing":
            text = "missing; it must be set"
        elif problem["type"] == "value_error":
            text = str(problem["ctx"]["error"])
        else:
            text = f"{problem['msg'][0].lower()}{problem['msg'][1:]}, but {problem['input']!r} was given"
        lines.append(f"{key}: {text}" if key else text)
    return "\n  ".join(lines)


def _without_tags(path: tuple, given: Any) -> list:
    """Drop the steps that pydantic adds for the variants of a union (they aren't keys of the config)."""
    shown = []
    for index, step in enumerate(path):
        inside = isinstance(given, dict) and step in given
        is_tag = (
            not inside and isinstance(given, dict) and step == given.get("source") and index < len(path) - 1
        )
        if is_tag:
            continue
        shown.append(step)
        given = given.get(step) if inside else None if not isinstance(given, list) else given
    return shown
