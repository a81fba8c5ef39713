"""The pages of all config keys: type, value in config.yaml, and meaning.

They are made from the typed model (cpt.config) and the comments of config.yaml.
"""

import json
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema

from cpt.config import Config

MADE = "<!-- Made by `make reference` from the typed model and the comments of config.yaml. -->"
INDEX = f"""\
# Configuration

{MADE}

After this page you can find any key of `config.yaml`: its type, its value in the paper's experiment, and what
it means. The table has the keys of the top level; a link in the column `type` leads to a section's keys.

`config.yaml` holds the paper's experiment. An overlay is a small YAML file that changes a few of its keys:
`--configfile experiments/x.yaml` merges it over `config.yaml`, key by key. `--config` on the command line is
merged over both, and `null` removes a key; where none of that name is there, it is an error. Snakemake checks
all keys before it starts a job. If one is wrong, it stops with the key's path, what was given and what is
allowed.

How to read the tables:

- `value` is what `config.yaml` says, or in *italics* the default of a key that isn't there. A key without
  either must be set wherever its section is.
- A count may carry a unit: K, M, B, T (decimal), such as `400M`.
- `{{name}}` in a heading is a name that you choose.
"""
# For each page: its title, what a reader can do after it, and its top-level sections.
PAGES = {
    "configuration-corpora.md": (
        "Configuration: text",
        "After this page you can name the text to train on, and keep documents out of training.",
        ("corpora", "classifier", "held_out"),
    ),
    "configuration-filters.md": (
        "Configuration: from documents to sequences",
        "After this page you can change which documents are dropped, and how the others become training "
        "sequences.",
        ("filters", "deduplicate", "decontaminate", "packing"),
    ),
    "configuration-base.md": (
        "Configuration: the base model",
        "After this page you can name the base model. `reference_models` has the same keys.",
        ("base", "reference_models"),
    ),
    "configuration-training.md": (
        "Configuration: training and runs",
        "After this page you can change how models are trained, and add runs.",
        ("train", "runs", "advise", "preregister"),
    ),
    "configuration-evaluation.md": (
        "Configuration: evaluation and release",
        "After this page you can change what is scored, and what is passed on.",
        ("evaluate", "release", "chat"),
    ),
}
TABLE = ("| key | type | value | explanation |", "| --- | --- | --- | --- |")
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "gt": ">", "maximum": "≤", "exclusiveMaximum": "<"}
NAMES = {"number": "number", "string": "text", "boolean": "true, false", None: "anything"}
KeyPath = tuple[str, ...]


class Schema(GenerateJsonSchema):
    """JSON Schema, extended by counts and by the type of a mapping's keys."""

    def function_before_schema(self, schema: Any) -> dict[str, Any]:
        kinds = {"int": "count", "float": "number or fraction"}
        inner = schema["schema"]
        return {"type": kinds[inner["type"]]} if inner["type"] in kinds else self.generate_inner(inner)

    def literal_schema(self, schema: Any) -> dict[str, Any]:
        return {"enum": schema["expected"]}

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        return {key: self.generate_inner(schema[key]) for key in ("keys_schema", "values_schema")}


def type_text(schema: dict[str, Any]) -> str:
    """Returns a type in words, with its bounds."""
    if "values_schema" in schema:
        keys = type_text(schema["keys_schema"]).replace("text", "name")
        return f"by {keys}: {type_text(schema['values_schema'])}"
    if "items" in schema:
        return f"list of {type_text(schema['items'])}"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(type_text, schema["anyOf"])))
    if "$ref" in schema or "oneOf" in schema:
        return "section"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    bounds = [f"{sign} {schema[key]}" for key, sign in BOUNDS.items() if key in schema]
    if "minLength" in schema:
        bounds.append("not empty")
    kind = schema.get("type")
    return " ".join([NAMES.get(kind, kind), *bounds])


def _sections_in(schema: dict[str, Any]) -> list[str]:
    """Returns the names of the sections that a key's type leads to: none, one, or a union's variants."""
    return re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema))


def _comment(key: yaml.Node, value: yaml.Node, lines: list[str]) -> str:
    """Returns the comment in the lines directly above a key and after its value."""
    line, column = key.start_mark.line, key.start_mark.column
    indented = " " * column + "# "
    above = list(takewhile(lambda text: text.startswith(indented), reversed(lines[:line])))
    if len(above) == line or lines[line][:column].strip():
        above = []  # the comment is the file's header, or the key is inside a mapping on one line
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    end = key.end_mark if block else value.end_mark
    behind = re.findall(r"^:?,?\s*# (.+)", lines[end.line][end.column :])
    return " ".join([text.strip("# ") for text in reversed(above)] + behind)


