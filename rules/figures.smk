# Figures.
#
# REQUIRED INPUTS
#   {R}/runs/{run}/metrics.csv    training loss
#   {R}/scores.csv, comparisons.csv, letters.csv
#   {R}/corpora/*.csv             documents and tokens after each stage, token-level measures
#   paper/published.csv           the paper's Table 1, as data
# OUTPUTS
#   {R}/figures/figure1, figure2  .pdf, .png, .svg
#   {R}/figures/figure3           forgetting: held-out bits per byte along training, if it is measured
#   {R}/figures/figure4           paired differences from the base model, and what could be detected
#   {R}/figures/figure5           letters answered on MMLU
#   {R}/figures/figure6           what each data stage leaves of each corpus
#   {R}/figures/token_quality     how the token-level measures are spread
#   {R}/figures/schedules         learning rates as planned (asked for by name only)


localrules:
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    figure6,
    token_quality,
    schedules,
    figures,


MEASURED_RUNS = [run for run in cfg.trained_runs if held_out_for(run)]
SHOWN_BETWEEN = cfg.interpolated_runs if cfg.general else []  # in Figure 3


rule figure1:
    """Figure 1: training loss."""
    input:
        expand(rules.train.output.metrics, run=cfg.trained_runs),
    output:
        figure_files("figure1", "Figure 1: training loss"),
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
    """Figure 2: change of the benchmark groups over tokens."""
    input:
        scores=rules.scores.output,
        published=ancient(PUBLISHED),
    output:
        figure_files("figure2", "Figure 2: token efficiency"),
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
    """Figure 3: bits per byte of domain and general text along training."""
    input:
        held_out=expand(rules.train.output.held_out, run=MEASURED_RUNS),
        bits=expand(
            rules.bits_per_byte.output,
            run=[BASE_RUN, *SHOWN_BETWEEN] if SHOWN_BETWEEN else [],
            corpus=cfg.measured_corpora,
        ),
    output:
        figure_files("figure3", "Figure 3: forgetting"),
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


rule figure4:
    """Figure 4: differences from the base model beside what could be detected."""
    input:
        rules.comparisons.output,
    output:
        figure_files("figure4", "Figure 4: differences from the base model"),
    log:
        f"{R}/logs/figure4.log",
    benchmark:
        f"{R}/timings/figure4.tsv"
    threads: 1
    params:
        command=script("figure4"),
        tasks=TASK_COLUMNS,
        stem=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
        formats=FIGURE_FORMATS,
        code=code("figure4"),
    message:
        "Figure 4"
    shell:
        "{params.command} --comparisons {input:q} --tasks {params.tasks:q} --output-stem {params.stem:q}"
        " --formats {params.formats} --code {params.code} --log-file {log:q}"


rule figure5:
    """Figure 5: letters answered on MMLU."""
    input:
        rules.letters.output,
    output:
        figure_files("figure5", "Figure 5: letters answered"),
    log:
        f"{R}/logs/figure5.log",
    benchmark:
        f"{R}/timings/figure5.tsv"
    threads: 1
    params:
        command=script("figure5"),
        stem=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
        formats=FIGURE_FORMATS,
        code=code("figure5"),
    message:
        "Figure 5"
    shell:
        "{params.command} --letters {input:q} --task mmlu --output-stem {params.stem:q}"
        " --formats {params.formats} --code {params.code} --log-file {log:q}"


rule figure6:
    """Figure 6: what each data stage leaves."""
    input:
        rules.corpus_statistics.output.table,
    output:
        figure_files("figure6", "Figure 6: data waterfall"),
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
    """A figure of the token-level measures."""
    input:
        rules.corpus_statistics.output.quality,
    output:
        figure_files("token_quality", "4 Token-level quality", "4 Data"),
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
    """A figure of the learning rates as planned."""
    input:
        expand(rules.plan_run.output.schedule, run=cfg.trained_runs),
    output:
        figure_files("schedules", "Learning-rate schedules"),
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
    """All figures."""
    input:
        rules.figure1.output if cfg.trained_runs else [],
        rules.figure2.output,
        rules.figure3.output if MEASURED_RUNS else [],
        rules.figure4.output if len(RUNS) > 1 else [],
        rules.figure5.output if "mmlu" in TASKS else [],
        rules.figure6.output,
        rules.token_quality.output,
