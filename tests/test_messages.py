"""Every message that stops a user is quoted in a test: here only that it is, there what causes it."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RAISED = {"UserError", "DamagedFileError", "ArgumentTypeError"}
RAISED_FOR_THE_CONFIG = {"ValueError"}  # which Pydantic makes lines of a UserError of
QUOTE = 12  # so many characters in a row of a message's own text must stand in a test


def strings(node: ast.AST) -> Iterator[str]:
    """The fixed text in some code."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def parts(texts: Iterator[str]) -> set[str]:
    """All pieces of QUOTE characters."""
    return {text[begin : begin + QUOTE] for text in texts for begin in range(len(text) - QUOTE + 1)}


def raised() -> dict[str, set[str]]:
    """The pieces of each message that scripts/ raises, by file and line."""
    found = {}
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        kinds = RAISED | (RAISED_FOR_THE_CONFIG if path.name.startswith("config") else set())
        for node in ast.walk(ast.parse(path.read_text())):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in kinds:
                found[f"{path.relative_to(ROOT)}:{node.lineno}"] = parts(strings(call))
    return found


def test_every_message_is_quoted_in_a_test():
    """A message that is put together elsewhere isn't found here; what several share shows nothing."""
    messages, quoted = raised(), set()
    assert len(messages) > 150
    for path in (ROOT / "tests").rglob("*.py"):
        # Regular expressions are taken for what they match.
        quoted |= parts(text.replace("\\", "") for text in strings(ast.parse(path.read_text())))
    often = Counter(piece for pieces in messages.values() for piece in pieces)
    own = {place: {piece for piece in pieces if often[piece] == 1} for place, pieces in messages.items()}
    missing = [place for place, pieces in own.items() if pieces and pieces.isdisjoint(quoted)]
    assert not missing, f"no test quotes {QUOTE} characters of these messages' own text: {', '.join(missing)}"
