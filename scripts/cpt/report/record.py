"""Where the results of an experiment come from: one record of config, code, data, packages, machines, time.

It is gathered from what the stages left: the `provenance` blocks of their JSON files, the manifests of the
data, and Snakemake's benchmark files.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from cpt.digest import settings_digest
from cpt.files import read_json, sha256_of
from cpt.report.merged import belongs, read_merged
from cpt.report.timings import summed_timings

# Maximum power in W from NVIDIA's data sheets; a name that holds the first matching part.
GPU_WATTS = {"A100-SXM": 400, "A100": 300, "H100 PCIe": 350, "H100": 700, "H200": 700}
UNKNOWN_GPU_WATTS = 400
CORE_WATTS = 10.0
MEMORY_WATTS_PER_GB = 0.3725  # Lannelongue et al. 2021 (Green Algorithms)
LEFT_OUT = ("benchmarks", "checkpoints", "logs", "released", "bench")  # no results of stages
SCORING = ("evaluate_tasks", "bits_per_byte")  # jobs of one GPU, where there is one
ASSUMPTION = (
    f"Not measured. {CORE_WATTS:g} W per busy core, {MEMORY_WATTS_PER_GB} W per GB of the peak memory of "
    "each rule's largest job (Lannelongue et al. 2021), and for training and scoring each GPU at its data "
    f"sheet's maximum ({UNKNOWN_GPU_WATTS} W if it isn't listed) for the wall time. Idle cores, cooling, "
    "networks and attempts that were killed are left out; multiply by the site's power usage effectiveness."
)


def stage_results(root: Path, config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every JSON file of a stage that carries a `provenance` block, by its path relative to `root`.

    Those of runs, mixtures and corpora that the config doesn't have any more are left out.
    """
    found = {}
    for path in sorted(root.rglob("*.json")):
        parts = path.relative_to(root).parts
        if parts[0] in LEFT_OUT or any(part.startswith(".") for part in parts):
            continue
        if not belongs("/".join(parts), config):
            continue
        content = read_json(path)
        if isinstance(content, dict) and "provenance" in content:
            found["/".join(parts)] = content
    return found


def data_manifests(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What each shard of each corpus was made from: source, revision, files, rows, bytes, SHA-256."""
    keys = ("corpus", "shard", "source", "revision", "rows", "bytes", "sha256")
    return [
        {**{key: content[key] for key in keys if key in content}, "files": len(content["files"])}
        for path, content in results.items()
        if path.startswith("corpora/") and "/raw/" in path
    ]


def energy(stages: dict[str, dict[str, float]], results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Estimated energy in kWh, by kind of device, with the assumption behind it.

    Args:
        stages: cpu_seconds, wall_seconds and peak_memory_mb by rule, as `summed_timings` gives them.
        results: as `stage_results` gives them; where a GPU was used, their hardware names it.
    """
    joules = {
        "cores": sum(stage["cpu_seconds"] for stage in stages.values()) * CORE_WATTS,
        "memory": sum(stage["peak_memory_mb"] / 1000 * stage["wall_seconds"] for stage in stages.values())
        * MEMORY_WATTS_PER_GB,
        "gpus": 0.0,
    }
    for path, content in results.items():
        if path.startswith("runs/") and content["device"] != "cpu":  # else it is the GPU's name
            seconds = content["processes"] * content["provenance"]["wall_seconds"]
            joules["gpus"] += seconds * _watts(content)
    scoring = [_watts(content) for path, content in results.items() if path.startswith("evaluations/")]
    seconds = sum(stage["wall_seconds"] for rule, stage in stages.items() if rule.startswith(SCORING))
    joules["gpus"] += seconds * max(scoring, default=0.0)
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
    found: list[Any] = []
    for content in results.values():
        value = content["provenance"][key]
        if value not in found:
            found.append(value)
    return found


def record(root: Path) -> dict[str, Any]:
    """The record of the experiment whose results lie in `root` (docs/formats.md). Raises UserError."""
    config = read_merged(root)
    results = stage_results(root, config)
    timings = summed_timings(root).fillna(0.0)  # of jobs too short to be measured
    stages = {rule: {key: float(value) for key, value in row.items()} for rule, row in timings.iterrows()}
    packages: dict[str, list[str]] = defaultdict(list)
    for versions in _values(results, "versions"):
        for name, version in versions.items():
            if version not in packages[name]:
                packages[name].append(version)
    base = results["models/base.json"]
    return {
        "config": {
            "file": "config.yaml",
            "sha256": sha256_of(root / "config.yaml"),
            "settings_digest": settings_digest(config),
        },
        "git_commits": _values(results, "git_commit"),
        "packages": dict(sorted(packages.items())),
        "hardware": _values(results, "hardware"),
        "base_model": {key: base[key] for key in ("source", "sha256", "parameters")},
        "data": data_manifests(results),
        "benchmarks": {
            task: {key: found[key] for key in ("items", "content_sha256")}
            for task, found in results["benchmarks.json"]["tasks"].items()
        },
        "packed": {
            content["mixture"]: content["sequences_sha256"]
            for path, content in results.items()
            if path.startswith("packed/")
        },
        "results": {
            path: {
                key: content["provenance"][key]
                for key in ("code_digest", "settings_digest", "git_commit", "seeds", "wall_seconds")
            }
            for path, content in results.items()
        },
        "stages": stages,
        "energy": energy(stages, results),
    }
