# Paper: the PDF, whose every number is read from the results when it is compiled.
#
# REQUIRED INPUTS
#   paper/paper.typ, paper/references.bib, paper/published.csv
#   scores, comparisons, letters, claims, table of runs, figures, statistics, run summaries, and the merged config
# OUTPUTS
#   {R}/paper.pdf


localrules:
    paper,


TEMPLATE = str(Path(workflow.basedir) / "paper" / "paper.typ")
REFERENCES = str(Path(workflow.basedir) / "paper" / "references.bib")


rule paper:
    """The PDF, every number read from the results."""
    input:
        template=ancient(TEMPLATE),
        references=ancient(REFERENCES),
        published=ancient(PUBLISHED),
        config=rules.merged_config.output,
        scores=rules.scores.output,
        comparisons=rules.comparisons.output,
        letters=rules.letters.output,
        claims=rules.claims.output,
        claims_source=rules.claims.input.claims,
        runs_table=rules.runs.output,
        base=rules.base_model.output.report,
        statistics=rules.corpus_statistics.output.table,
        packed=expand(rules.pack.output, mixture=USED_MIXTURES),
        runs=expand(rules.train.output.summary, run=cfg.trained_runs),
        figures=[path for path in rules.figures.input if Path(path).match("figure?.svg")],
    output:
        report(
            f"{R}/paper.pdf",
            caption="../paper/captions/paper.rst",
            category="1 Paper",
            labels={"shows": "The paper"},
        ),
    log:
        f"{R}/logs/paper.log",
    benchmark:
        f"{R}/timings/paper.tsv"
    threads: 1
    params:
        command=script("paper"),
        ledgers=lambda wildcards, input: [f"{folder}/ledger.json" for folder in input.packed],
        code=code("paper", TEMPLATE, REFERENCES, PUBLISHED),
    message:
        "paper"
    shell:
        "{params.command} --template {input.template:q} --references {input.references:q}"
        " --published {input.published:q} --config {input.config:q} --scores {input.scores:q}"
        " --comparisons {input.comparisons:q} --letters {input.letters:q} --claims {input.claims:q}"
        " --claims-source {input.claims_source:q} --runs-table {input.runs_table:q}"
        " --base {input.base:q} --statistics {input.statistics:q} --ledgers {params.ledgers:q}"
        " --runs {input.runs:q} --figures {input.figures:q} --output {output:q}"
        " --code {params.code} --log-file {log:q}"
