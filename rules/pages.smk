# Pages: released models with their cards, and the pages of Snakemake's report.
#
# REQUIRED INPUTS
#   {R}/models/{run}, {R}/runs/{run}/run.json, {R}/scores.csv
#   tables of all wings
# OUTPUTS
#   {R}/gguf/{run}           with release.gguf: files for llama.cpp and Ollama, and what they lost (quantisation.csv)
#   {R}/released/{run}       the model with its card, to be published
#   {R}/pushed/{run}.json    what `snakemake push` uploaded
#   {R}/pages/{page}.html    tables and texts of the report, in which a CSV file could only be saved, not read


RELEASED_RUNS = cfg.released_runs
GGUF_KINDS = [kind.upper() for kind in cfg.release.gguf]  # as file names have them
PUSHED_RUNS = RELEASED_RUNS if cfg.release.runs is None else cfg.release.runs
if cfg.release.repo is None and "push" in sys.argv:
    raise WorkflowError(
        "release.repo: not set; name the repository that push uploads to, such as --config "
        """'release={repo: "OWNER/NAME-{run}"}'"""
    )
if cfg.release.gguf and cfg.base.source == "local" and Path(cfg.base.path, "config.json").is_file():
    try:
        require_architecture(json.loads(Path(cfg.base.path, "config.json").read_text()).get("model_type"))
    except (UserError, ValueError) as error:
        raise WorkflowError(str(error))
# For each page: the file that it shows, label, category. The report sorts by category and label.
PAGES = {
    "table1": (f"{R}/table1.md", "1 Scores by budget (Table 1)", "2 Tables"),
    "bits_per_byte": (f"{R}/bits_per_byte.md", "3 Bits per byte of held-out text", "2 Tables"),
    "comparisons": (f"{R}/comparisons.csv", "2 Differences between runs", "2 Tables"),
    "runs": (f"{R}/runs.csv", "4 Training runs", "2 Tables"),
    "scores": (f"{R}/scores.csv", "5 All scores", "2 Tables"),
    "letters": (f"{R}/letters.csv", "6 Letters answered", "2 Tables"),
    "answers": (f"{R}/answers.md", "7 Right and wrong answers", "2 Tables"),
    "data": (f"{R}/data.csv", "1 What each stage leaves", "4 Data"),
    "statistics": (f"{R}/corpora/statistics.csv", "2 Each rule and mixture", "4 Data"),
    "drops": (f"{R}/corpora/drops.md", "3 What was dropped, with examples", "4 Data"),
    "touched": (f"{R}/touched.csv", "5 Evaluation items in the training text", "4 Data"),
}
if cfg.shows_claims:
    PAGES["claims"] = (f"{R}/claims.csv", "3 Claims of the paper", "2 Tables")
if EXAMS:
    PAGES["exam"] = (f"{R}/exam.csv", "8 The domain's own exam", "2 Tables")
if cfg.replicates:
    PAGES["seeds"] = (f"{R}/seeds.csv", "9 Several seeds", "2 Tables")
if cfg.release.compare_to:
    PAGES["compare"] = (f"{R}/compare.md", "10 The release that came before", "2 Tables")
PAGES |= {f"card-{run}": (f"{R}/released/{run}", run, "5 Models") for run in RELEASED_RUNS}


rule write_gguf:
    input:
        model=f"{R}/models/{{run}}",
    output:
        file=f"{R}/gguf/{{run}}/{{run}}-{{kind}}.gguf",
        report=f"{R}/gguf/{{run}}/{{kind}}.json",
    log:
        f"{R}/logs/write_gguf/{{run}}/{{kind}}.log",
    wildcard_constraints:
        run=one_of(RELEASED_RUNS),
        kind=one_of(GGUF_KINDS),
    params:
        kind=lambda wildcards: wildcards.kind.lower(),
    message:
        "write GGUF: {wildcards.run} as {wildcards.kind}"
    shell:
        STAGE


rule quantisation:
    input:
        model=f"{R}/models/{{run}}",
        files=expand(f"{R}/gguf/{{{{run}}}}/{{{{run}}}}-{{kind}}.gguf", kind=GGUF_KINDS),
        held_out=expand(
            f"{R}/corpora/{{corpus}}/held_out.{cfg.evaluate.held_out_tokens}.npz",
            corpus=cfg.domain_and_general,
        ),
        losses=expand(
            f"{R}/evaluations/{{{{run}}}}/bits_per_byte.{{corpus}}.documents.csv",
            corpus=cfg.domain_and_general,
        ),
    output:
        table=f"{R}/gguf/{{run}}/quantisation.csv",
    log:
        f"{R}/logs/quantisation/{{run}}.log",
    wildcard_constraints:
        run=one_of(RELEASED_RUNS),
    resources:
        **SCORING_PLACE,
        runtime=minutes(120),
    params:
        kinds=cfg.release.gguf,
        corpora=cfg.domain_and_general,
        sequence_length=cfg.packing.sequence_length,
        batch_size=cfg.evaluate.batch_size,
        device=SCORING_DEVICE,
        seed=cfg.evaluate.seed,
    message:
        "loss of quantisation: {wildcards.run}"
    shell:
        STAGE


rule release:
    input:
        model=f"{R}/models/{{run}}",
        config=rules.merged_config.output.merged,
        base=rules.base_model.output.report,
        scores=rules.scores.output.table,
        answers=rules.answers.output.text,
        evaluations=expand(f"{R}/evaluations/{{{{run}}}}/{{task}}.json", task=TASKS),
        # The run's own; for a sum of models, those of all runs whose training went into it.
        summaries=lambda wildcards: expand(
            f"{R}/runs/{{run}}/run.json",
            run=cfg.trained_by(wildcards.run) if run_of(wildcards).merge else wildcards.run,
        ),
        files=expand(f"{R}/gguf/{{{{run}}}}/{{{{run}}}}-{{kind}}.gguf", kind=GGUF_KINDS),
        reports=expand(f"{R}/gguf/{{{{run}}}}/{{kind}}.json", kind=GGUF_KINDS),
        losses=f"{R}/gguf/{{run}}/quantisation.csv" if GGUF_KINDS else [],
    output:
        released=directory(f"{R}/released/{{run}}"),
    log:
        f"{R}/logs/release/{{run}}.log",
    wildcard_constraints:
        run=one_of(RELEASED_RUNS),
    shell:
        STAGE


rule push:
    """Upload released models to the Hugging Face hub: release.repo, with HF_TOKEN."""
    input:
        expand(f"{R}/pushed/{{run}}.json", run=PUSHED_RUNS),


# Uploads only if `push` is asked for: it isn't part of `all`.
rule push_run:
    input:
        released=rules.release.output.released,
        base=rules.base_model.output.report,
    output:
        record=f"{R}/pushed/{{run}}.json",
    log:
        f"{R}/logs/push_run/{{run}}.log",
    wildcard_constraints:
        run=one_of(PUSHED_RUNS),
    params:
        license=cfg.base.license,
        repo=lambda wildcards: (cfg.release.repo or "").replace("{run}", wildcards.run),
        private=cfg.release.private,
        branch=cfg.release.branch,
    message:
        "push: {wildcards.run}"
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


# All that an experiment makes: `all` asks for it, and timings and provenance are about it.
EVERYTHING = [
    rules.tables.input,
    rules.figures.input,
    rules.drop_report.output,
    expand(rules.document_list.output, corpus=OWN),
    rules.paper.output,
    expand(rules.release.output, run=RELEASED_RUNS),
    expand(rules.page.output, page=PAGES),
]
