# Report: scores, Table 1 and the figures.
#
# REQUIRED INPUTS
#   {R}/evaluations/{run}/...     scores and per-item samples of every run
#   {R}/runs/{run}/metrics.csv    training loss
#   {R}/corpora/*.csv             documents and tokens after each stage, token-level measures
#   paper/published.csv           the paper's Table 1, as data
# OUTPUTS
#   {R}/config.yaml               the merged config that made these results
#   {R}/scores.csv                per run and task: n, scores, errors, paired differences
#   {R}/table1.csv, .md, .tex
#   {R}/figures/figure1, figure2  .pdf, .png, .svg
#   {R}/figures/figure3           forgetting: held-out bits per byte along training, if it is measured
#   {R}/figures/figure6           what each data stage leaves of each corpus
#   {R}/figures/token_quality     how the token-level measures are spread
#   {R}/figures/schedules         learning rates as planned (asked for by name only)


localrules:
    merged_config,
    scores,
    table1,
    figure1,
    figure2,
    figure3,
    figure6,
    token_quality,
    schedules,
    figures,


PUBLISHED = str(Path(workflow.basedir) / "paper" / "published.csv")
RUN_BUDGETS = json.dumps([{"name": name, "tokens": tokens} for name, tokens in cfg.budgets.items()])
TASK_COLUMNS = in_order(cfg.evaluate.tasks)
MEASURED_RUNS = [run for run in cfg.trained_runs if held_out_for(run)]
BASE_RUN = next((run for run, tokens in cfg.budgets.items() if not tokens), "")
SHOWN_BETWEEN = cfg.interpolated_runs if cfg.general and BASE_RUN else []  # in Figure 3
SAMPLES = expand(rules.evaluate_task.output.samples, run=RUNS, task=TASKS)


rule merged_config:
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
    input:
        published=ancient(PUBLISHED),
        tasks=expand(rules.evaluate_task.output.scores, run=RUNS, task=TASKS),
        samples=SAMPLES,
        bits=expand(rules.bits_per_byte.output, run=RUNS, corpus=cfg.measured_corpora),
    output:
        report(
            f"{R}/scores.csv",
            caption="../paper/captions/scores.rst",
            category="Results",
            labels={"table": "all scores"},
        ),
    log:
        f"{R}/logs/scores.log",
    benchmark:
        f"{R}/timings/scores.tsv"
    threads: 1
    params:
        command=script("scores"),
        evaluations=lambda wildcards: f"{R}/evaluations",
        runs=RUN_BUDGETS,
        tasks=TASK_COLUMNS,
        corpora=json.dumps(cfg.measured_corpora),
        base=as_json(cfg.base),
        code=code("scores", PUBLISHED),
    message:
        "scores"
    shell:
        "{params.command} --evaluations {params.evaluations:q} --runs {params.runs:q}"
        " --tasks {params.tasks:q} --corpora {params.corpora:q} --base {params.base:q}"
        " --published {input.published:q}"
        " --output {output:q} --code {params.code} --log-file {log:q}"


rule table1:
    input:
        scores=rules.scores.output,
        config=rules.merged_config.output,
        published=ancient(PUBLISHED),
    output:
        csv=report(
            f"{R}/table1.csv",
            caption="../paper/captions/table1.rst",
            category="Results",
            labels={"table": "Table 1"},
        ),
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
        base=as_json(cfg.base),
        code=code("table1", PUBLISHED),
    message:
        "Table 1"
    shell:
        "{params.command} --scores {input.scores:q} --runs {params.runs:q} --tasks {params.tasks:q}"
        " --base {params.base:q} --published {input.published:q}"
        " --csv {output.csv:q} --markdown {output.markdown:q} --latex {output.latex:q}"
        " --code {params.code} --log-file {log:q}"


rule figure1:
    input:
        expand(rules.train.output.metrics, run=cfg.trained_runs),
    output:
        report(
            multiext(f"{R}/figures/figure1", *(f".{kind}" for kind in FIGURE_FORMATS)),
            caption="../paper/captions/figure1.rst",
            category="Figures",
            labels={"figure": "1: training loss"},
        ),
    log:
        f"{R}/logs/figure1.log",
    benchmark:
        f"{R}/timings/figure1.tsv"
    threads: 1
    params:
        command=script("figure1"),
        runs=json.dumps([{"name": name, "tokens": cfg.runs[name].tokens} for name in cfg.trained_runs]),
        stem=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
        formats=FIGURE_FORMATS,
        code=code("figure1"),
    message:
        "Figure 1"
    shell:
        "{params.command} --metrics {input:q} --runs {params.runs:q} --output-stem {params.stem:q}"
        " --formats {params.formats} --code {params.code} --log-file {log:q}"


