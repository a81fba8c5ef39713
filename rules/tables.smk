# Tables: scores, comparisons, what training took, claims, Table 1.
#
# REQUIRED INPUTS
#   {R}/evaluations/{run}/...     scores and per-item samples of every run
#   {R}/corpora/*.csv             documents and tokens after each stage
#   {R}/runs/{run}/run.json       what training took
#   paper/published.csv           the paper's Table 1, as data
#   paper/claims.yaml             the paper's quantitative claims, as data
# OUTPUTS
#   {R}/config.yaml               the merged config that made these results
#   {R}/scores.csv                per run and task: n, scores, errors, paired differences, null baselines
#   {R}/comparisons.csv           every pair of runs: differences, tests, intervals, what could be detected
#   {R}/letters.csv               how often each run answers A, B, C, ...
#   {R}/runs.csv                  per training run: tokens, steps, hours, speed, memory, losses
#   {R}/data.csv                  documents and tokens of each corpus after each data stage
#   {R}/seeds.csv                 runs that differ only in their seed: spread between them, if there are any
#   {R}/claims.csv                each claim: stated, recomputed from the paper's numbers, measured, verdict
#   {R}/table1.csv, .md, .tex


localrules:
    merged_config,
    scores,
    comparisons,
    letters,
    runs,
    data,
    seeds,
    claims,
    table1,
    tables,


PUBLISHED = str(Path(workflow.basedir) / "paper" / "published.csv")
CLAIMS = str(Path(workflow.basedir) / "paper" / "claims.yaml")
RUN_BUDGETS = json.dumps([{"name": name, "tokens": tokens} for name, tokens in cfg.budgets.items()])
TASK_COLUMNS = in_order(cfg.evaluate.table_tasks)
SAMPLES = expand(f"{R}/evaluations/{{run}}/{{task}}.samples.jsonl", run=RUNS, task=TASKS)


rule merged_config:
    """The config that the results come from, overlays merged."""
    output:
        f"{R}/config.yaml",
    log:
        f"{R}/logs/merged_config.log",
    benchmark:
        f"{R}/timings/merged_config.tsv"
    threads: 1
    params:
        command=script("merged_config"),
        config=cfg.model_dump_json(exclude_none=True),
        code=code("merged_config"),
    message:
        "merged config"
    shell:
        "{params.command} --config {params.config:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule scores:
    """Every score with its interval, paired test and null baselines."""
    input:
        published=ancient(PUBLISHED),
        tasks=expand(f"{R}/evaluations/{{run}}/{{task}}.json", run=RUNS, task=TASKS),
        samples=SAMPLES,
        bits=expand(rules.bits_per_byte.output, run=RUNS, corpus=cfg.measured_corpora),
    output:
        f"{R}/scores.csv",
    log:
        f"{R}/logs/scores.log",
    benchmark:
        f"{R}/timings/scores.tsv"
    threads: 1
    params:
        command=script("scores"),
        evaluations=lambda wildcards: f"{R}/evaluations",
        runs=RUN_BUDGETS,
        tasks=in_order(cfg.evaluate.tasks),
        corpora=json.dumps(cfg.measured_corpora),
        base=as_json(cfg.base.model_dump(exclude={"license", "expected_scores"})),
        seed=cfg.evaluate.seed,
        code=code("scores", PUBLISHED),
    message:
        "scores"
    shell:
        "{params.command} --evaluations {params.evaluations:q} --runs {params.runs:q}"
        " --tasks {params.tasks:q} --corpora {params.corpora:q} --base {params.base:q}"
        " --published {input.published:q} --seed {params.seed}"
        " --output {output:q} --code {params.code} --log-file {log:q}"


rule comparisons:
    """Every pair of runs: differences, tests, intervals, what could be detected."""
    input:
        SAMPLES,
    output:
        f"{R}/comparisons.csv",
    log:
        f"{R}/logs/comparisons.log",
    benchmark:
        f"{R}/timings/comparisons.tsv"
    threads: 1
    params:
        command=script("comparisons"),
        evaluations=lambda wildcards: f"{R}/evaluations",
        runs=RUN_BUDGETS,
        tasks=in_order(cfg.evaluate.tasks),
        seed=cfg.evaluate.seed,
        code=code("comparisons"),
    message:
        "comparisons of runs"
    shell:
        "{params.command} --evaluations {params.evaluations:q} --runs {params.runs:q}"
        " --tasks {params.tasks:q} --seed {params.seed} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule letters:
    """Which letters each run answers."""
    input:
        SAMPLES,
    output:
        f"{R}/letters.csv",
    log:
        f"{R}/logs/letters.log",
    benchmark:
        f"{R}/timings/letters.tsv"
    threads: 1
    params:
        command=script("letters"),
        evaluations=lambda wildcards: f"{R}/evaluations",
        runs=RUN_BUDGETS,
        tasks=TASKS,
        code=code("letters"),
    message:
        "letters answered"
    shell:
        "{params.command} --evaluations {params.evaluations:q} --runs {params.runs:q}"
        " --tasks {params.tasks} --output {output:q} --code {params.code} --log-file {log:q}"


