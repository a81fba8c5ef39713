"""Messages about mistakes in a config: key, what was given, what is allowed, the nearest known name."""

import difflib
from datetime import date
from typing import Any

from pydantic import BaseModel, ValidationError

from cpt.config_types import below, keys_of, types_of_source
from cpt.config_values import PATTERN_IN_WORDS

SHOULD_BE = "input should be "
Keys = tuple[str, ...]


def require_known(name: str, among: Any, where: str, section: str) -> None:
    """Raise ValueError naming the key `where` unless `name` is one of the names in `section`."""
    if name not in among:
        raise ValueError(f"{where}: there is no {name!r} in {section}{nearest(name, among)}")


def nearest(name: str, among: Any) -> str:
    """Returns the end of a message: the known name closest to `name`, else all known names."""
    close = difflib.get_close_matches(str(name), [str(key) for key in among], n=1, cutoff=0.6)
    listed = ", ".join(map(str, among)) or "none"
    return f"; did you mean {close[0]!r}?" if close else f"; known: {listed}"


def remedy(key: Any, among: Any) -> str:
    """Returns the end of a message about an unknown key."""
    if str(key).isdecimal():  # YAML reads {tokens: 500,000} as two keys
        return "; write numbers without commas, such as 500_000"
    return nearest(key, among)


def describe(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """Returns all problems of a validation as lines `key: what is wrong; what is allowed`."""
    groups: dict[Keys, list[dict[str, Any]]] = {}
    for problem in error.errors():
        keys, section, variant = _place(problem, model)
        groups.setdefault(keys, []).append({**problem, "section": section, "variant": variant})
    lines = []
    for keys, problems in groups.items():
        inside = any(other[: len(keys)] == keys and other != keys for other in groups)
        if inside and all(problem["variant"] for problem in problems):
            continue  # the problem inside the intended variant is reported instead
        key = (prefix + ".".join(keys)).removesuffix(".")
        text = _text(keys, problems)
        lines.append(f"{key}: {text}" if key else text)
    return "\n  ".join(lines)


def _place(problem: Any, model: type[BaseModel]) -> tuple[Keys, list[Any], bool]:
    """Returns a problem's keys, the types of the section with the last key, and whether the problem belongs
    to one variant of a union. pydantic names the variant among the keys."""
    types: list[Any] = [model]
    keys, section, steps = [], types, iter(problem["loc"])
    for step in steps:
        if len(types) > 1:
            types = types_of_source(types, step)
            if (step := next(steps, None)) is None:
                return tuple(keys), section, True
        if step == "[key]":
            keys[-1] = str(problem["input"])
        else:
            keys.append(str(step))
            section, types = types, below(types, step)
    if problem["type"].startswith("union_tag"):
        keys.append("source")
    return tuple(keys), section, False


def _text(keys: Keys, problems: list[dict[str, Any]]) -> str:
    """Returns what is wrong with one key; each variant of a union may report a problem with it."""
    first = problems[0]
    if first["type"] in ("extra_forbidden", "invalid_key"):
        names = {key for each in first["section"] for key in keys_of(each)}
        return f"unknown key{remedy(keys[-1], sorted(names))}"
    if first["type"] == "union_tag_invalid":
        return f"expected {first['ctx']['expected_tags']}, but {first['ctx']['tag']!r} was given"
    if first["type"] in ("missing", "union_tag_not_found"):
        return "missing; it must be set"
    if own := [str(problem["ctx"]["error"]) for problem in problems if problem["type"] == "value_error"]:
        return own[0]
    allowed = list(dict.fromkeys(map(_allowed, problems)))
    others = [text.removeprefix(SHOULD_BE) for text in allowed[1:]]
    value = first["input"]
    shown = str(value) if isinstance(value, date) else repr(value)
    text_expected = any(problem["type"] == "string_type" for problem in problems)
    quotes = "; put it in quotes" if text_expected and isinstance(value, int | float | date) else ""
    return f"{' or '.join([allowed[0], *others])}, but {shown} was given{quotes}"


def _allowed(problem: dict[str, Any]) -> str:
    if words := PATTERN_IN_WORDS.get(problem.get("ctx", {}).get("pattern")):
        return f"expected {words}"
    if problem["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "expected keys with values, such as {key: value}"
    text, _, _ = problem["msg"].partition(", unable to ")
    return text[0].lower() + text[1:]
