# Bench: what the stages cost on this machine.
#
# REQUIRED INPUTS
#   a finished experiment (the paper), whose jobs left Snakemake's benchmark files in {R}/timings
#   raw shards, the base model and the merged config, for the corpus benchmark
# OUTPUTS
#   {R}/timings.csv      per rule: jobs, wall time, CPU time, peak memory
#   {R}/bench/corpus.csv the corpus pipeline beside other ways to do it (asked for by name only)
#   {R}/bench/evaluation.csv  scoring beside lm-eval's own model class (by name only)
#   {R}/bench/training.csv, .pdf, .png, .svg  speed and memory of training beside the Hugging Face Trainer (by name only)


localrules:
    timings,
    bench,


rule timings:
    """What each stage took on this machine."""
    input:
        f"{R}/paper.pdf",
        rules.merged_config.output,
    output:
        f"{R}/timings.csv",
    log:
        f"{R}/logs/timings.log",
    threads: 1
    params:
        command=script("timings"),
        results=lambda wildcards: R,
        code=code("timings"),
    message:
        "timings"
    shell:
        "{params.command} --results {params.results:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule bench_corpus:
    """The corpus pipeline beside other ways to do it."""
    input:
        raw=shards_of(cfg.used_corpora, rules.download.output.documents),
        model=f"{R}/models/base",
        benchmarks=rules.fetch_benchmarks.output.benchmarks,
        config=rules.merged_config.output,
    output:
        f"{R}/bench/corpus.csv",
    log:
        f"{R}/logs/bench_corpus.log",
    benchmark:
        f"{R}/timings/bench_corpus.tsv"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=minutes(60),
    params:
        command=script("corpus", Path(workflow.basedir) / "benchmarks"),
        folders=[f"{R}/corpora/{corpus}/raw" for corpus in cfg.used_corpora],
        # It starts the stages as processes of their own, so their code isn't reached through imports.
        code="-".join(
            [
                code_digest(Path(workflow.basedir) / "benchmarks" / f"{name}.py")
                for name in ("corpus", "systems")
            ]
            + [
                code(name)
                for name in (
                    "filter_documents",
                    "deduplicate",
                    "decontaminate",
                    "tokenize_documents",
                    "pack",
                )
            ]
        ),
    message:
        "corpus benchmark"
    shell:
        "{params.command} --input {params.folders:q} --model {input.model:q} --config {input.config:q}"
        " --benchmarks {input.benchmarks:q}"
        " --megabytes 20 --repeats 3 --output {output:q} --code {params.code} --log-file {log:q}"


rule bench_training:
    """Training beside the Hugging Face Trainer: speed and memory."""
    output:
        table=f"{R}/bench/training.csv",
        figures=expand(f"{R}/bench/training.{{extension}}", extension=("pdf", "png", "svg")),
    log:
        f"{R}/logs/bench_training.log",
    benchmark:
        f"{R}/timings/bench_training.tsv"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=minutes(120),
    params:
        command=script("training", Path(workflow.basedir) / "benchmarks"),
        # It starts the systems as processes of their own, so their code isn't reached through imports.
        code="-".join(
            [
                code_digest(Path(workflow.basedir) / "benchmarks" / f"{name}.py")
                for name in ("training", "training_systems")
            ]
            + [code("train")]
        ),
    message:
        "training benchmark"
    shell:
        "{params.command} --shape small --repeats 3 --output {output.table:q} --figure {output.figures:q}"
        " --code {params.code} --log-file {log:q}"


rule bench_evaluation:
    """Scoring beside lm-eval's own model class."""
    input:
        model=f"{R}/models/base",
        benchmarks=rules.fetch_benchmarks.output.benchmarks,
    output:
        f"{R}/bench/evaluation.csv",
    log:
        f"{R}/logs/bench_evaluation.log",
    benchmark:
        f"{R}/timings/bench_evaluation.tsv"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=60,
    params:
        command=script("evaluation", Path(workflow.basedir) / "benchmarks"),
        code=code_digest(Path(workflow.basedir) / "benchmarks" / "evaluation.py"),
    message:
        "evaluation benchmark"
    shell:
        "{params.command} --model {input.model:q} --benchmarks {input.benchmarks:q} --items 24 --repeats 3"
        " --output {output:q} --code {params.code} --log-file {log:q}"


rule bench:
    """All three benchmarks."""
    input:
        rules.bench_corpus.output,
        rules.bench_training.output,
        rules.bench_evaluation.output,
