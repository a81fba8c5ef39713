# Preflight: what the largest jobs will ask for, and what the cluster offers, before anything is submitted.
#
# REQUIRED INPUTS
#   none
# OUTPUTS
#   none: it reports on the terminal


rule preflight:
    """Compare what the jobs will ask for with what this cluster offers."""
    log:
        f"{R}/logs/preflight.log",
    retries: 0
    params:
        requests=requests(),
        hub=hub_sources(),
        site={
            "account": site("ACCOUNT"),
            "constraint": site("CONSTRAINT"),
            "gpu_model": site("GPU_MODEL"),
            "poll_seconds": site_number("POLL_SECONDS", 40),
        },
        results=R,
        config=lambda wildcards: planned_experiment()["config"],
        local_bytes=lambda wildcards: planned_experiment()["local_bytes"],
        model=lambda wildcards: planned_experiment()["model"],
    shell:
        STAGE
