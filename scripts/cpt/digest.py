"""Digests of code and of settings: what a stage depends on beyond its input files.

`code_digest` follows the definitions that a script reaches inside `scripts/`, and hashes their abstract
syntax without docstrings. Comments, formatting and timestamps don't count. Functions of an imported module
that the script never reaches don't count either. So editing a plotting function redraws only the figures
that use it. (Snakemake itself follows neither imports nor the scripts of shell commands.)

The closure is by name and errs on the safe side: it follows every name and every attribute of an imported
module in a reached definition, and a reached module's top-level statements always count.
"""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent.parent


def plain(section: Any) -> dict[str, Any]:
    """Returns a section of the config as JSON values, for `default` of json.dumps; null keys are dropped."""
    return section.model_dump(mode="json", exclude_none=True)


def settings_digest(settings: Any) -> str:
    """Returns the first 16 hex digits of the SHA-256 of `settings` (sections too) as canonical JSON."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=plain)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yields a node and all statements below it. It skips expressions, which are most of a tree."""
    yield tree
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for node in getattr(tree, field, ()):
            yield from _statements(node)


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


class _Module:
    """One local module: its definitions by name, its imports by name, its other statements."""

    def __init__(self, path: Path):
        self.definitions: dict[str, list[ast.AST]] = {}
        self.imports: dict[str, tuple[Path, str | None]] = {}
        self.statements: list[ast.AST] = []
        self._read: dict[str, tuple[str, list[tuple[Path, str | None]]]] = {}
        tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.definitions.setdefault(node.name, []).append(node)
            elif names := _assigned_names(node):
                for name in names:
                    self.definitions.setdefault(name, []).append(node)
            elif not isinstance(node, ast.Import | ast.ImportFrom):
                self.statements.append(node)
        for node in _statements(tree):  # imports inside functions also count
            if isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    self._add_import(alias.asname or alias.name, node.module or "", alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if target := _module_path(alias.name):
                        self.imports[alias.asname or alias.name] = (target, None)

    def read(self, path: Path, key: str) -> tuple[str, list[tuple[Path, str | None]]]:
        """Returns a definition's syntax and its references, computed once; key "": the other statements."""
        if key not in self._read:
            nodes = self.statements if key == "" else self.definitions.get(key, [])
            steps = [step for node in nodes for step in _references(path, self, node)]
            self._read[key] = "\n".join(map(ast.dump, nodes)), steps
        return self._read[key]

    def _add_import(self, name: str, module: str, imported: str) -> None:
        if submodule := _module_path(f"{module}.{imported}"):
            self.imports[name] = (submodule, None)
        elif target := _module_path(module):
            self.imports[name] = (target, imported)


def _assigned_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    else:
        return []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _module_path(dotted: str) -> Path | None:
    base = SCRIPTS.joinpath(*dotted.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _module(path: Path) -> _Module:
    return _Module(path)


def reached_definitions(script: str | Path) -> dict[tuple[str, str], str]:
    """Map (file, name) of every definition that `script` reaches to its syntax, without docstrings.

    `file` is relative to `scripts/`; the name "" stands for a file's own top-level statements. All
    definitions of the script itself count.
    """
    script = Path(script).resolve()
    reached: dict[tuple[Path, str], str] = {}
    pending: list[tuple[Path, str | None]] = [(script, None)]
    while pending:
        path, name = pending.pop()
        module = _module(path)
        keys = list(module.definitions) if name is None else [name]
        for key in ["", *keys]:
            if (path, key) not in reached:
                reached[path, key], steps = module.read(path, key)
                pending += steps
        if name in module.imports:  # re-exported by a package's __init__
            pending.append(module.imports[name])
    return {
        (str(path.relative_to(SCRIPTS)) if path.is_relative_to(SCRIPTS) else path.name, name): syntax
        for (path, name), syntax in sorted(reached.items())
    }


def _references(path: Path, module: _Module, node: ast.AST) -> list[tuple[Path, str | None]]:
    steps: list[tuple[Path, str | None]] = []
    through_attribute = set()
    names = [child for child in ast.walk(node) if isinstance(child, ast.Name | ast.Attribute)]
    for child in names:
        if isinstance(child, ast.Attribute):
            dotted = ast.unparse(child.value) if isinstance(child.value, ast.Name | ast.Attribute) else ""
            if dotted in module.imports and module.imports[dotted][1] is None:
                target = module.imports[dotted][0]
                target_module = _module(target)
                through_attribute.add(dotted)
                if child.attr in target_module.definitions or child.attr in target_module.imports:
                    steps.append((target, child.attr))
    for child in names:
        if isinstance(child, ast.Name):
            if child.id in module.definitions:
                steps.append((path, child.id))
            elif child.id in module.imports and child.id not in through_attribute:
                steps.append(module.imports[child.id])
    return steps


@cache
def _former_digests(scripts: Path) -> tuple[Path, str, dict[str, str]]:
    """Returns the file of cached digests, the digest of all code, and the cached digests by script.

    The file lies beside Python's compiled modules. Its digests are dropped if any code has changed.
    """
    texts = {
        str(path.relative_to(scripts)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in scripts.rglob("*.py")
    }
    file = Path(cache_from_source(str(scripts / "digests.py"))).with_suffix(".json")
    code, former = settings_digest([sys.version, texts]), {}
    with suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(file.read_text())
        former = dict(stored["digests"]) if stored["code"] == code else {}
    return file, code, former


def code_digest(script: str | Path) -> str:
    """Returns the first 16 hex digits of the SHA-256 over all that `script` reaches inside `scripts/`.

    The digest is cached for the next process, if the script lies in `scripts/` and that is writable.
    Raises FileNotFoundError if the script is missing and SyntaxError if a file doesn't parse.
    """
    script = Path(script).resolve()
    name = str(script.relative_to(SCRIPTS)) if script.is_relative_to(SCRIPTS) else None
    file, code, former = _former_digests(SCRIPTS)
    if name in former:
        return former[name]
    digest = settings_digest([[*key, syntax] for key, syntax in reached_definitions(script).items()])
    if name and not sys.dont_write_bytecode:
        former[name] = digest
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps({"code": code, "digests": former}))
            temporary.replace(file)
    return digest
