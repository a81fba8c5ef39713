# Bench: what the stages cost on this machine.
#
# REQUIRED INPUTS
#   a finished experiment (the paper), whose jobs left Snakemake's benchmark files in {R}/timings
# OUTPUTS
#   {R}/timings.csv      per rule: jobs, wall time, CPU time, peak memory


localrules:
    timings,


rule timings:
    input:
        f"{R}/paper.pdf",
    output:
        report(
            f"{R}/timings.csv",
            caption="../paper/captions/timings.rst",
            category="Cost",
            labels={"table": "time and memory by rule"},
        ),
    log:
        f"{R}/logs/timings.log",
    threads: 1
    params:
        command=script("timings"),
        folder=lambda wildcards: f"{R}/timings",
        code=code("timings"),
    message:
        "timings"
    shell:
        "{params.command} --timings {params.folder:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"
