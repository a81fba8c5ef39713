"""One made-up demo experiment with its scores, shared by the report wing's tests."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from report_experiment import PUBLISHED, build, write_tables

from cpt.report.scores import read_published


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Folder, config, runs, corpora, tasks, published numbers and scores of a demo experiment."""
    root: Path = tmp_path_factory.mktemp("report") / "results"
    parts = build(root)
    scores = write_tables(root, parts)
    configured = parts["config"]["evaluate"]["tasks"]
    tasks = {name: task for name, task in configured.items() if task.get("in_table", True)}
    return SimpleNamespace(
        root=root, tasks=tasks, published=read_published(PUBLISHED), scores=scores, **parts
    )