rule figure2:
    input:
        scores=rules.scores.output,
        published=ancient(PUBLISHED),
    output:
        report(
            multiext(f"{R}/figures/figure2", *(f".{kind}" for kind in FIGURE_FORMATS)),
            caption="../paper/captions/figure2.rst",
            category="Figures",
            labels={"figure": "2: token efficiency"},
        ),
    log:
        f"{R}/logs/figure2.log",
    benchmark:
        f"{R}/timings/figure2.tsv"
    threads: 1
    params:
        command=script("figure2"),
        groups=in_order(cfg.evaluate.groups),
        seed=cfg.evaluate.seed,
        runs=RUN_BUDGETS,
        stem=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
        formats=FIGURE_FORMATS,
        code=code("figure2", PUBLISHED),
    message:
        "Figure 2"
    shell:
        "{params.command} --scores {input.scores:q} --groups {params.groups:q} --runs {params.runs:q} --seed {params.seed}"
        " --published {input.published:q} --output-stem {params.stem:q} --formats {params.formats}"
        " --code {params.code} --log-file {log:q}"


rule figure3:
    input:
        held_out=expand(rules.train.output.held_out, run=MEASURED_RUNS),
        bits=expand(
            rules.bits_per_byte.output,
            run=[BASE_RUN, *SHOWN_BETWEEN] if SHOWN_BETWEEN else [],
            corpus=cfg.measured_corpora,
        ),
    output:
        report(
            multiext(f"{R}/figures/figure3", *(f".{kind}" for kind in FIGURE_FORMATS)),
            caption="../paper/captions/figure3.rst",
            category="Figures",
            labels={"figure": "3: forgetting"},
        ),
    log:
        f"{R}/logs/figure3.log",
    benchmark:
        f"{R}/timings/figure3.tsv"
    threads: 1
    params:
        command=script("figure3"),
        runs=json.dumps([{"name": run, "origin": origin_of(run)} for run in MEASURED_RUNS]),
        corpora=cfg.measured_corpora,
        evaluations=lambda wildcards: f"{R}/evaluations",
        base=BASE_RUN,
        interpolated=json.dumps(
            [{"name": run, "run": cfg.runs[run].interpolate.run} for run in SHOWN_BETWEEN]
        ),
        stem=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
        formats=FIGURE_FORMATS,
        code=code("figure3"),
    message:
        "Figure 3"
    shell:
        "{params.command} --held-out {input.held_out:q} --runs {params.runs:q} --corpora {params.corpora:q}"
        " --evaluations {params.evaluations:q} --base {params.base:q} --interpolated {params.interpolated:q}"
        " --output-stem {params.stem:q} --formats {params.formats} --code {params.code} --log-file {log:q}"


rule figure6:
    input:
        rules.corpus_statistics.output.table,
    output:
        report(
            multiext(f"{R}/figures/figure6", *(f".{kind}" for kind in FIGURE_FORMATS)),
            caption="../paper/captions/figure6.rst",
            category="Figures",
            labels={"figure": "6: data waterfall"},
        ),
    log:
        f"{R}/logs/figure6.log",
    benchmark:
        f"{R}/timings/figure6.tsv"
    threads: 1
    params:
        command=script("figure6"),
        stem=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
        formats=FIGURE_FORMATS,
        code=code("figure6"),
    message:
        "Figure 6"
    shell:
        "{params.command} --statistics {input:q} --output-stem {params.stem:q} --formats {params.formats}"
        " --code {params.code} --log-file {log:q}"


rule token_quality:
    input:
        rules.corpus_statistics.output.quality,
    output:
        report(
            multiext(f"{R}/figures/token_quality", *(f".{kind}" for kind in FIGURE_FORMATS)),
            caption="../paper/captions/token_quality.rst",
            category="Data",
            labels={"figure": "token-level quality"},
        ),
    log:
        f"{R}/logs/token_quality.log",
    benchmark:
        f"{R}/timings/token_quality.tsv"
    threads: 1
    params:
        command=script("token_quality"),
        settings=as_json(cfg.filters.token_quality),
        stem=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
        formats=FIGURE_FORMATS,
        code=code("token_quality"),
    message:
        "token-level quality"
    shell:
        "{params.command} --quality {input:q} --settings {params.settings:q} --output-stem {params.stem:q}"
        " --formats {params.formats} --code {params.code} --log-file {log:q}"


rule schedules:
    input:
        expand(rules.plan_run.output.schedule, run=cfg.trained_runs),
    output:
        report(
            multiext(f"{R}/figures/schedules", *(f".{kind}" for kind in FIGURE_FORMATS)),
            caption="../paper/captions/schedules.rst",
            category="Figures",
            labels={"figure": "learning-rate schedules"},
        ),
    log:
        f"{R}/logs/schedules.log",
    benchmark:
        f"{R}/timings/schedules.tsv"
    threads: 1
    params:
        command=script("schedules"),
        runs=json.dumps([{"name": name, "tokens": cfg.runs[name].tokens} for name in cfg.trained_runs]),
        stem=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
        formats=FIGURE_FORMATS,
        code=code("schedules"),
    message:
        "learning-rate schedules"
    shell:
        "{params.command} --schedules {input:q} --runs {params.runs:q} --output-stem {params.stem:q}"
        " --formats {params.formats} --code {params.code} --log-file {log:q}"


rule figures:
    input:
        rules.figure1.output,
        rules.figure2.output,
        rules.figure3.output if MEASURED_RUNS else [],
        rules.figure6.output,
        rules.token_quality.output,
