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


def _fields_at(annotation: Any, path: tuple) -> set[str]:
    """Names of the keys allowed in the section at `path`, as far as the types say."""
    fields = getattr(annotation, "model_fields", None)
    if fields is None:  # a mapping, a union or an Annotated
        inner = getattr(annotation, "__args__", ())
        if getattr(annotation, "__origin__", None) is dict:
            inner, path = inner[1:], path[1:]
        return set().union(*(_fields_at(each, path) for each in inner))
    if not path:
        return set(fields)
    if path[0] in fields:
        return _fields_at(fields[path[0]].annotation, path[1:])
    # A variant of a union, which pydantic names in the path.
    named = "source" in fields and path[0] in fields["source"].annotation.__args__
    return _fields_at(annotation, path[1:]) if named else set()


def describe(error: ValidationError, model: type[BaseModel], given: dict, prefix: str = "") -> str:
    """All problems of a validation as lines `key: what is wrong; what is allowed`."""
    lines = []
    for problem in error.errors():
        path = tuple(step for step in problem["loc"] if step != "[key]")
        shown = _without_tags(path, given)
        key = (prefix + ".".join(map(str, shown))).removesuffix(".")
        if problem["type"] == "extra_forbidden":
            text = f"unknown key{nearest(path[-1], sorted(_fields_at(model, path[:-1])))}"
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
        section = given if isinstance(given, dict) else {}
        if step not in section and step == section.get("source") and index < len(path) - 1:
            continue
        shown.append(step)
        given = section.get(step)
    return shown
