# Report: an HTML report of all results, made by Snakemake.
#
# REQUIRED INPUTS
#   everything
# OUTPUTS
#   {R}/report.html   paper, tables, figures, dropped documents, model cards, run times (asked for by name only)


rule report:
    """An HTML report of all results: paper, tables, figures, data, models."""
    input:
        rules.all.input,
    output:
        f"{R}/report.html",
    log:
        f"{R}/logs/report.log",
    benchmark:
        f"{R}/timings/report.tsv"
    localrule: True
    params:
        # The same workflow with --report. This workflow holds the lock on the folder already.
        snakemake=f"{PYTHON} -m snakemake --nolock --snakefile {shlex.quote(workflow.main_snakefile)}",
        overlays=with_values("--configfile", map(str, workflow.overwrite_configfiles)),
        config=with_values("--config", workflow.config_settings.config_args or ()),
        made=f"{R}/.report.html",
    message:
        "report"
    shell:
        "{params.snakemake} {params.overlays} {params.config} --report {params.made:q} >{log:q} 2>&1"
        " && mv {params.made:q} {output:q}"
