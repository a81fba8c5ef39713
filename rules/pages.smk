# Pages: what is handed on: released models with their cards, and the pages of Snakemake's report.
#
# REQUIRED INPUTS
#   {R}/models/{run}, {R}/runs/{run}/run.json, {R}/scores.csv
#   tables of all wings
# OUTPUTS
#   {R}/released/{run}       the model with its card, to be published
#   {R}/pages/{page}.html    tables and texts of the report, where a CSV file can only be saved


localrules:
    release,
    page,


RELEASED_RUNS = [*cfg.trained_runs, *cfg.interpolated_runs]
# By page: the rule's output, the file in it, label, category; the report sorts by the last two.
PAGES = {
    "table1": (f"{R}/table1.md", "", "1 Scores by budget (Table 1)", "2 Tables"),
    "comparisons": (f"{R}/comparisons.csv", "", "2 Differences between runs", "2 Tables"),
    "claims": (f"{R}/claims.csv", "", "3 Claims of the paper", "2 Tables"),
    "runs": (f"{R}/runs.csv", "", "4 Training runs", "2 Tables"),
    "scores": (f"{R}/scores.csv", "", "5 All scores", "2 Tables"),
    "letters": (f"{R}/letters.csv", "", "6 Letters answered", "2 Tables"),
    "data": (f"{R}/data.csv", "", "1 What each stage leaves", "4 Data"),
    "statistics": (f"{R}/corpora/statistics.csv", "", "2 Each rule and mixture", "4 Data"),
    "drops": (f"{R}/corpora/drops.md", "", "3 What was dropped, with examples", "4 Data"),
}
if cfg.replicates:
    PAGES["seeds"] = (f"{R}/seeds.csv", "", "7 Several seeds", "2 Tables")
PAGES |= {f"card-{run}": (f"{R}/released/{run}", "README.md", run, "5 Models") for run in RELEASED_RUNS}


rule release:
    input:
        model=f"{R}/models/{{run}}",
        config=rules.merged_config.output,
        base=rules.base_model.output.report,
        scores=rules.scores.output,
        summary=lambda wildcards: f"{R}/runs/{trained_run_of(wildcards.run)}/run.json",
    output:
        directory(f"{R}/released/{{run}}"),
    log:
        f"{R}/logs/release/{{run}}.log",
    benchmark:
        f"{R}/timings/release/{{run}}.tsv"
    wildcard_constraints:
        run=one_of(RELEASED_RUNS),
    threads: 1
    params:
        command=script("release"),
        code=code("release"),
    message:
        "release: {wildcards.run}"
    shell:
        "{params.command} --run {wildcards.run} --model {input.model:q} --config {input.config:q}"
        " --base {input.base:q} --scores {input.scores:q} --summary {input.summary:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"


rule page:
    input:
        lambda wildcards: PAGES[wildcards.page][0],
    output:
        report(
            f"{R}/pages/{{page}}.html",
            caption="../paper/captions/page.rst",
            category=lambda wildcards: PAGES[wildcards.page][3],
            labels=lambda wildcards: {"shows": PAGES[wildcards.page][2]},
        ),
    log:
        f"{R}/logs/page/{{page}}.log",
    benchmark:
        f"{R}/timings/page/{{page}}.tsv"
    wildcard_constraints:
        page=one_of(PAGES),
    threads: 1
    params:
        command=script("page"),
        source=lambda wildcards, input: str(Path(input[0]) / PAGES[wildcards.page][1]),
        title=lambda wildcards: PAGES[wildcards.page][2].lstrip("0123456789 "),
        caption=lambda wildcards: caption_of(wildcards.page),
        code=code("page"),
    message:
        "page: {wildcards.page}"
    shell:
        "{params.command} --source {params.source:q} --title {params.title:q}"
        " --caption {params.caption:q} --output {output:q} --code {params.code} --log-file {log:q}"
