# Provenance: where the results come from, for those who are handed them.
#
# REQUIRED INPUTS
#   the finished experiment, whose JSON files carry a provenance block, and the jobs' benchmark files in {R}/timings
# OUTPUTS
#   {R}/provenance.json          config, code, data, packages, machines, time and estimated energy
#   {R}/ro-crate-metadata.json   makes {R} an RO-Crate (both asked for by name only)


rule provenance:
    """Where the results come from: provenance.json and an RO-Crate (after the experiment)."""
    input:
        EVERYTHING,
        config=rules.merged_config.output.merged,
        base=rules.base_model.output.report,
        benchmarks=rules.fetch_benchmarks.output.manifest,
        manifests=of_all_shards(rules.download.output.manifest),
        packed=expand(rules.pack.output.packed, mixture=USED_MIXTURES),
        summaries=expand(rules.train.output.summary, run=cfg.trained_runs),
        evaluations=[*rules.scores.input.summaries, *rules.scores.input.bits],
    output:
        record=f"{R}/provenance.json",
        crate=f"{R}/ro-crate-metadata.json",
    log:
        f"{R}/logs/provenance.log",
    params:
        results=Untracked(R),
        files=finished(lambda job: job.output),
        timings=Untracked(f"{R}/timings"),
        measured=finished(lambda job: [job.benchmark] if job.benchmark else []),
    shell:
        STAGE
