"""How the tests are dealt out over processes: a file stays together, and the longest go first."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Folders whose tests share an expensive fixture: each goes to one process as a whole.
TOGETHER = ("workflow",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def group(item: pytest.Item) -> str:
        folder = item.path.relative_to(TESTS).parts[0]
        return folder if folder in TOGETHER else item.path.name

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: group(item) not in TOGETHER)  # stable: all else as collected
