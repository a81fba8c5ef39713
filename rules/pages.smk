# Pages: what is handed on: released models with their cards, and the pages of Snakemake's report.
#
# REQUIRED INPUTS
#   {R}/models/{run}, {R}/runs/{run}/run.json, {R}/scores.csv
#   tables of all wings
# OUTPUTS
#   {R}/released/{run}       the model with its card, to be published
#   {R}/pages/{page}.html    tables and texts of the report, where a CSV file can only be saved


RELEASED_RUNS = [*cfg.trained_runs, *cfg.interpolated_runs]
# By page: what it shows, label, category; the report sorts by the last two.
PAGES = {
    "table1": (f"{R}/table1.md", "1 Scores by budget (Table 1)", "2 Tables"),
    "comparisons": (f"{R}/comparisons.csv", "2 Differences between runs", "2 Tables"),
    "claims": (f"{R}/claims.csv", "3 Claims of the paper", "2 Tables"),
    "runs": (f"{R}/runs.csv", "4 Training runs", "2 Tables"),
    "scores": (f"{R}/scores.csv", "5 All scores", "2 Tables"),
    "letters": (f"{R}/letters.csv", "6 Letters answered", "2 Tables"),
    "data": (f"{R}/data.csv", "1 What each stage leaves", "4 Data"),
    "statistics": (f"{R}/corpora/statistics.csv", "2 Each rule and mixture", "4 Data"),
    "drops": (f"{R}/corpora/drops.md", "3 What was dropped, with examples", "4 Data"),
}
if cfg.replicates:
    PAGES["seeds"] = (f"{R}/seeds.csv", "7 Several seeds", "2 Tables")
PAGES |= {f"card-{run}": (f"{R}/released/{run}", run, "5 Models") for run in RELEASED_RUNS}


rule release:
    input:
        model=f"{R}/models/{{run}}",
        config=rules.merged_config.output.merged,
        base=rules.base_model.output.report,
        scores=rules.scores.output.table,
        summary=lambda wildcards: f"{R}/runs/{trained_run_of(wildcards.run)}/run.json",
    output:
        released=directory(f"{R}/released/{{run}}"),
    log:
        f"{R}/logs/release/{{run}}.log",
    wildcard_constraints:
        run=one_of(RELEASED_RUNS),
    shell:
        STAGE


rule page:
    input:
        source=lambda wildcards: PAGES[wildcards.page][0],
    output:
        html=report(
            f"{R}/pages/{{page}}.html",
            caption="../paper/captions/page.rst",
            category=lambda wildcards: PAGES[wildcards.page][2],
            labels=lambda wildcards: {"shows": PAGES[wildcards.page][1]},
        ),
    log:
        f"{R}/logs/page/{{page}}.log",
    wildcard_constraints:
        page=one_of(PAGES),
    params:
        title=lambda wildcards: PAGES[wildcards.page][1].lstrip("0123456789 "),
        caption=lambda wildcards: caption_of(wildcards.page),
    shell:
        STAGE


# All that an experiment makes: what `all` asks for, and what its timings and provenance are about.
EVERYTHING = [
    rules.tables.input,
    rules.figures.input,
    rules.drop_report.output,
    rules.paper.output,
    expand(rules.release.output, run=RELEASED_RUNS),
    expand(rules.page.output, page=PAGES),
]
