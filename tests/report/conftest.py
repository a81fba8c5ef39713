"""One made-up demo experiment with its scores, shared by the report wing's tests."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from report_experiment import PUBLISHED, build

from cpt.report.scores import read_published, read_scores, score_rows, write_scores


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Folder, config, runs, corpora, tasks, published numbers and scores of a demo experiment."""
    root: Path = tmp_path_factory.mktemp("report") / "results"
    made = build(root)
    configured = made["config"]["evaluate"]["tasks"]
    tasks = {name: task for name, task in configured.items() if task.get("in_table", True)}
    published = read_published(PUBLISHED)
    # The demo's base model isn't the paper's, so nothing was published of these runs.
    rows = score_rows(root / "evaluations", made["runs"], tasks, made["corpora"], {})
    write_scores(root / "scores.csv", rows)
    return SimpleNamespace(
        root=root, tasks=tasks, published=published, scores=read_scores(root / "scores.csv"), **made
    )
