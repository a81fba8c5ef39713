# Preflight: compares what the largest jobs need with what the cluster or machine offers, before they start.
#
# REQUIRED INPUTS
#   none
# OUTPUTS
#   none: it reports on the terminal


rule preflight:
    """Try what the jobs will need on this cluster or machine."""
    log:
        f"{R}/logs/preflight.log",
    retries: 0
    params:
        requests=requests(),
        hub=hub_sources(),
        site={
            "account": site("ACCOUNT"),
            "gpu_model": site("GPU_MODEL"),
            "poll_seconds": site_number("POLL_SECONDS", 40),
            "jobs": site_number("JOBS", 50),
        },
        results=R,
        cluster=on_cluster(),
        config=lambda wildcards: planned_experiment()["config"],
        local_bytes=lambda wildcards: planned_experiment()["local_bytes"],
        model=lambda wildcards: planned_experiment()["model"],
    shell:
        STAGE
