"""The library's rooms: who may import whom, and that no import goes round in a circle."""

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
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{name.name}" for name in node.names}
            found |= inner & MODULES.keys() or {node.module} & MODULES.keys()
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names} & MODULES.keys()
    return found


GRAPH = networkx.DiGraph((module, other) for module, path in MODULES.items() for other in imports(path))


def wing(module: str) -> str | None:
    name = module.split(".")[1] if module.startswith("cpt.") else None
    return name if name in WINGS else None


def test_imports_are_seen():
    assert len(GRAPH) > 100 and GRAPH.has_edge("train", "cpt.train.loop")


def test_no_import_goes_round_in_a_circle():
    assert [circle for circle in networkx.strongly_connected_components(GRAPH) if len(circle) > 1] == []


def test_a_wing_imports_itself_and_the_ground_floor_alone():
    crossing = [(one, other) for one, other in GRAPH.edges if wing(other) and wing(one) != wing(other)]
    assert [edge for edge in crossing if edge[0].startswith("cpt.")] == []
