# Preflight: what the largest jobs will ask for, and what the cluster offers, before anything is submitted.
#
# REQUIRED INPUTS
#   none
# OUTPUTS
#   none: it reports on the terminal


localrules:
    preflight,


rule preflight:
    """Compare what the jobs will ask for with what this cluster offers."""
    log:
        f"{R}/logs/preflight.log",
    retries: 0
    threads: 1
    params:
        command=script("preflight"),
        requests=json.dumps(requests()),
        hub=json.dumps(hub_sources()),
        site=json.dumps(
            {
                "account": site("ACCOUNT"),
                "constraint": site("CONSTRAINT"),
                "gpu_model": site("GPU_MODEL"),
                "poll_seconds": site_number("POLL_SECONDS", 40),
            }
        ),
        results=R,
        experiment=lambda wildcards: planned_experiment(),
    message:
        "preflight: what the jobs will ask for, and what this cluster offers"
    shell:
        "{params.command} --requests {params.requests:q} --hub {params.hub:q} --site {params.site:q}"
        " {params.experiment} --results {params.results:q} --log-file {log:q}"
