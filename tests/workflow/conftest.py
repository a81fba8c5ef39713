"""A copy of the project in which the smoke experiment has run to its end, once per test session."""

import pytest
from project_copy import SMOKE, Project


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    """The smoke experiment, finished, in a folder with an odd name."""
    project = Project(tmp_path_factory.mktemp("project") / "Ünïcode folder" / "my copy")
    project.make("demo", f"DEMO={' '.join(SMOKE)} --quiet all")
    return project
