# Robustness: a plan on record before its results, and a grid of learning rates and data orders as one figure.
#
# REQUIRED INPUTS
#   {R}/runs/{run}/plan.json      budgets and digests of the sequences
#   {R}/scores.csv
# OUTPUTS
#   {R}/preregistration.json      with `preregister`: question, prediction, plan and its digest; training waits for it
#   {R}/figures/robustness        where runs form a grid: changes by learning rate and data order


# Peak learning rate and seed of the data order, by run; empty unless runs form a grid.
GRID = grid_of(cfg)


rule preregister:
    """Question, prediction and plan on record before any run trains."""
    input:
        plans=expand(rules.plan_run.output.plan, run=cfg.trained_runs),
        base=rules.base_model.output.report,
        benchmarks=rules.fetch_benchmarks.output.manifest,
    output:
        record=f"{R}/preregistration.json",
    log:
        f"{R}/logs/preregister.log",
    params:
        runs=cfg.trained_runs,
        question=cfg.preregister.question if cfg.preregister else "",
        prediction=cfg.preregister.prediction if cfg.preregister else "",
        config=planned_settings(cfg),
        # Runs that have results or checkpoints when the job starts.
        started=Untracked(
            lambda: [
                run
                for run in cfg.trained_runs
                if Path(f"{R}/runs/{run}/metrics.csv").exists() or Path(f"{R}/checkpoints/{run}").exists()
            ]
        ),
    shell:
        STAGE


rule robustness:
    """A figure of the runs that differ only in learning rate and data order."""
    input:
        scores=rules.scores.output.table,
        registered=rules.preregister.output.record if cfg.preregister else [],
    output:
        figure=figure_files("robustness", "Learning rates and data orders"),
    log:
        f"{R}/logs/robustness.log",
    params:
        grid=GRID,
        corpora=cfg.domain_and_general,
    shell:
        STAGE