rule runs:
    """What each training run took and reached."""
    input:
        summaries=expand(rules.train.output.summary, run=cfg.trained_runs),
        metrics=expand(rules.train.output.metrics, run=cfg.trained_runs),
    output:
        f"{R}/runs.csv",
    log:
        f"{R}/logs/runs.log",
    benchmark:
        f"{R}/timings/runs.tsv"
    threads: 1
    params:
        command=script("runs"),
        code=code("runs"),
    message:
        "runs"
    shell:
        "{params.command} --summaries {input.summaries:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule data:
    """Documents and tokens of each corpus after each data stage."""
    input:
        rules.corpus_statistics.output.table,
    output:
        f"{R}/data.csv",
    log:
        f"{R}/logs/data.log",
    benchmark:
        f"{R}/timings/data.tsv"
    threads: 1
    params:
        command=script("data"),
        code=code("data"),
    message:
        "data"
    shell:
        "{params.command} --statistics {input:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule seeds:
    """Spread between runs that repeat one another, where there are any."""
    input:
        SAMPLES,
    output:
        f"{R}/seeds.csv",
    log:
        f"{R}/logs/seeds.log",
    benchmark:
        f"{R}/timings/seeds.tsv"
    threads: 1
    params:
        command=script("seeds"),
        evaluations=lambda wildcards: f"{R}/evaluations",
        groups=json.dumps(cfg.replicates),
        base=BASE_RUN,
        tasks=TASK_COLUMNS,
        code=code("seeds"),
    message:
        "several seeds"
    shell:
        "{params.command} --evaluations {params.evaluations:q} --groups {params.groups:q} --base {params.base:q}"
        " --tasks {params.tasks:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule claims:
    """The paper's claims: stated, recomputed from its own numbers, measured here."""
    input:
        claims=ancient(CLAIMS),
        published=ancient(PUBLISHED),
        config=rules.merged_config.output,
        scores=rules.scores.output,
        runs=rules.runs.output,
    output:
        f"{R}/claims.csv",
    log:
        f"{R}/logs/claims.log",
    benchmark:
        f"{R}/timings/claims.tsv"
    threads: 1
    params:
        command=script("claims"),
        runs=RUN_BUDGETS,
        code=code("claims", CLAIMS, PUBLISHED),
    message:
        "claims"
    shell:
        "{params.command} --claims {input.claims:q} --published {input.published:q} --config {input.config:q}"
        " --scores {input.scores:q} --runs-table {input.runs:q} --runs {params.runs:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule table1:
    """Table 1: scores by budget, with the published ones beside."""
    input:
        scores=rules.scores.output,
        config=rules.merged_config.output,
        published=ancient(PUBLISHED),
    output:
        csv=f"{R}/table1.csv",
        markdown=f"{R}/table1.md",
        latex=f"{R}/table1.tex",
    log:
        f"{R}/logs/table1.log",
    benchmark:
        f"{R}/timings/table1.tsv"
    threads: 1
    params:
        command=script("table1"),
        runs=RUN_BUDGETS,
        tasks=TASK_COLUMNS,
        base=as_json(cfg.base.model_dump(exclude={"license", "expected_scores"})),
        code=code("table1", PUBLISHED),
    message:
        "Table 1"
    shell:
        "{params.command} --scores {input.scores:q} --runs {params.runs:q} --tasks {params.tasks:q}"
        " --base {params.base:q} --published {input.published:q}"
        " --csv {output.csv:q} --markdown {output.markdown:q} --latex {output.latex:q}"
        " --code {params.code} --log-file {log:q}"


rule tables:
    """All tables."""
    input:
        rules.table1.output.csv,
        rules.scores.output,
        rules.comparisons.output,
        rules.letters.output,
        rules.runs.output,
        rules.data.output,
        rules.claims.output,
        rules.seeds.output if cfg.replicates else [],