def _comments(node: yaml.Node, lines: list[str], path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """The comments of a YAML file by key path."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        inner = (*path, key.value)
        yield inner, _comment(key, value, lines)
        yield from _comments(value, lines, inner)


def _values(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """The values of a config by key path."""
    yield path, value
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from _values(inner, (*path, key))


def _format_value(value: Any) -> str:
    if isinstance(value, float) and value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).splitlines()[0]


def _describe_key(description: str, comment: str) -> str:
    """Returns description and comment, or only one of them if most of the other's words are in it."""
    word_sets = [set(re.findall(r"\w{3,}", part.lower())) for part in (comment, description)]
    common = len(word_sets[0] & word_sets[1])
    if common > 0.5 * len(word_sets[1]):
        description = ""
    elif common > 0.5 * len(word_sets[0]):
        comment = ""
    return _link_pages("; ".join(part for part in (description, comment) if part)).replace("|", "\\|")


def _link_pages(text: str) -> str:
    """Turn the names of pages in a text into links."""
    return re.sub(r"docs/([a-z-]+\.md)(#[a-z-]+)?", r"[\1](\1\2)", text)


class Reference:
    """The tables of all sections, from the text of config.yaml."""

    def __init__(self, config: str):
        self.values = dict(_values(yaml.safe_load(config)))
        self.comments = dict(_comments(yaml.compose(config), config.splitlines()))
        self.model = Config.model_json_schema(schema_generator=Schema)
        self.shown: set[str] = set()

    def _value(self, key: dict[str, Any], path: KeyPath) -> str:
        """Returns the value in config.yaml, else the default."""
        if path not in self.values:
            return f"*{_format_value(key['default'])}*" if "default" in key else ""
        value = self.values[path]
        return "" if isinstance(value, dict) and value and _sections_in(key) else f"`{_format_value(value)}`"

    def index(self) -> Iterator[str]:
        """Yields the lines of the table of top-level keys, in config.yaml's order, linked to their pages."""
        order = list(self.values)
        pages = {key: page for page, (_, _, keys) in PAGES.items() for key in keys}
        keys = self.model["properties"].items()
        for name, key in sorted(keys, key=lambda item: order.index((item[0],))):
            row = self._row(name, key, (name,))
            yield row.replace("section", f"[section]({pages[name]})", 1) if _sections_in(key) else row

    def page(self, names: tuple[str, ...]) -> Iterator[str]:
        """Yields the lines of the tables of some top-level sections."""
        for name in names:
            yield from self._sections(name, self.model["properties"][name], (), ())

    def _row(self, name: str, key: dict[str, Any], here: KeyPath) -> str:
        explained = _describe_key(key.get("description", ""), self.comments.get(here, ""))
        return f"| `{name}` | {type_text(key)} | {self._value(key, here)} | {explained} |"

    def _tables(self, section: dict[str, Any], path: KeyPath, example: KeyPath) -> Iterator[str]:
        """Yields the lines of a section's table, then of the sections inside it that weren't shown before.

        `path` is the heading; `example` is the path of such a section in config.yaml.
        """
        inside = [part for part in path[1:] if not part.startswith("{name}")]
        yield f"\n{'###' if inside else '##'} {'.'.join(path)}\n"
        if "description" in section:
            yield _link_pages(" ".join(section["description"].split())) + "\n"
        yield from TABLE
        for name, key in section["properties"].items():
            yield self._row(name, key, (*example, name))
        for name, key in section["properties"].items():
            yield from self._sections(name, key, path, example)

    def _sections(self, name: str, key: dict[str, Any], path: KeyPath, example: KeyPath) -> Iterator[str]:
        """Yields the tables of the sections that a key leads to, each once."""
        for inner in _sections_in(key):
            if inner not in self.shown:
                self.shown.add(inner)
                yield from self._inner(self.model["$defs"][inner], key, (*path, name), (*example, name))

    def _inner(
        self, section: dict[str, Any], key: dict[str, Any], path: KeyPath, example: KeyPath
    ) -> Iterator[str]:
        """Yields the tables of one section that `key` leads to."""
        if "values_schema" in key:
            path, example = (*path, "{name}"), (*example, next(iter(self.values.get(example) or {}), ""))
        if "source" in section["properties"]:
            kind = section["properties"]["source"]["enum"][0]
            path = (*path[:-1], f"{path[-1]} (source: {kind})")
            example = example if (self.values.get(example) or {}).get("source") == kind else ("",)
        return self._tables(section, path, example)


def reference(config: str) -> dict[str, str]:
    """Returns the pages by file name, made from the text of config.yaml."""
    made = Reference(config)
    pages = {"configuration.md": "\n".join((INDEX, *TABLE, *made.index())) + "\n"}
    for page, (title, purpose, names) in PAGES.items():
        reading = "[Configuration](configuration.md) says how to read the tables."
        opening = f"# {title}\n\n{MADE}\n\n{purpose}\n{reading}"
        pages[page] = "\n".join((opening, *made.page(names))) + "\n"
    return pages
