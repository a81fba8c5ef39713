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
        disk=8
        * sum(source.tokens_per_shard or 0 for source in cfg.corpora.values() if source.source == "hub"),
    message:
        "preflight: what the jobs will ask for, and what this cluster offers"
    shell:
        "{params.command} --requests {params.requests:q} --hub {params.hub:q} --site {params.site:q}"
        " --results {params.results:q} --disk {params.disk} --log-file {log:q}"
