"""Every message that stops a user is quoted in a test, and that test shows the cause."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RAISED = {"UserError", "DamagedFileError", "ArgumentTypeError"}
RAISED_FOR_THE_CONFIG = {"ValueError"}  # Pydantic makes lines of a UserError from these
QUOTE = 12  # a test must quote this many characters in a row of a message's own text


def strings(node: ast.AST) -> Iterator[str]:
    """The fixed text in some code, except docstrings."""
    docstrings = {id(inner.value) for inner in ast.walk(node) if isinstance(inner, ast.Expr)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and id(inner) not in docstrings:
            yield inner.value


def parts(texts: Iterator[str]) -> set[str]:
    """All pieces of QUOTE characters."""
    return {text[begin : begin + QUOTE] for text in texts for begin in range(len(text) - QUOTE + 1)}


def raised() -> dict[str, set[str]]:
    """The pieces of each message that scripts/ raises, by file and line."""
    pieces = {}
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        kinds = RAISED | (RAISED_FOR_THE_CONFIG if path.name.startswith("config") else set())
        for node in ast.walk(ast.parse(path.read_text())):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in kinds:
                pieces[f"{path.relative_to(ROOT)}:{node.lineno}"] = parts(strings(call))
    return pieces


def test_every_message_is_quoted_in_a_test():
    """Messages that are put together elsewhere aren't checked; text that several share proves nothing."""
    messages, quoted = raised(), set()
    assert len(messages) > 150
    for path in (ROOT / "tests").rglob("*.py"):
        # A regular expression counts as the text that it matches.
        quoted |= parts(text.replace("\\", "") for text in strings(ast.parse(path.read_text())))
    often = Counter(piece for pieces in messages.values() for piece in pieces)
    own = {place: {piece for piece in pieces if often[piece] == 1} for place, pieces in messages.items()}
    missing = [place for place, pieces in own.items() if pieces and pieces.isdisjoint(quoted)]
    assert not missing, f"no test quotes {QUOTE} characters of these messages' own text: {', '.join(missing)}"
