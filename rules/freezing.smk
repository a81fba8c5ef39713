# Functions for rules/compare.smk: what a release holds, why it can't be frozen, and which models may be replaced.


FREEZING = f"{R}/releases/{cfg.release.name or 'NAME'}"
MEASURES = {
    "samples": "{task}.samples.jsonl",
    "summaries": "{task}.json",
    "losses": "bits_per_byte.{corpus}.documents.csv",
    "bits": "bits_per_byte.{corpus}.json",
}


def measured(models, kind):
    """Returns the models' files of one kind of MEASURES, in the order models x tasks or models x corpora."""
    pattern = f"{R}/evaluations/{{run}}/{MEASURES[kind]}"
    return expand(pattern, run=models, task=TASKS, corpus=cfg.measured_corpora)


def why_not_frozen():
    """Returns why the release can't be frozen; "" if it can."""
    if cfg.release.name is None:
        return "release.name: not set; name the release, such as --config 'release={name: 2026-11}'"
    if Path(FREEZING).exists():
        return f"release.name: {cfg.release.name} is frozen already ({FREEZING}); choose another name"
    return ""


def released_models(wildcards):
    """Returns the model folders of the release. Raises WorkflowError if it can't be frozen."""
    if problem := why_not_frozen():
        raise WorkflowError(problem)
    return expand(rules.release.output.released, run=PUSHED_RUNS)


def warn_of_replaced_models():
    """Warn of models of former results that this workflow may replace, unless a release holds them."""
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name in ("train", "merge")]
    models = {str(job.output.model) for job in jobs if Path(job.output.model).exists()}
    lost = sorted(model for model in models if not holds(Path(R, "releases"), Path(model)))
    if lost:
        logger.warning(
            f"warning: {', '.join(lost)} may be replaced, and the scores with them, where text or settings "
            "changed. To keep them, stop now and run `snakemake freeze` with the former config (docs/releases.md)."
        )
