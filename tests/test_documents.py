"""The commands in README and docs can be typed, and the links lead somewhere."""

import re
import shlex
from itertools import dropwhile
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_args
from tests.test_config import merged

from cpt.config import load
from cpt.errors import UserError
from cpt.stage import parameters

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [
    command
    for page in PAGES
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE)
]
INLINE = {  # commands inside a sentence
    command
    for page in PAGES
    for command in re.findall(
        r"`(?:PYTHONPATH=scripts )?((?:\.venv/bin/)?(?:python|snakemake|make) [^`]*)`", page.read_text()
    )
}
RULE_FILES = "".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")])
RULES = set(re.findall(r"^(?:rule|checkpoint) (\w+):", RULE_FILES, re.MULTILINE))


def test_there_are_commands():
    assert len(COMMANDS) >= 12 and any("make demo" in command for command in COMMANDS)


@pytest.mark.parametrize("command", sorted({*COMMANDS, *INLINE}))
def test_command_is_one_that_can_be_typed(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command, comments=True)
    program, *arguments = dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words)
    if program == "make":
        targets = re.findall(r"^([\w-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert next(word for word in arguments if "=" not in word) in targets
    elif Path(program).name == "python":
        script, *options = arguments
        if script in ("scripts/x.py",):  # a placeholder for any script
            return
        names = [*parameters(ROOT / script), "help", "log", "code"]
        accepted = {f"--{no}{name.replace('_', '-')}" for name in names for no in ("", "no-")}
        assert {word.partition("=")[0] for word in options if word.startswith("--")} <= accepted
    elif Path(program).name == "snakemake":
        check_snakemake(arguments)
    elif program.endswith(".sh"):
        steps = re.findall(r"^    ([\w-]+)\)", (ROOT / program).read_text(), re.MULTILINE)
        assert set(arguments) <= set(steps)
    else:
        assert program == "hf"  # the hub's own command line


def check_snakemake(arguments: list[str]) -> None:
    """Options exist, overlays load, targets are rules or lie in the overlay's results."""
    _, parsed = parse_args(arguments)
    overlays = []
    for path in parsed.configfile or ():
        if Path(path).name != "x.yaml":
            overlays.append(merged(yaml.safe_load(Path(path).read_text())))
    config = load(overlays[-1] if overlays else merged())
    for target in parsed.targets:
        assert target in RULES or Path(target).is_relative_to(config.results), target


def test_every_page_is_linked_and_every_link_leads_somewhere():
    linked = set()
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.name}: {target}"
            linked.add(file)
            if anchor:
                headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", h.lower()).strip().replace(" ", "-") for h in headings}
                assert anchor in anchors, f"{page.name}: {target}"
    assert not {page for page in PAGES[1:] if page not in linked}


@pytest.mark.parametrize(
    "rule",
    [
        "all",
        "tables",
        "figures",
        "table1",
        "figure1",
        "paper",
        "preflight",
        "plan",
        "provenance",
        "timings",
        "bench",
        "report",
    ],
)
def test_rule_that_people_ask_for_has_a_line_of_help(rule):
    assert re.search(rf'^rule {rule}:\n    """[^"\n]+"""$', RULE_FILES, re.MULTILINE)


def test_overlays_on_the_pages_are_valid():
    """The overlay that each page shows, over config.yaml or over an experiment."""
    experiments = [
        {},
        *(yaml.safe_load(path.read_text()) for path in sorted((ROOT / "experiments").glob("*.yaml"))),
    ]
    shown = 0
    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            overlay = yaml.safe_load(block)
            if "task" in overlay:  # of lm-eval; tests/evaluate
                continue
            errors = []
            for experiment in experiments:
                try:
                    load(merged(experiment, overlay))
                    break
                except UserError as error:
                    errors.append(str(error))
            else:
                pytest.fail(f"{page.name}: {block}{errors}")
            shown += 1
    assert shown >= 9


def test_metadata_for_citing_and_for_the_catalog():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    # What version 1.2.0 of the format requires for the work and for its references.
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] in ("software", "dataset")
    for work in (citation, *citation["references"]):
        assert work["authors"] and work["title"] and work["type"]
        assert all({"name"} <= set(person) or {"family-names"} <= set(person) for person in work["authors"])
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["report"] is True and any(usage["software-stack-deployment"].values())
