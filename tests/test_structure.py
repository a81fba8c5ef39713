"""The library's structure: who may import whom, no circular imports, and how long files and functions are."""

import ast
from pathlib import Path

import networkx

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
WINGS = ("corpus", "model", "train", "evaluate", "report")
MODULES = {
    ".".join(path.relative_to(SCRIPTS).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SCRIPTS.rglob("*.py")
}


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, inside functions too."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{name.name}" for name in node.names}
            modules |= inner & MODULES.keys() or {node.module} & MODULES.keys()
        elif isinstance(node, ast.Import):
            modules |= {name.name for name in node.names} & MODULES.keys()
    return modules


GRAPH = networkx.DiGraph((module, other) for module, path in MODULES.items() for other in imports(path))


def wing(module: str) -> str | None:
    name = module.split(".")[1] if module.startswith("cpt.") else None
    return name if name in WINGS else None


def test_imports_are_seen():
    assert len(GRAPH) > 100 and GRAPH.has_edge("train", "cpt.train.loop")


def test_no_imports_are_circular():
    assert [circle for circle in networkx.strongly_connected_components(GRAPH) if len(circle) > 1] == []


def test_a_wing_imports_itself_and_the_ground_floor_alone():
    crossing = [(one, other) for one, other in GRAPH.edges if wing(other) and wing(one) != wing(other)]
    assert [edge for edge in crossing if edge[0].startswith("cpt.")] == []


def lines_of_body(function: ast.FunctionDef) -> int:
    """The lines of a function below its docstring."""
    first = function.body[ast.get_docstring(function) is not None :] or function.body
    return function.end_lineno - first[0].lineno + 1


def test_files_and_functions_are_short():
    """The training loop is the one long function: it is read from top to bottom."""
    texts = {module: path.read_text() for module, path in MODULES.items()}
    assert [module for module, text in texts.items() if len(text.splitlines()) > 400] == []
    long = [
        f"{module}.{node.name}"
        for module, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and lines_of_body(node) > 60
    ]
    assert long == ["cpt.train.loop.train"]
