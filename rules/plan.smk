# Plan: what an experiment will take, before anything is spent.
#
# REQUIRED INPUTS
#   none; the base model's size is read from {R}/models/base if it is imported already
# OUTPUTS
#   {R}/plan.md   tokens, steps, device-hours, memory, disk, warnings (asked for by name only)


rule plan:
    """What an experiment will take: tokens, steps, hours, memory, disk; needs no network and no data."""
    output:
        page=f"{R}/plan.md",
    log:
        f"{R}/logs/plan.log",
    params:
        config=lambda wildcards: planned_experiment()["config"],
        local_bytes=lambda wildcards: planned_experiment()["local_bytes"],
        model=lambda wildcards: planned_experiment()["model"],
    shell:
        STAGE
