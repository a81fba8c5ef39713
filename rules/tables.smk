# Tables: scores, comparisons, what training took, claims, Table 1.
#
# REQUIRED INPUTS
#   {R}/evaluations/{run}/...     scores and per-item samples of every run
#   {R}/corpora/*.csv             documents and tokens after each stage
#   {R}/corpora/overlap.json      how much of the held-out text is in training text
#   {R}/runs/{run}/run.json       what training took
#   paper/published.csv           the paper's Table 1, as data
#   paper/claims.yaml             the paper's quantitative claims, as data
# OUTPUTS
#   {R}/config.yaml               the merged config that made these results
#   {R}/scores.csv                per run and task: n, scores, errors, paired differences, null baselines
#   {R}/bits_per_byte.md          held-out text: bits per byte, changes, what they rest on, share in training text
#   {R}/comparisons.csv           every pair of runs: differences, tests, intervals, what could be detected
#   {R}/letters.csv               how often each run answers A, B, C, ...
#   {R}/answers.csv, .md          likelihood of right and wrong answers against the base model, and what it shows
#   {R}/exam.csv                  the domain's own exam: chance, base model without and with the document, runs
#   {R}/touched.csv               scores with and without the items that share words with the training text
#   {R}/runs.csv                  per training run: tokens, steps, hours, speed, memory, losses
#   {R}/data.csv                  documents and tokens of each corpus after each data stage
#   {R}/seeds.csv                 runs that differ only in their seed: spread between them, if there are any
#   {R}/claims.csv                each claim: does it follow from the paper's numbers, does it hold here
#   {R}/table1.csv, .md, .tex
#   {R}/summary.txt               what moved, in 80 columns: shown on the terminal at the end


PUBLISHED = project_file("paper/published.csv")
CLAIMS = project_file("paper/claims.yaml")
# What most tables need of a task: the section's own type would take longer to load than everything else.
METRICS = {task: settings.metric for task, settings in cfg.evaluate.tasks.items()}
LABELS = {task: settings.label for task, settings in cfg.evaluate.tasks.items()}
SUMMARIES = expand(f"{R}/evaluations/{{run}}/{{task}}.json", run=RUNS, task=TASKS)
TRAINED_CORPORA = list(dict.fromkeys(corpus for mixture in USED_MIXTURES for corpus in cfg.mixtures[mixture]))
SAMPLES = expand(f"{R}/evaluations/{{run}}/{{task}}.samples.jsonl", run=RUNS, task=TASKS)


rule merged_config:
    """The config that the results come from, overlays merged."""
    output:
        merged=f"{R}/config.yaml",
    log:
        f"{R}/logs/merged_config.log",
    params:
        config=cfg,
    shell:
        STAGE


rule scores:
    """Every score with its interval, paired test and null baselines."""
    input:
        published=PUBLISHED,
        summaries=SUMMARIES,
        samples=SAMPLES,
        losses=expand(rules.bits_per_byte.output.losses, run=RUNS, corpus=cfg.measured_corpora),
    output:
        table=f"{R}/scores.csv",
    log:
        f"{R}/logs/scores.log",
    params:
        runs=cfg.budgets,
        metrics=METRICS,
        table_tasks=list(cfg.evaluate.table_tasks),
        corpora=cfg.measured_corpora,
        repo=getattr(cfg.base, "repo", None),
        seed=cfg.evaluate.seed,
    shell:
        STAGE


# Whether a corpus is domain or general text, by its name.
ROLES = {corpus: "domain" if corpus == cfg.domain else "general" for corpus in cfg.domain_and_general}


rule held_out_table:
    """Held-out text: bits per byte, their changes, what they rest on, and how much of it is in training text."""
    input:
        scores=rules.scores.output.table,
        overlap=rules.held_out_overlap.output.report,
    output:
        text=f"{R}/bits_per_byte.md",
    log:
        f"{R}/logs/held_out_table.log",
    params:
        roles=ROLES,
    shell:
        STAGE


rule comparisons:
    """Every pair of runs: differences, tests, intervals, what could be detected."""
    input:
        samples=SAMPLES,
        summaries=SUMMARIES,
    output:
        table=f"{R}/comparisons.csv",
    log:
        f"{R}/logs/comparisons.log",
    params:
        runs=cfg.budgets,
        metrics=METRICS,
        table_tasks=list(cfg.evaluate.table_tasks),
        seed=cfg.evaluate.seed,
    shell:
        STAGE


rule letters:
    """Which letters each run answers."""
    input:
        samples=SAMPLES,
        summaries=SUMMARIES,
    output:
        table=f"{R}/letters.csv",
    log:
        f"{R}/logs/letters.log",
    params:
        runs=cfg.budgets,
        tasks=TASKS,
    shell:
        STAGE


