"""Where the results of an experiment come from: one record of config, code, data, packages, machines, time.

It is gathered from what the stages left: the `provenance` blocks of their JSON files, the manifests of the
data, and Snakemake's benchmark files.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cpt.digest import settings_digest
from cpt.files import read_json, sha256_of

# Maximum power in W from NVIDIA's data sheets, by the first part that a GPU's name contains.
GPU_WATTS = {"A100-SXM": 400, "A100": 300, "H100 PCIe": 350, "H100": 700, "H200": 700}
UNKNOWN_GPU_WATTS = 400
CORE_WATTS = 10.0
MEMORY_WATTS_PER_GB = 0.3725  # Lannelongue et al. 2021 (Green Algorithms)
SCORING = ("evaluate_tasks", "bits_per_byte")  # their jobs use one GPU, if there is one
ASSUMPTION = (
    f"Not measured. {CORE_WATTS:g} W per busy core, {MEMORY_WATTS_PER_GB} W per GB of the peak memory of "
    "each rule's largest job (Lannelongue et al. 2021), and for training and scoring each GPU at its data "
    f"sheet's maximum ({UNKNOWN_GPU_WATTS} W if it isn't listed) for the wall time. Idle cores, cooling, "
    "networks and attempts that were killed are missing; multiply by the site's power usage effectiveness."
)


def stage_results(files: Iterable[Path], root: Path) -> dict[str, dict[str, Any]]:
    """Every JSON file with a `provenance` block, by its path relative to the results folder `root`.

    `files` are the stages' outputs; for a folder, its JSON files are read.
    """
    paths = [inner for path in files for inner in (path.glob("*.json") if path.is_dir() else [path])]
    results = {}
    for path in sorted(path for path in paths if path.suffix == ".json"):
        content = read_json(path)
        if isinstance(content, dict) and "provenance" in content:
            results[path.relative_to(root).as_posix()] = content
    return results


def _shard(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a shard of a corpus was made from: source, revision, files, rows, bytes, SHA-256."""
    keys = ("corpus", "shard", "source", "revision", "rows", "bytes", "sha256")
    return {**{key: manifest[key] for key in keys if key in manifest}, "files": len(manifest["files"])}


def energy(
    stages: dict[str, dict[str, float]], summaries: list[dict[str, Any]], evaluations: list[dict[str, Any]]
) -> dict[str, Any]:
    """Estimated energy in kWh, by kind of device, with the assumption behind it.

    Args:
        stages: cpu_seconds, wall_seconds and peak_memory_mb by rule.
        summaries: run.json of each run.
        evaluations: scores of each run. If a GPU was used, `hardware` in both names it.
    """
    joules = {
        "cores": sum(stage["cpu_seconds"] for stage in stages.values()) * CORE_WATTS,
        "memory": sum(stage["peak_memory_mb"] / 1000 * stage["wall_seconds"] for stage in stages.values())
        * MEMORY_WATTS_PER_GB,
        "gpus": 0.0,
    }
    for summary in summaries:
        if summary["device"] != "cpu":  # else it is the GPU's name
            seconds = summary["processes"] * summary["provenance"]["wall_seconds"]
            joules["gpus"] += seconds * _watts(summary)
    seconds = sum(stage["wall_seconds"] for rule, stage in stages.items() if rule.startswith(SCORING))
    joules["gpus"] += seconds * max(map(_watts, evaluations), default=0.0)
    hours = {f"{part}_kwh": round(value / 3.6e6, 6) for part, value in joules.items()}
    return {**hours, "total_kwh": round(sum(joules.values()) / 3.6e6, 6), "assumption": ASSUMPTION}


def _watts(content: dict[str, Any]) -> float:
    """Maximum power of the GPU that a result was made on; 0 without one."""
    names = content["provenance"]["hardware"].get("gpus")
    if not names:
        return 0.0
    return float(next((value for part, value in GPU_WATTS.items() if part in names[0]), UNKNOWN_GPU_WATTS))


def _values(results: dict[str, dict[str, Any]], key: str) -> list[Any]:
    """The distinct values under a key of the provenance blocks, in the order in which they appear."""
    values: list[Any] = []
    for content in results.values():
        value = content["provenance"][key]
        if value not in values:
            values.append(value)
    return values


def experiment_record(
    config: Path,
    base: dict[str, Any],
    benchmarks: dict[str, Any],
    manifests: list[dict[str, Any]],
    ledgers: list[dict[str, Any]],
    summaries: list[dict[str, Any]],
    evaluations: list[dict[str, Any]],
    results: dict[str, dict[str, Any]],
    timings: pd.DataFrame,
) -> dict[str, Any]:
    """The record of an experiment (docs/formats.md).

    Args:
        config: the merged config.yaml.
        base: base.json.
        benchmarks: benchmarks.json.
        manifests: of each raw shard.
        ledgers: of each packed mixture.
        summaries: run.json of each run.
        evaluations: scores of each run.
        results: all JSON files with a provenance block, as `stage_results` gives them.
        timings: as `summed_timings` gives them.
    """
    timings = timings.fillna(0.0)  # of jobs too short to be measured
    stages = {rule: {key: float(value) for key, value in row.items()} for rule, row in timings.iterrows()}
    packages: dict[str, dict[str, None]] = defaultdict(dict)  # versions in the order of the results
    for versions in _values(results, "versions"):
        for name, version in versions.items():
            packages[name][version] = None
    return {
        "config": {
            "file": config.name,
            "sha256": sha256_of(config),
            "settings_digest": settings_digest(yaml.safe_load(config.read_text(encoding="utf-8"))),
        },
        "git_commits": _values(results, "git_commit"),
        "packages": {name: list(versions) for name, versions in sorted(packages.items())},
        "hardware": _values(results, "hardware"),
        "base_model": {key: base[key] for key in ("source", "sha256", "parameters")},
        "data": [_shard(manifest) for manifest in manifests],
        "benchmarks": {
            task: {key: content[key] for key in ("items", "content_sha256")}
            for task, content in benchmarks["tasks"].items()
        },
        "packed": {ledger["mixture"]: ledger["sequences_sha256"] for ledger in ledgers},
        "results": {
            path: {
                key: content["provenance"][key]
                for key in ("code_digest", "settings_digest", "git_commit", "seeds", "wall_seconds")
            }
            for path, content in results.items()
        },
        "stages": stages,
        "energy": energy(stages, summaries, evaluations),
    }
