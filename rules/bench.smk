# Bench: what the stages cost on this machine.
#
# REQUIRED INPUTS
#   a finished experiment, whose jobs left Snakemake's benchmark files in {R}/timings
#   raw shards, the base model and the merged config, for the corpus benchmark
# OUTPUTS
#   {R}/timings.csv      per rule: jobs, wall time, CPU time, peak memory
#   {R}/bench/corpus.csv the corpus pipeline beside other pipelines (asked for by name only)
#   {R}/bench/evaluation.csv  scoring beside lm-eval's own model class (by name only)
#   {R}/bench/training.csv, .pdf, .png, .svg  training beside the Hugging Face Trainer: speed, memory (by name only)


BENCHMARKS = Path(workflow.basedir) / "benchmarks"
SCRIPT_OF |= {f"bench_{name}": BENCHMARKS / f"{name}.py" for name in ("corpus", "training", "evaluation")}
MEASURED_STAGES = ("filter_documents", "deduplicate", "decontaminate", "tokenize_documents", "pack")
STARTS["bench_corpus"] = [BENCHMARKS / "systems.py", *(SCRIPTS / f"{name}.py" for name in MEASURED_STAGES)]
STARTS["bench_training"] = [BENCHMARKS / "training_systems.py", SCRIPTS / "train.py"]


rule timings:
    """What each stage took on this machine."""
    input:
        EVERYTHING,
    output:
        table=f"{R}/timings.csv",
    log:
        f"{R}/logs/timings.log",
    params:
        timings=Untracked(f"{R}/timings"),
        measured=finished(lambda job: [job.benchmark] if job.benchmark else []),
    shell:
        STAGE


rule bench_corpus:
    """The corpus pipeline beside other pipelines: speed and memory."""
    input:
        raw=all_shards(rules.download.output.documents),
        model=f"{R}/models/base",
        benchmarks=rules.fetch_benchmarks.output.benchmarks,
        config=rules.merged_config.output.merged,
    output:
        table=f"{R}/bench/corpus.csv",
    log:
        f"{R}/logs/bench_corpus.log",
    resources:
        mem_mb=growing(4000),
        runtime=minutes(60),
    params:
        megabytes=20,
        repeats=3,
    shell:
        STAGE


rule bench_training:
    """Training beside the Hugging Face Trainer: speed and memory."""
    output:
        table=f"{R}/bench/training.csv",
        figure=expand(f"{R}/bench/training.{{extension}}", extension=("pdf", "png", "svg")),
    log:
        f"{R}/logs/bench_training.log",
    resources:
        mem_mb=growing(6000),
        runtime=minutes(120),
    params:
        shape="small",
        repeats=3,
    shell:
        STAGE


rule bench_evaluation:
    """Scoring beside lm-eval's own model class."""
    input:
        model=f"{R}/models/base",
        benchmarks=rules.fetch_benchmarks.output.benchmarks,
    output:
        table=f"{R}/bench/evaluation.csv",
    log:
        f"{R}/logs/bench_evaluation.log",
    resources:
        mem_mb=growing(6000),
        runtime=60,
    params:
        items_per_task=8,
        repeats=1,
    shell:
        STAGE


rule bench:
    """All three benchmarks."""
    input:
        rules.bench_corpus.output,
        rules.bench_training.output,
        rules.bench_evaluation.output,
