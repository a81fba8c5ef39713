"""How the tests are dealt out over processes: a file stays together, and the longest go first."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Folders whose tests share an expensive fixture: each goes to one process as a whole.
TOGETHER = ("workflow", "slurm")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slurm-full", action="store_true", help="the long tests on a Slurm as well")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def group(item: pytest.Item) -> str:
        folder = item.path.relative_to(TESTS).parts[0]
        return folder if folder in TOGETHER else item.path.name

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
        if "slurm_full" in item.keywords and not config.getoption("--slurm-full"):
            item.add_marker(pytest.mark.skip(reason="one of the long ones on Slurm: make test-slurm"))
    items.sort(key=lambda item: group(item) not in TOGETHER)  # stable: all else as collected


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Skipped because there is no Slurm: that must not be overlooked."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ())}
    if without := sorted(reason for reason in reasons if "no Slurm" in reason):
        terminalreporter.section("NOTHING WAS TESTED ON SLURM", sep="!", red=True, bold=True)
        terminalreporter.line(" ".join(without))
