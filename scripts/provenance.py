from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile

import yaml

from cpt.command import run
from cpt.files import atomic, read_json, write_json
from cpt.report.crate import crate_metadata
from cpt.report.record import experiment_record, stage_results
from cpt.report.timings import summed_timings

# The project's files that make the workflow.
COPIED = ("Snakefile", "config.yaml", "rules/*.smk", "scripts/**/*.py", "envs/requirements.txt", "paper/*.*")
COPIED += ("LICENSE", "CITATION.cff")


def provenance(
    config: Path,
    base: Path,
    benchmarks: Path,
    manifests: Sequence[Path],
    results: Path,
    timings: Path,
    citation: Path,
    project: Path,
    record: Path,
    crate: Path,
    workflow: Path,
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
        manifests: manifest of each raw shard.
        results: folder of the results, which becomes the crate.
        timings: folder of the benchmark files; a rule's file or folder in it has the rule's name.
        citation: CITATION.cff: authors and licence.
        project: folder of the workflow; a copy of it becomes part of the crate.
        record: provenance.json to write.
        crate: ro-crate-metadata.json to write.
        workflow: folder to write: the copy of the workflow.
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
    with atomic(workflow) as copy:
        for pattern in COPIED:
            for path in sorted(project.glob(pattern)):
                (target := copy / path.relative_to(project)).parent.mkdir(parents=True, exist_ok=True)
                copyfile(path, target)
    name = yaml.safe_load(config.read_text(encoding="utf-8"))["name"]
    cited = yaml.safe_load(citation.read_text(encoding="utf-8"))
    write_json(crate, crate_metadata(name, [*files, record], results, content, cited, workflow))


if __name__ == "__main__":
    run(provenance)
