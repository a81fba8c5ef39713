# Provenance: where the results come from, for those who are handed them.
#
# REQUIRED INPUTS
#   the finished experiment, whose JSON files carry a provenance block, and the jobs' benchmark files in {R}/timings
# OUTPUTS
#   {R}/provenance.json          config, code, data, packages, machines, time and estimated energy
#   {R}/ro-crate-metadata.json   makes {R} an RO-Crate (both asked for by name only)


localrules:
    provenance,


rule provenance:
    """Where the results come from: provenance.json and an RO-Crate (after the experiment)."""
    input:
        rules.tables.input,
        rules.figures.input,
        rules.drop_report.output,
        rules.paper.output,
        expand(rules.release.output, run=RELEASED_RUNS),
    output:
        record=f"{R}/provenance.json",
        crate=f"{R}/ro-crate-metadata.json",
    log:
        f"{R}/logs/provenance.log",
    threads: 1
    params:
        command=script("provenance"),
        results=lambda wildcards: R,
        code=code("provenance"),
    message:
        "provenance"
    shell:
        "{params.command} --results {params.results:q} --output {output.record:q} --crate {output.crate:q}"
        " --code {params.code} --log-file {log:q}"
