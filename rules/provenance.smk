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
        rules.tables.input,
        rules.figures.input,
        rules.drop_report.output,
        rules.paper.output,
        expand(rules.release.output, run=RELEASED_RUNS),
        config=rules.merged_config.output.merged,
    output:
        record=f"{R}/provenance.json",
        crate=f"{R}/ro-crate-metadata.json",
    log:
        f"{R}/logs/provenance.log",
    params:
        results=Untracked(R),
        files=finished(lambda job: job.output),
        measured=finished(lambda job: [job.benchmark] if job.benchmark else []),
    shell:
        STAGE
