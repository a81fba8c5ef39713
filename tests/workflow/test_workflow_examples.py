"""Applies the examples of docs/adding-*.md to a copy of the project, counts their files and runs them."""

import re
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from project_copy import ROOT, SMOKE, Project

MOST_FILES = 6
PAGES = [ROOT / "docs" / name for name in ("adding-a-stage.md", "adding-a-filter.md")]
EXAMPLES = re.split(r"^## Example: ", "".join(page.read_text() for page in PAGES), flags=re.MULTILINE)
BLOCK = re.compile(
    r"^\*\*`(.+?)`\*\*(?: \(new\)|, (above|below|instead of) `(.+?)`):\n\n```\w+\n(.*?)```$",
    re.MULTILINE | re.DOTALL,
)


def configuration_pages(project: Project) -> dict[str, str]:
    """The pages that `make reference` writes, by their path in the project."""
    pages = (project.folder / "docs").glob("configuration*.md")
    return {f"docs/{page.name}": page.read_text() for page in pages}


def apply(title: str, project: Project) -> set[str]:
    """Make the changes of an example; returns the files that it touches."""
    (example,) = (text for text in EXAMPLES if text.startswith(title + "\n"))
    touched = set()
    for name, place, anchor, text in BLOCK.findall(example):
        path = project.folder / name
        if not place:
            assert not path.exists(), name
            path.write_text(text)
        else:
            before = path.read_text()
            assert before.count(anchor) == 1, f"{name}: {anchor!r} occurs {before.count(anchor)} times"
            if text.startswith(("class ", "rule ")):
                text += "\n\n"
            line = re.search(rf"^.*{re.escape(anchor)}.*\n", before, re.MULTILINE)[0]
            new = {
                "above": text + line,
                "below": line + text,
                "instead of": line.replace(anchor, text.strip()),
            }
            path.write_text(before.replace(line, new[place]))
        touched.add(name)
    if "make reference" in example:
        before = configuration_pages(project)
        project.make("reference")
        changed = {name for name, text in configuration_pages(project).items() if text != before[name]}
        assert len(changed) == 1, changed
        touched |= changed
    assert 4 <= len(touched) <= MOST_FILES, sorted(touched)
    tests = [name for name in touched if name.startswith("tests/")]
    command = [sys.executable, "-m", "pytest", "-n", "0", "--rootdir", str(project.folder), *tests]
    project.run(command)
    return touched


@pytest.fixture
def clone(project, tmp_path) -> Project:
    """A copy of the project without results, and with folders for the examples' tests."""
    clone = Project(tmp_path / "clone")
    for wing in ("report", "corpus"):
        (clone.folder / "tests" / wing).mkdir(parents=True)
    return clone


def test_a_figure(clone, project):
    apply("a figure", clone)
    shutil.copytree(project.folder / "results" / "smoke", clone.folder / "results" / "smoke")
    printed = clone.snakemake("speed", *SMOKE)
    assert re.search(r"^speed +1$", printed, re.MULTILINE) and re.search(r"^total +1$", printed, re.MULTILINE)
    assert all(
        (clone.folder / f"results/smoke/figures/speed.{kind}").exists() for kind in ("pdf", "png", "svg")
    )


def test_a_filter(clone):
    apply("a filter", clone)
    drops = "results/smoke/corpora/pydantic/filtered/00000.drops.csv"
    clone.snakemake(drops, *SMOKE)
    assert "capitals" in (clone.folder / drops).read_text()


def test_a_corpus_source(clone):
    apply("a corpus source", clone)
    with sqlite3.connect(clone.folder / "texts.db") as connection:
        connection.execute("create table pages (id text, body text)")
        connection.executemany("insert into pages values (?, ?)", [(str(n), f"Page {n}.") for n in range(9)])
    source = (
        "{source: database, path: texts.db, query: 'select id, body from pages', shards: 2, packages: null}"
    )
    config = ("--config", f"corpora={{pydantic: {source}}}")
    shards = [f"results/smoke/corpora/pydantic/raw/{shard:05d}.parquet" for shard in range(2)]
    clone.snakemake(*shards, *SMOKE, *config)
    assert clone.planned(*shards, *SMOKE, *config, config=()) == {}
    Path(clone.folder / "texts.db").write_bytes(b"")
    assert "texts.db" in clone.snakemake(*shards, *SMOKE, *config, check=False)
