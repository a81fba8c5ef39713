from collections.abc import Sequence
from pathlib import Path

import yaml

from cpt.command import run
from cpt.files import read_json, write_json
from cpt.report.crate import crate_metadata
from cpt.report.record import experiment_record, stage_results
from cpt.report.timings import summed_timings


def provenance(
    config: Path,
    base: Path,
    benchmarks: Path,
    manifests: Sequence[Path],
    results: Path,
    timings: Path,
    record: Path,
    crate: Path,
    packed: Sequence[Path] = (),
    summaries: Sequence[Path] = (),
    evaluations: Sequence[Path] = (),
    files: Sequence[Path] = (),
    measured: Sequence[Path] = (),
) -> None:
    """Record where an experiment's results come from, as JSON and as an RO-Crate.

    Args:
        config: the merged config.yaml of the results.
        base: models/base.json.
        benchmarks: benchmarks.json.
        manifests: of each raw shard.
        results: folder of the results, which becomes the crate.
        timings: folder of the benchmark files; a rule's file or folder in it has the rule's name.
        record: provenance.json to write.
        crate: ro-crate-metadata.json to write.
        packed: folders of the packed mixtures, each with its ledger.json.
        summaries: run.json of each run.
        evaluations: scores of each run.
        files: all files and folders that the experiment's stages have made.
        measured: the benchmark files of their jobs.
    """
    content = experiment_record(
        config,
        base=read_json(base),
        benchmarks=read_json(benchmarks),
        manifests=[read_json(path) for path in manifests],
        ledgers=[read_json(folder / "ledger.json") for folder in packed],
        summaries=[read_json(path) for path in summaries],
        evaluations=[read_json(path) for path in evaluations],
        results=stage_results(files, results),
        timings=summed_timings(measured, timings),
    )
    write_json(record, content)
    name = yaml.safe_load(config.read_text(encoding="utf-8"))["name"]
    write_json(crate, crate_metadata(name, [*files, record], results, content))


if __name__ == "__main__":
    run(provenance)