rule answers:
    """What each run changes in the likelihood of right and wrong answers."""
    input:
        samples=SAMPLES,
        summaries=SUMMARIES,
    output:
        table=f"{R}/answers.csv",
        text=f"{R}/answers.md",
    log:
        f"{R}/logs/answers.log",
    params:
        runs=cfg.budgets,
        labels=LABELS,
    shell:
        STAGE


rule touched:
    """Scores with and without the items that share words with the training text."""
    input:
        samples=SAMPLES,
        summaries=SUMMARIES,
        contamination=lambda wildcards: shards_of(TRAINED_CORPORA, rules.decontaminate.output.report),
    output:
        table=f"{R}/touched.csv",
    log:
        f"{R}/logs/touched.log",
    params:
        runs=cfg.budgets,
        metrics=METRICS,
        seed=cfg.evaluate.seed,
    shell:
        STAGE


# The exam's first column, if there are several (with different numbers of worked examples).
EXAMS = cfg.evaluate.exam_columns[:1]


rule exam_scores:
    """The domain's own exam beside chance and beside the base model with the document in its context."""
    input:
        exam=f"{R}/exam/exam.json",
        scores=rules.scores.output.table,
    output:
        table=f"{R}/exam.csv",
        figure=figure_files("exam", "The domain's own exam"),
    log:
        f"{R}/logs/exam_scores.log",
    params:
        runs=cfg.budgets,
        task="".join(EXAMS),
    shell:
        STAGE


rule runs:
    """What each training run took and reached."""
    input:
        summaries=expand(rules.train.output.summary, run=cfg.trained_runs),
        metrics=expand(rules.train.output.metrics, run=cfg.trained_runs),
    output:
        table=f"{R}/runs.csv",
    log:
        f"{R}/logs/runs.log",
    shell:
        STAGE


rule data:
    """Documents and tokens of each corpus after each data stage."""
    input:
        statistics=rules.corpus_statistics.output.table,
    output:
        table=f"{R}/data.csv",
    log:
        f"{R}/logs/data.log",
    shell:
        STAGE


rule seeds:
    """Spread between runs that repeat one another, if there are any."""
    input:
        samples=SAMPLES,
        summaries=SUMMARIES,
    output:
        table=f"{R}/seeds.csv",
    log:
        f"{R}/logs/seeds.log",
    params:
        runs=cfg.budgets,
        metrics=METRICS,
        table_tasks=list(cfg.evaluate.table_tasks),
        groups=cfg.replicates,
        base=BASE_RUN,
    shell:
        STAGE


rule claims:
    """The paper's claims: do they follow from its own numbers, do they hold here."""
    input:
        claims=CLAIMS,
        published=PUBLISHED,
        config=rules.merged_config.output.merged,
        scores=rules.scores.output.table,
        runs_table=rules.runs.output.table,
    output:
        table=f"{R}/claims.csv",
    log:
        f"{R}/logs/claims.log",
    params:
        runs=cfg.budgets,
    shell:
        STAGE


rule table1:
    """Table 1: scores by budget, with the published ones beside."""
    input:
        rules.merged_config.output,
        scores=rules.scores.output.table,
        published=PUBLISHED,
        base=rules.base_model.output.report,
        choices=expand(rules.choose_summands.output.report, run=GREEDY_RUNS),
    output:
        csv=f"{R}/table1.csv",
        markdown=f"{R}/table1.md",
        latex=f"{R}/table1.tex",
    log:
        f"{R}/logs/table1.log",
    params:
        runs=cfg.budgets,
        tasks=cfg.evaluate.table_tasks,
        model=model_name(cfg.base.model_dump()),
        merges={run: cfg.summands(run) for run in cfg.merged_runs},
    message:
        "Table 1"
    shell:
        STAGE


rule summary:
    """What moved, as the terminal shows it at the end."""
    input:
        scores=rules.scores.output.table,
        answers_text=rules.answers.output.text,
        overlap=rules.held_out_overlap.output.report,
        exam=rules.exam_scores.output.table if EXAMS else [],
    output:
        text=f"{R}/summary.txt",
    log:
        f"{R}/logs/summary.log",
    params:
        runs=cfg.budgets,
        labels=LABELS,
        roles=ROLES,
    shell:
        STAGE


rule tables:
    """All tables."""
    input:
        rules.table1.output.csv,
        rules.scores.output.table,
        rules.held_out_table.output.text,
        rules.comparisons.output.table,
        rules.letters.output.table,
        rules.answers.output.table,
        rules.touched.output.table,
        rules.runs.output.table,
        rules.data.output.table,
        rules.claims.output.table if cfg.shows_claims else [],
        rules.summary.output.text,
        rules.seeds.output.table if cfg.replicates else [],
        rules.exam_scores.output.table if EXAMS else [],
