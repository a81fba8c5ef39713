# Advise: small runs (proxies) predict what the full run will reach, before anyone pays for it (docs/advice.md).
#
# REQUIRED INPUTS
#   what rule train needs; the proxies of the config's section `advise` (cfg.proxies)
# OUTPUTS (all asked for by name only)
#   {R}/advise/advice.md        recommendation, or why there is none; Pareto front; what the advice rests on
#   {R}/advise/advised.yaml     overlay that trains the recommended run
#   {R}/advise/laws.json        the fitted laws, with their bootstrap
#   {R}/advise/proxies.csv, settings.csv   the proxies beside the law; predictions of all full runs
#   {R}/figures/advise          the Pareto front
#   {R}/advise/predictions.csv  predicted beside measured, once the full run is trained


if cfg.advise is None and any(
    word in ("advise", "predictions") or word.startswith(f"{R}/advise/") for word in sys.argv
):
    raise WorkflowError(
        "advise: not set; say what to weigh, such as --config 'advise={tokens: [400M], learning_rates: [3.0e-5, "
        "1.0e-4, 3.0e-4]}' (docs/advice.md)"
    )
if not cfg.foreseen_runs and "predictions" in sys.argv:
    raise WorkflowError(
        "predictions: no run of this config has tokens, replay share, learning rate and weight decay of a setting of "
        f"`advise`; add the recommended one: --configfile ... {R}/advise/advised.yaml"
    )


SCRIPT_OF |= {"plan_proxy": SCRIPTS / "plan_run.py", "train_proxy": SCRIPTS / "train.py"}


use rule plan_run as plan_proxy with:
    wildcard_constraints:
        run=one_of(cfg.proxies),


# Nothing reads a proxy's model once its curve is written.
use rule train as train_proxy with:
    output:
        **{name: file for name, file in rules.train.output.items() if name != "model"},
        model=temp(directory(f"{R}/models/{{run}}")),
    wildcard_constraints:
        run=one_of(cfg.proxies),


rule advise:
    """Which learning rate, replay share and token budget to take: predicted from small runs, before the full one."""
    input:
        held_out_losses=expand(rules.train.output.held_out_losses, run=cfg.proxies),
        schedules=expand(rules.plan_run.output.schedule, run=cfg.proxies),
        summaries=expand(rules.train.output.summary, run=cfg.proxies),
        packed=expand(rules.pack.output.packed, mixture=cfg.proxy_shares),
    output:
        page=f"{R}/advise/advice.md",
        overlay=f"{R}/advise/advised.yaml",
        laws=f"{R}/advise/laws.json",
        proxies=f"{R}/advise/proxies.csv",
        settings=f"{R}/advise/settings.csv",
        figure=figure_files("advise", "Advice: general over domain text"),
    log:
        f"{R}/logs/advise.log",
    params:
        points=cfg.proxy_points,
        corpora=cfg.domain_and_general,
        most_forgetting=lambda wildcards: cfg.advise.most_forgetting,
        maximum_epochs=lambda wildcards: max(cfg.advise.maximum_epochs or 1, cfg.packing.maximum_epochs),
        place=lambda wildcards: cfg.advised_place,
        like=lambda wildcards: cfg.like,
        seed=cfg.train.seed,
    shell:
        STAGE


rule predictions:
    """What the proxies predicted for the full run, beside what it reached."""
    input:
        laws=rules.advise.output.laws,
        held_out_losses=expand(rules.train.output.held_out_losses, run=cfg.foreseen_runs),
        schedules=expand(rules.plan_run.output.schedule, run=cfg.foreseen_runs),
    output:
        table=f"{R}/advise/predictions.csv",
    log:
        f"{R}/logs/predictions.log",
    params:
        runs=cfg.foreseen_runs,
    shell:
        STAGE
