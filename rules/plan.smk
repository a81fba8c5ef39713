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
        config=cfg.model_dump_json(exclude_unset=True, exclude_none=True),
        model=lambda wildcards: imported_base(),
        local_bytes=lambda wildcards: json.dumps(
            {
                corpus: sum(Path(path).stat().st_size for path in local_files(corpus))
                for corpus in cfg.used_corpora
            }
        ),
        code=code("plan"),
    message:
        "plan of the experiment"
    shell:
        "{params.command} --config {params.config:q} {params.model} --local-bytes {params.local_bytes:q}"
        " --output {output:q} --code {params.code} --log-file {log:q}"
