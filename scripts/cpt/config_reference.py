"""The page of every config key: its type, its value in config.yaml, and what it means.

It is made from the typed model (cpt.config) and the comments of config.yaml.
"""

import re
from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from cpt.config import Config

INTRODUCTION = """\
# Configuration

<!-- Made by `make reference` from the typed model and the comments of config.yaml. -->

`config.yaml` holds the paper's experiment. An overlay (`--configfile experiments/x.yaml`) is merged over it
key by key, and `--config` over both; `null` removes a key. What is wrong is told before any job starts. The
third column is what config.yaml says, or in *italics* the default of a key that isn't there; a key without
either must be set wherever its section is. A count may carry a unit: K, M, B, T (decimal).

Names that you choose stand in `{braces}`.
"""
BOUNDS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
NAMES = {int: "integer", float: "number", str: "text", bool: "true, false", Any: "anything"}


class Comments(dict):
    """The comments of a YAML file by key path: those in the lines right above a key, and behind its value."""

    def __init__(self, text: str):
        super().__init__()
        self._lines = text.splitlines()
        self._read(yaml.compose(text), ())

    def _read(self, node: yaml.Node, path: tuple[str, ...]) -> None:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            inner = (*path, key.value)
            if found := " ".join([*self._above(key), *self._behind(key, value)]):
                self[inner] = found
            self._read(value, inner)

    def _above(self, key: yaml.Node) -> list[str]:
        found: list[str] = []
        line = key.start_mark.line - 1
        indented = " " * key.start_mark.column + "# "
        if self._lines[line + 1][: key.start_mark.column].strip():
            return []  # inside a mapping on one line
        while line >= 0 and self._lines[line].startswith(indented):
            found.insert(0, self._lines[line].strip("# "))
            line -= 1
        return [] if line < 0 else found  # those at the very top are the file's

    def _behind(self, key: yaml.Node, value: yaml.Node) -> list[str]:
        block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        mark = key.end_mark if block else value.end_mark
        found = re.match(r":?,?\s*# (.+)", self._lines[mark.line][mark.column :])
        return [found[1]] if found else []


def type_text(annotation: Any, metadata: tuple = ()) -> str:
    """A type in words, with its bounds."""
    if any(isinstance(each, BeforeValidator) for each in metadata):
        return " ".join(["count", *_bounds(metadata)])
    arguments = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return type_text(annotation.__origin__, (*annotation.__metadata__, *metadata))
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if get_origin(annotation) is dict:
        keys = {"text": "name"}.get(kind := type_text(arguments[0]), kind)
        return f"by {keys}: {type_text(arguments[1])}"
    if get_origin(annotation) is list:
        return f"list of {type_text(arguments[0])}"
    if arguments:  # a union
        known = [type_text(each, metadata) for each in arguments if each is not NoneType]
        return " or ".join(dict.fromkeys([*known, *(["null"] if NoneType in arguments else [])]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return " ".join([NAMES[annotation], *_bounds(metadata)])


def _bounds(metadata: tuple) -> Iterator[str]:
    for each in metadata:
        for inner in getattr(each, "metadata", [each]):  # a pydantic Field inside Annotated holds its own
            if type(inner) in BOUNDS:
                sign, name = BOUNDS[type(inner)]
                yield f"{sign} {getattr(inner, name)}"
            elif isinstance(inner, MinLen):
                yield "not empty"


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a key's type leads to: none, one, or the variants of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in sections_in(inner)]


def _default(field: FieldInfo, path: tuple[str, ...], config: dict) -> str:
    value: Any = config
    for step in path:
        if not isinstance(value, dict) or step not in value:
            if field.is_required():
                return ""
            if isinstance(value := field.default, BaseModel):
                value = value.model_dump()
            return f"*{_shown(value)}*"
        value = value[step]
    inner = sections_in(field.annotation)
    return "" if inner and isinstance(value, dict) and value else f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    if isinstance(value, float) and value and abs(value) < 1e-3:
        return f"{value:.1e}"
    flow = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return flow.removesuffix("\n").removesuffix("\n...")


def _explained(field: FieldInfo, comment: str) -> str:
    """Comment and description; one of them where it says little more than the other."""
    description = field.description or ""
    said = [set(re.findall(r"\w{3,}", part.lower())) for part in (comment, description)]
    common = len(said[0] & said[1])
    if comment and common > 0.5 * len(said[1]):
        description = ""
    elif description and common > 0.5 * len(said[0]):
        comment = ""
    text = "; ".join(part for part in (description, comment) if part)
    return re.sub(r"docs/([a-z-]+\.md)", r"[\1](\1)", text).replace("|", "\\|")


def _at(config: dict, path: tuple[str, ...]) -> Any:
    """What config.yaml has there; an empty mapping if nothing."""
    value: Any = config
    for step in path:
        value = (value.get(step) if isinstance(value, dict) else None) or {}
    return value


def tables(
    model: type[BaseModel],
    path: tuple[str, ...],
    config: dict,
    comments: Comments,
    example: tuple[str, ...],
    shown: set[type[BaseModel]],
) -> Iterator[str]:
    """Lines of a section's table, then those of the sections inside it that weren't shown before.

    `path` is the heading; `example` is where config.yaml has such a section.
    """
    rows, inner = [], []
    for name, field in model.model_fields.items():
        here = (*example, name)
        kind = type_text(field.annotation, tuple(field.metadata))
        explained = _explained(field, comments.get(here, ""))
        rows.append(f"| `{name}` | {kind} | {_default(field, here, config)} | {explained} |")
        for section in sections_in(field.annotation):
            inner.append((section, name, here, field.annotation))
    if path:
        yield f"\n## {'.'.join(path)}\n" if len(path) == 1 else f"\n### {'.'.join(path)}\n"
    if model.__doc__ and path:
        yield " ".join(model.__doc__.split()) + "\n"
    yield from ["| key | type | value | explanation |", "| --- | --- | --- | --- |", *rows]
    for section, name, here, annotation in inner:
        if section in shown:
            continue
        shown.add(section)
        heading, place = (*path, name), here
        if get_origin(annotation) is dict:
            heading, place = (*heading, "{name}"), (*here, next(iter(_at(config, here)), ""))
        if variant := section.model_fields.get("source"):
            kind = get_args(variant.annotation)[0]
            heading = (*heading[:-1], f"{heading[-1]} (source: {kind})")
            place = place if _at(config, place).get("source") == kind else ("",)
        yield from tables(section, heading, config, comments, place, shown)


def reference(config: str) -> str:
    """The page, from the text of config.yaml."""
    lines = tables(Config, (), yaml.safe_load(config), Comments(config), (), set())
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"
