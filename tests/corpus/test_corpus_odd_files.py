"""Folders with more than ordinary files: links, pipes, odd names, and files without read permission."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from own_sources import fetch

from cpt.corpus.own_files import count_files, matching_files
from cpt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A working directory with files in data/."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.md", "b/c.md"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    return tmp_path / "data"


def refusal(pattern: str = "data/**/*") -> str:
    with pytest.raises(UserError) as raised:
        matching_files([pattern], "corpora.own.files")
    return str(raised.value)


def test_links_to_nothing_are_refused(data):
    (data / "x.md").symlink_to("y.md")
    (data / "y.md").symlink_to("x.md")
    (data / "b" / "gone.md").symlink_to("nowhere")
    assert refusal() == (
        "corpora.own.files: can't read 3 linked to nothing (data/b/gone.md, data/x.md, data/y.md); remove "
        "the links, or narrow the pattern"
    )
    assert matching_files(["data/a*"], "files") == ["data/a.md"]


def test_what_is_no_file_is_refused(data):
    os.mkfifo(data / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("data/socket.txt")
    assert refusal() == (
        "corpora.own.files: can't read 2 neither file nor folder (data/pipe.txt, data/socket.txt); move away "
        "what is no file, or narrow the pattern"
    )


def test_names_that_are_not_utf8_are_refused(data):
    Path(os.fsdecode(b"data/m\xfcll.txt")).touch()
    folder = Path(os.fsdecode(b"data/\xe4"))
    folder.mkdir()
    (folder / "n.md").touch()
    assert refusal() == (
        r"corpora.own.files: can't read 2 not named in UTF-8 ('data/m\udcfcll.txt', 'data/\udce4/n.md'); "
        "rename the files (convmv -r -f cp1252 -t utf8 --notest FOLDER), or narrow the pattern"
    )


def test_what_may_not_be_read_is_refused(data, monkeypatch):
    """The errors are patched in, as tests may run as root, who may read everything."""

    def listed(folder: str) -> object:
        if Path(folder).name in ("b", "lost+found"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    scandir = os.scandir
    (data / "lost+found").mkdir()
    monkeypatch.setattr(os, "scandir", listed)
    monkeypatch.setattr(os, "access", lambda path, mode: "a.md" not in str(path))
    (data / "dangling.md").symlink_to("nowhere")
    assert refusal() == (
        "corpora.own.files: can't read 2 with 'Permission denied' (data/a.md, data/b), 1 linked to nothing "
        "(data/dangling.md); allow reading (chmod -R u+rX FOLDER), remove the links, or narrow the pattern"
    )
    (data / "dangling.md").unlink()
    assert "can't read 1 with 'Permission denied' (data/b); allow" in refusal("data/b/*")


def test_a_file_is_read_once_whatever_links_to_it(data):
    before = matching_files(["data/**/*"], "files")
    (data / "b" / "around").symlink_to("..")
    (data / "loop").symlink_to(".")
    (data / "again").symlink_to(".")  # with two such links, glob would try 2^40 paths
    (data / "0.md").symlink_to("a.md")
    (data / "0").symlink_to("b")
    for pattern in ("data/**/*", "data/**/*.md", "data/**/**/*.md", "data/**"):
        assert matching_files([pattern], "files") == before == ["data/a.md", "data/b/c.md"], pattern
    assert matching_files(["data/0/*.md", "data/b/*.md"], "files") == ["data/b/c.md"]
    assert matching_files(["data/0/**/*.md", "data/0.md"], "files") == ["data/0.md", "data/0/c.md"]


def test_links_lead_elsewhere(data, tmp_path):
    (tmp_path / ".hidden" / "deep").mkdir(parents=True)
    (tmp_path / ".hidden" / "deep" / "d.md").touch()
    (data / "e").symlink_to("../.hidden")
    (data / "f").symlink_to("../.hidden/deep")
    assert matching_files(["data/**/*"], "files") == ["data/a.md", "data/b/c.md", "data/f/d.md"]
    (tmp_path / "linked").symlink_to("data")
    assert matching_files(["linked/**/*"], "files") == ["linked/a.md", "linked/b/c.md", "linked/f/d.md"]


def test_a_folder_of_parts_beside_a_link_to_it(data):
    (data / "x.parquet").mkdir()
    (data / "x.parquet" / "part-0.parquet").touch()
    (data / "y.parquet").symlink_to("x.parquet")
    assert "data/x.parquet/part-0.parquet" in matching_files(["data/**/*"], "files")
    assert "y.parquet is a folder" in refusal("data/y.parquet")


def test_a_pattern_may_begin_at_home(data, monkeypatch):
    monkeypatch.setenv("HOME", str(data))
    assert matching_files(["~/*.md"], "files") == [f"{data}/a.md"]


def test_patterns_match_hidden_files_parents_and_folders(data):
    for name in (".hidden/h.md", ".a.md", "b/.b.md", "b/x/y.md", "data.txt"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    for pattern, paths in (
        ("data/.hidden/*", ["data/.hidden/h.md"]),
        ("data/.*.md", ["data/.a.md"]),
        ("./data//*.md", ["data/a.md"]),
        ("data/b/../*.md", ["data/b/../a.md"]),
        ("data/b/**", ["data/b/c.md", "data/b/x/y.md"]),
        ("data/**/b/**/*.md", ["data/b/c.md", "data/b/x/y.md"]),
        ("data/?.md", ["data/a.md"]),
        ("data/**.txt", ["data/data.txt"]),
    ):
        assert matching_files([pattern], "files") == paths, pattern
    for pattern in ("", "data/*/", "data/a.md/", "data/a.md/*", "data/n/**/*", "da\0ta"):
        assert "files: no file matches" in refusal(pattern), pattern


def test_files_are_counted_up_to_a_number(data):
    (data / "loop").symlink_to(".")
    (data / "._a.md").touch()
    assert [count_files(["data/**/*", "data/*"], most) for most in (1, 2, 3)] == [1, 2, 2]
    assert count_files(["nowhere/*"], 2) == 0


def test_the_number_of_shards_is_at_most_that_of_files(data):
    for path in ROOT.glob("[!.]*"):
        if path.name not in ("results", "tests", "data"):
            (data.parent / path.name).symlink_to(path)
    # The number of files at an address isn't known yet.
    for files, shards in (("data/*.md", 1), ("[data/*.md, 'https://x.org/y.md']", 3)):
        command = [sys.executable, "-m", "snakemake", "all", "results/own/plan.md", "--dry-run"]
        command += ["--printshellcmds", "--configfile", "experiments/own.yaml"]
        command += ["--config", f"corpora={{own: {{shards: 3, files: {files}}}}}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert re.search(rf"download +{shards}\n", done.stdout), files
        assert re.search(rf'scripts/plan.py .*"own": {{[^}}]*"shards": {shards}[,}}]', done.stdout), files


def test_too_many_shards_for_one_file(data):
    with pytest.raises(UserError, match="shards: 2 shards are asked for, but only 1 file matches; lower"):
        fetch(data, [data / "a.md"], 1, 2)
