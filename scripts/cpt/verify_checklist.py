"""A checklist of what makes a result reproducible, with the files that show each point."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cpt.errors import DamagedFileError
from cpt.files import read_json, sha256_of
from cpt.preregistration import read_registered, registered_label
from cpt.verify_numbers import HELD_OUT, Check, read_table

FEWEST_GROUPS = 30  # of held-out documents: below, an interval rests on too few independent draws


class Point(NamedTuple):
    """A point of the checklist.

    Attributes:
        holds: whether the point holds; None if it doesn't apply to the experiment.
        what: the claim, with its numbers.
        evidence: files that show it, relative to the results folder or to the project.
        required: whether the results are wrong or damaged if the point doesn't hold.
    """

    holds: bool | None
    what: str
    evidence: list[str]
    required: bool = False


def points(results: Path, project: Path, checks: list[Check], golden: Check | None) -> Iterator[Point]:
    """Yields the checklist of an experiment. A point fails if a file's hash isn't the recorded one."""
    yield from _numbers(checks, golden)
    manifests = [read_json(path) for path in sorted(results.glob("corpora/*/raw/*.json"))]
    pinned = [manifest for manifest in manifests if manifest.get("sha256")]
    yield Point(
        bool(manifests) and len(pinned) == len(manifests),
        f"{len(pinned)} of {len(manifests)} raw shards have a SHA-256 on record",
        ["corpora/*/raw/*.json"],
    )
    base = _read(results / "models" / "base.json")
    yield Point(
        bool(base.get("sha256")), "the base model's files are pinned by SHA-256", ["models/base.json"]
    )
    tasks = _read(results / "benchmarks.json").get("tasks", {})
    yield Point(
        bool(tasks) and all(task.get("content_sha256") for task in tasks.values()),
        f"the items of {len(tasks)} benchmarks are pinned by SHA-256",
        ["benchmarks.json"],
    )
    yield _packed(results)
    blocks = list(_provenance(results))
    yield _commits(blocks)
    yield _versions(blocks, project / "envs" / "requirements.txt")
    seeds = sorted({f"{name} {seed}" for block in blocks for name, seed in block.get("seeds", {}).items()})
    yield Point(bool(seeds), f"seeds on record: {', '.join(seeds) or 'none'}", ["packed/*/ledger.json"])
    yield _preregistered(results)
    yield _groups(results)
    overlap = sorted(results.glob("corpora/*/decontaminated/*.json"))
    yield Point(
        bool(overlap),
        f"overlap with the evaluation items is on record for {len(overlap)} shards",
        ["corpora/*/decontaminated/*.json", "touched.csv"],
    )
    yield _crate(results)


def lines(checklist: list[Point]) -> list[str]:
    """Returns the checklist as lines of Markdown."""
    marks = {True: "x", False: " ", None: "-"}
    return [f"- [{marks[point.holds]}] {point.what} ({', '.join(point.evidence)})" for point in checklist]


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _numbers(checks: list[Check], golden: Check | None) -> Iterator[Point]:
    count, wrong = sum(check.numbers for check in checks), sum(len(check.mismatches) for check in checks)
    yield Point(
        not wrong,
        f"{count:,} numbers of {len(checks)} tables were computed again from the samples: {wrong} differ",
        [*(check.table for check in checks), "evaluations/*/*.samples.jsonl"],
        required=True,
    )
    if golden is None:
        yield Point(None, "no golden values for this experiment", ["paper/golden/"])
    else:
        yield Point(
            not golden.mismatches,
            f"{golden.numbers} golden values: {len(golden.mismatches)} outside their tolerance",
            [f"paper/golden/{golden.table}"],
            required=True,
        )


def _packed(results: Path) -> Point:
    """Checks that packed text has the SHA-256 in its ledger."""
    ledgers = sorted(results.glob("packed/*/ledger.json"))
    damaged = [
        ledger.parent.name
        for ledger in ledgers
        if (packed := ledger.with_name("sequences.bin")).is_file()
        and sha256_of(packed) != read_json(ledger)["sequences_sha256"]
    ]
    what = f"the packed text of {len(ledgers)} mixtures has the SHA-256 of its ledger"
    holds = not damaged if ledgers else None
    return Point(holds, what + _exceptions(damaged), ["packed/*/ledger.json"], required=True)


def _exceptions(wrong: list[str]) -> str:
    return f", but not {', '.join(wrong)}" if wrong else ""


def _provenance(results: Path) -> Iterator[dict[str, Any]]:
    """Yields the provenance blocks of runs, mixtures and evaluations."""
    for pattern in ("runs/*/run.json", "packed/*/ledger.json", "evaluations/*/*.json"):
        for path in sorted(results.glob(pattern)):
            if block := read_json(path).get("provenance"):
                yield block


def _commits(blocks: list[dict[str, Any]]) -> Point:
    commits = sorted({block["git_commit"] for block in blocks})
    clean = len(commits) == 1 and re.fullmatch("[0-9a-f]{7,40}", commits[0])
    what = "all runs and scores were made by one commit without changes"
    return Point(bool(clean), f"{what}: {', '.join(commits) or 'none on record'}", ["runs/*/run.json"])


def _versions(blocks: list[dict[str, Any]], lock: Path) -> Point:
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;+]+)", lock.read_text(encoding="utf-8"), re.MULTILINE))
    pins = {name.lower().replace("-", "_"): version for name, version in pins.items()}
    versions = {(name, version) for block in blocks for name, version in block["versions"].items()}
    others = sorted(
        f"{name} {version}"
        for name, version in versions
        if pins.get(name.lower().replace("-", "_"), version).partition("+")[0] != version.partition("+")[0]
    )
    what = "package versions are those of the lock"
    return Point(
        bool(versions) and not others,
        what + _exceptions(others),
        ["envs/requirements.txt", "runs/*/run.json"],
    )


def _preregistered(results: Path) -> Point:
    """Checks that the digest is the plan's, and that no run had results when the plan was written."""
    path = results / "preregistration.json"
    if not path.is_file():
        return Point(None, "no plan was registered before training", [path.name])
    try:
        content = read_registered(path)
    except DamagedFileError as error:
        return Point(False, str(error), [path.name], required=True)
    return Point(not content["runs_with_results"], registered_label(content), [path.name])


