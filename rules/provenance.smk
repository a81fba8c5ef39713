# Provenance: where the results come from, for people who receive them.
#
# REQUIRED INPUTS
#   the finished experiment, whose JSON files carry a provenance block, and the jobs' benchmark files in {R}/timings
# OUTPUTS
#   {R}/provenance.json          config, code, data, packages, machines, time and estimated energy
#   {R}/ro-crate-metadata.json   makes {R} a Workflow Run RO-Crate
#   {R}/workflow                 a copy of the workflow, part of the crate (all asked for by name only)


rule provenance:
    """Where the results come from: provenance.json and an RO-Crate (after the experiment)."""
    input:
        EVERYTHING,
        config=rules.merged_config.output.merged,
        base=rules.base_model.output.report,
        benchmarks=rules.fetch_benchmarks.output.manifest,
        manifests=all_shards(rules.download.output.manifest),
        packed=expand(rules.pack.output.packed, mixture=USED_MIXTURES),
        summaries=expand(rules.train.output.summary, run=cfg.trained_runs),
        citation=project_file("CITATION.cff"),
        evaluations=[
            *rules.scores.input.summaries,
            *expand(rules.bits_per_byte.output.scores, run=RUNS, corpus=cfg.measured_corpora),
        ],
    output:
        record=f"{R}/provenance.json",
        crate=f"{R}/ro-crate-metadata.json",
        workflow=directory(f"{R}/workflow"),
    log:
        f"{R}/logs/provenance.log",
    params:
        results=Untracked(R),
        project=Untracked(workflow.basedir),
        files=finished(lambda job: job.output),
        timings=Untracked(f"{R}/timings"),
        measured=finished(lambda job: [job.benchmark] if job.benchmark else []),
    shell:
        STAGE
