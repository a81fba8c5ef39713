# Plan: what an experiment will take, before anything is spent.
#
# REQUIRED INPUTS
#   none; the base model's size is read from {R}/models/base where that is there
# OUTPUTS
#   {R}/plan.md   tokens, steps, device-hours, memory, disk, warnings (asked for by name only)


localrules:
    plan,


rule plan:
    """What an experiment will take: tokens, steps, hours, memory, disk; needs no network and no data."""
    output:
        f"{R}/plan.md",
    log:
        f"{R}/logs/plan.log",
    benchmark:
        f"{R}/timings/plan.tsv"
    threads: 1
    params:
        command=script("plan"),
        experiment=lambda wildcards: planned_experiment(),
        code=code("plan"),
    message:
        "plan of the experiment"
    shell:
        "{params.command} {params.experiment} --output {output:q} --code {params.code} --log-file {log:q}"
