"""Reads documentation from the source of installed Python packages, without importing them.

One document per module, per class with its methods, per function, per text added from outside
(`add_newdoc`, `_docstring = ...`), and per topic of Python's language reference.
"""

import ast
import importlib.util
import inspect
import logging
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cpt.corpus.documents import Document
from cpt.corpus.reflow import reflow
from cpt.errors import UserError

STANDARD_LIBRARY = "python"
# Tests aren't documentation, and vendored copies belong to another package. numpy has distutils only up to
# Python 3.11; it is skipped so that the demo's text is the same under all versions.
SKIPPED_FOLDERS = {
    "test", "tests", "idle_test", "site-packages", "dist-packages", "lib-dynload", "__pycache__", "_vendor",
    "_vendored", "extern", "externals", "_bundled", "distutils",
}  # fmt: skip
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class SourceFile(NamedTuple):
    """A Python file: its path, its dotted module name, and its address."""

    path: Path
    module: str
    url: str


def package_root(name: str, corpus: str) -> Path:
    """The folder (or single file) of an installed package; nothing is imported.

    Raises UserError, naming `corpora.{corpus}.packages`, if there is no such package with Python source.
    """
    if name == STANDARD_LIBRARY:
        return Path(sysconfig.get_path("stdlib"))
    where = f"corpora.{corpus}.packages: {name!r}"
    if not name.isidentifier():
        raise UserError(f"{where} is not an import name such as numpy or sklearn (no dots, no versions)")
    try:
        specification = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        specification = None
    if specification is None:
        raise UserError(f"{where} is not installed in this environment; install it or take it off the list")
    if specification.submodule_search_locations:
        return Path(next(iter(specification.submodule_search_locations)))
    if not specification.has_location or not str(specification.origin).endswith(".py"):
        raise UserError(f"{where} has no Python source to read; take it off the list")
    return Path(specification.origin)


def source_files(packages: list[str], corpus: str) -> list[SourceFile]:
    """All Python files of the packages, in the order of the list and sorted within a package."""
    sources = []
    for package in dict.fromkeys(packages):
        root = package_root(package, corpus)
        files = [root] if root.is_file() else list(_python_files(root))
        base, prefix = (root, f"{STANDARD_LIBRARY}/") if package == STANDARD_LIBRARY else (root.parent, "")
        for path in sorted(files):
            inside = path.relative_to(base)
            parts = inside.with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
            sources.append(SourceFile(path, module, prefix + inside.as_posix()))
    return sources


def _python_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
        for name in files:
            if name.endswith(".py") and not name.startswith("test_") and name != "conftest.py":
                yield Path(folder, name)


def documents_of(source: SourceFile) -> Iterator[Document]:
    """The documents of one Python file, in the order of its definitions; none if it doesn't parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source.path.read_bytes())
    except (SyntaxError, ValueError, RecursionError) as error:
        logging.info("%s: skipped, it doesn't parse (%s)", source.url, error)
        return
    for name, text in _texts(tree, source.module):
        if text := reflow(text):
            yield Document(name, text, source.url, False)


def _texts(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    if text := _docstring(tree):
        yield module, text
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := _class_text(node) if isinstance(node, ast.ClassDef) else _docstring(node):
                yield f"{module}.{node.name}", text
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _added_text(node.value, module)
        elif isinstance(node, ast.Assign):
            yield from _assigned_text(node, module)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Top-level statements, including those under `if`, `try` and `with`."""
    pending = list(reversed(tree.body))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If | ast.Try | ast.With):
            inner = [*node.body, *getattr(node, "orelse", []), *getattr(node, "finalbody", [])]
            pending += reversed(inner)
        else:
            yield node


def _docstring(node: ast.AST) -> str:
    return (ast.get_docstring(node) or "").strip()


def _class_text(node: ast.ClassDef) -> str:
    parts = [_docstring(node)]
    for method in node.body:
        if isinstance(method, _DEFINITIONS) and (text := _docstring(method)):
            parts.append(f"{node.name}.{method.name}\n\n{text}")
    return "\n\n".join(part for part in parts if part)


def _added_text(call: ast.Call, module: str) -> Iterator[tuple[str, str]]:
    """The text of a call such as add_newdoc("numpy", "ndarray", ("mean", "...")): its longest string."""
    if "doc" not in ast.unparse(call.func).lower():
        return
    strings = [part.value for part in ast.walk(call) if _is_string(part)]
    text = max(strings, key=len, default="")
    if "\n" in text:
        names = [string for string in strings if string is not text and "\n" not in string]
        yield ".".join([module, *names]), inspect.cleandoc(text)


def _assigned_text(node: ast.Assign, module: str) -> Iterator[tuple[str, str]]:
    """The text of `_name_doc = "..."` or `docs["name"] = "..."`, or the entries of `topics = {...}`."""
    target = ast.unparse(node.targets[0])
    if target == "topics" and isinstance(node.value, ast.Dict):
        for key, value in zip(node.value.keys, node.value.values, strict=True):
            if _is_string(key) and _is_string(value):
                yield f"{module}.{key.value}", inspect.cleandoc(value.value)
    elif "doc" in target.lower() and _is_string(node.value) and "\n" in node.value.value:
        yield f"{module}.{target}", inspect.cleandoc(node.value.value)


def _is_string(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
