"""The code digest: follows functions across files, ignores comments, docstrings and formatting."""

import pytest

from cpt import digest

HELPERS = '''"""Doc."""
SCALE = 2

def used(x):
    """Doc."""
    return inner(x) * SCALE

def inner(x):
    return x + 1

def unused(x):
    return x
'''
SCRIPT = """from lib import helpers
from lib.helpers import used

def main():
    import lib.late
    return used(1) + lib.late.value()

main()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small scripts/ folder; call it with changed file contents to get the script's digest."""
    monkeypatch.setattr(digest, "SCRIPTS", tmp_path)
    monkeypatch.setattr(digest.sys, "dont_write_bytecode", False)
    (tmp_path / "lib").mkdir()

    def digest_of(helpers=HELPERS, script=SCRIPT, late="def value():\n    return 3\n"):
        (tmp_path / "lib" / "__init__.py").write_text("")
        (tmp_path / "lib" / "helpers.py").write_text(helpers)
        (tmp_path / "lib" / "late.py").write_text(late)
        (tmp_path / "run.py").write_text(script)
        digest._module.cache_clear()
        digest._former_digests.cache_clear()
        return digest.code_digest(tmp_path / "run.py")

    return digest_of


def test_comments_docstrings_and_formatting_do_not_count(project):
    changed = HELPERS.replace('"""Doc."""', '"""Other."""').replace("x + 1", "(x  +  1)  # why")
    assert project(changed) == project()


def test_unreached_functions_do_not_count(project):
    assert project(HELPERS.replace("    return x\n", "    return -x\n")) == project()


@pytest.mark.parametrize(
    "change", [("SCALE = 2", "SCALE = 3"), ("return x + 1", "return x + 2"), ("inner(x) *", "inner(x) +")]
)
def test_reached_code_counts_through_functions_and_constants(project, change):
    assert project(HELPERS.replace(*change)) != project()


def test_late_imports_and_top_level_statements_count(project):
    assert project(late="def value():\n    return 4\n") != project()
    assert project(HELPERS + "print('side effect')\n") != project()


def test_method_of_reached_class_counts(project):
    script = "from lib.helpers import Thing\nThing().go()\n"
    one, two = (f"class Thing:\n    def go(self):\n        return {n}\n" for n in (1, 2))
    assert project(one, script) != project(two, script)


def test_module_attribute_access_is_followed(project):
    script = "from lib import helpers\nprint(helpers.used(1))\n"
    assert project(script=script) != project(HELPERS.replace("x + 1", "x + 2"), script)
    assert project(script=script) == project(HELPERS.replace("    return x\n", "    return -x\n"), script)


def test_a_digest_is_worked_out_once_for_the_same_code(project, tmp_path, monkeypatch):
    first = project()
    monkeypatch.setattr(digest, "reached_definitions", lambda script: pytest.fail("worked out again"))
    assert project() == first
    with pytest.raises(pytest.fail.Exception):
        project(HELPERS.replace("x + 1", "x + 2"))


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"code": 1}', '{"code": 1, "digests": 2}'])
def test_a_damaged_memory_of_digests_counts_for_nothing(project, tmp_path, damage):
    first = project()
    [memory] = tmp_path.rglob("digests*.json")
    memory.write_text(damage)
    assert project() == first
    memory.unlink()
    memory.mkdir()  # nor can it be written
    assert project() == first


def test_stages_depend_on_what_they_use():
    """In the project itself: plotting belongs to figures alone, the schedule to training alone."""

    def reach(script):
        return {file for file, name in digest.reached_definitions(digest.SCRIPTS / f"{script}.py") if name}

    assert "cpt/train/schedules.py" in reach("train")
    assert "cpt/report/training_figures.py" in reach("figure1")
    for script in ("train", "evaluate_tasks", "scores", "pack"):
        assert "cpt/report/training_figures.py" not in reach(script)
    for script in ("tokenize_documents", "evaluate_tasks", "figure1"):
        assert "cpt/train/schedules.py" not in reach(script)


def test_settings_digest_ignores_key_order():
    assert digest.settings_digest({"a": 1, "b": [2]}) == digest.settings_digest({"b": [2], "a": 1})
    assert digest.settings_digest({"a": 1}) != digest.settings_digest({"a": 2})
