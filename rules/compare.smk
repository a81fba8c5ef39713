# Compare: a release that stays as it is, and later results beside it (docs/releases.md).
#
# REQUIRED INPUTS
#   {R}/released/{run}, scores, tables        of `snakemake freeze`
#   the folder that release.compare_to names  made by an earlier `snakemake freeze`
# OUTPUTS
#   {R}/releases/{name}          models and their scores, never changed again (asked for by name only)
#   {R}/compare.md, compare.csv  base, old and new models on the same held-out text and items


# Stop at once if these targets are asked for by name: Snakemake's errors about inputs are longer.
if workflow.is_main_process and "freeze" in sys.argv and why_not_frozen():
    raise WorkflowError(why_not_frozen())
if workflow.is_main_process and "compare" in sys.argv and not FROZEN:
    raise WorkflowError("release.compare_to: not set; name a release that `snakemake freeze` made")


rule freeze:
    """Keep the released models with their scores as release.name; later results don't change it."""
    input:
        released=released_models,
        tables=[
            rules.merged_config.output.merged,
            rules.base_model.output.report,
            rules.scores.output.table,
            rules.comparisons.output.table,
            rules.data.output.table,
        ],
        evaluations=[path for kind in MEASURES for path in measured([BASE_RUN, *PUSHED_RUNS], kind)],
    output:
        folder=directory(FREEZING),
    log:
        f"{R}/logs/freeze.log",
    params:
        name=cfg.release.name or "",
        runs={run: cfg.budgets[run] for run in PUSHED_RUNS},
        held_out={corpus: cfg.held_out_settings(corpus) for corpus in cfg.measured_corpora},
    message:
        f"freeze: {cfg.release.name}"
    shell:
        STAGE


# For each run, the name under which the release's model is scored beside it.
PAIRS = {Path(folder).name: model for model, folder in FROZEN.items()}
COMPARED = [BASE_RUN, *(model for new, old in PAIRS.items() for model in (old, new))]


rule compare:
    """A release and the runs of these results on the same held-out text and items."""
    input:
        record=f"{COMPARED_RELEASE}/release.json",
        models=list(FROZEN.values()),
        base_model=model_of(BASE_RUN),
        base_report=rules.base_model.output.report,
        samples=measured(COMPARED, "samples"),
        summaries=measured(COMPARED, "summaries"),
        losses=measured(COMPARED, "losses"),
        data=rules.data.output.table,
    output:
        page=f"{R}/compare.md",
        table=f"{R}/compare.csv",
    log:
        f"{R}/logs/compare.log",
    params:
        base=BASE_RUN,
        pairs=PAIRS,
        budgets={run: cfg.budgets[run] for run in PAIRS},
        metrics=METRICS,
        table_tasks=list(cfg.evaluate.table_tasks),
        labels=LABELS,
        corpora=cfg.measured_corpora,
        held_out={corpus: cfg.held_out_settings(corpus) for corpus in cfg.measured_corpora},
        seed=cfg.evaluate.seed,
    shell:
        STAGE