def _groups(results: Path) -> Point:
    rows = read_table(results / "scores.csv")
    rows = rows[rows["task"].str.startswith(HELD_OUT)].drop_duplicates("task")
    counts = {row["task"].removeprefix(HELD_OUT): int(row["groups"]) for row in rows.to_dict("records")}
    stated = ", ".join(f"{corpus} {count}" for corpus, count in counts.items()) or "no held-out text"
    what = f"held-out text rests on at least {FEWEST_GROUPS} groups of documents: {stated}"
    holds = min(counts.values()) >= FEWEST_GROUPS if counts else None
    return Point(holds, what, ["evaluations/*/bits_per_byte.*.documents.csv"])


def _crate(results: Path) -> Point:
    """Checks that every file in the RO-Crate exists and has the recorded hash."""
    path = results / "ro-crate-metadata.json"
    if not path.is_file():
        return Point(None, "no RO-Crate yet: ask Snakemake for provenance.json", [path.name])
    graph = json.loads(path.read_text(encoding="utf-8"))["@graph"]
    files = [entity for entity in graph if "sha256" in entity]
    changed = [
        entity["@id"]
        for entity in files
        if not (results / entity["@id"]).is_file() or sha256_of(results / entity["@id"]) != entity["sha256"]
    ]
    what = f"{len(files)} files have the SHA-256 that the RO-Crate gives"
    return Point(not changed, what + _exceptions(changed), [path.name, "provenance.json"], required=True)
