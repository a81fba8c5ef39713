"""How the tests are distributed over processes: a file stays together, and the longest go first."""

import os
import sys
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

# Hundreds of processes are started, and each would compile the modules that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Threads that wait for work free their core for the other test processes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Folders whose tests share an expensive fixture: each goes to one process as a whole.
TOGETHER = ("workflow", "slurm")
# The longest files of the last folder, train: if they came last, one process would run them alone.
LONG = ("engines", "pretended_gpu", "kills", "gpu_kernels", "compile", "selection", "validation")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slurm-full", action="store_true", help="the long tests on a Slurm as well")
    parser.addoption("--experiments", action="store_true", help="the long tests of a release as well")


@pytest.fixture(autouse=True)
def products_as_they_come() -> Iterator[None]:
    """A test may set the library that multiplies matrices (cpt.cpu), but not for the tests after it."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].backends.mkldnn.matmul.fp32_precision = "none"


class ByGroup(LoadScopeScheduling):
    """Distributes whole groups: a folder of TOGETHER, or a file."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """The group of a test, by an id such as tests/train/test_train_loop.py::test_this."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if f"/{folder}/" in file), file)


def turn(place: str) -> int:
    """The position of a group in the order."""
    if place in TOGETHER:
        return 0
    if "/train/" not in place:
        return 1
    return 2 if place.endswith(tuple(f"_train_{name}.py" for name in LONG)) else 3


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByGroup:
    # pytest-xdist's own groups (--dist loadgroup) don't reach its scheduler under pytest 9.2.
    return ByGroup(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slurm_full" in item.keywords and not config.getoption("--slurm-full"):
            item.add_marker(pytest.mark.skip(reason="one of the long ones on Slurm: make test-slurm"))
        if "experiments" in item.keywords and not config.getoption("--experiments"):
            item.add_marker(pytest.mark.skip(reason="one of the long ones: make test-experiments"))
    items.sort(key=lambda item: turn(group(item.nodeid)))  # stable: otherwise in the order of collection


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report tests skipped for lack of Slurm, so that nobody overlooks them."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ())}
    if skips := sorted(reason for reason in reasons if "no Slurm" in reason):
        terminalreporter.section("NOTHING WAS TESTED ON SLURM", sep="!", red=True, bold=True)
        terminalreporter.line(" ".join(skips))
