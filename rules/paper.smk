# Paper: the PDF, whose every number is read from the results when it is compiled.
#
# REQUIRED INPUTS
#   paper/paper.typ, paper/references.bib, paper/published.csv
#   scores, comparisons, letters, answers, touched items, claims (if shown), table of runs, figures, statistics, run
#   summaries, and the merged config
# OUTPUTS
#   {R}/paper.pdf


PRINTED = r"(figure.|answers|exam)\.svg"  # the figures that the template may show


rule paper:
    """The PDF, every number read from the results."""
    input:
        template=project_file("paper/paper.typ"),
        references=project_file("paper/references.bib"),
        published=PUBLISHED,
        config=rules.merged_config.output.merged,
        scores=rules.scores.output.table,
        comparisons=rules.comparisons.output.table,
        letters=rules.letters.output.table,
        answers=rules.answers.output.table,
        answers_text=rules.answers.output.text,
        touched=rules.touched.output.table,
        claims=rules.claims.output.table if cfg.shows_claims else [],
        claims_source=CLAIMS if cfg.shows_claims else [],
        runs_table=rules.runs.output.table,
        base=rules.base_model.output.report,
        statistics=rules.corpus_statistics.output.table,
        packed=expand(rules.pack.output.packed, mixture=USED_MIXTURES),
        summaries=expand(rules.train.output.summary, run=cfg.trained_runs),
        figures=[path for path in rules.figures.input if re.fullmatch(PRINTED, Path(path).name)],
    output:
        pdf=report(
            f"{R}/paper.pdf",
            caption="../paper/captions/paper.rst",
            category="1 Paper",
            labels={"shows": "The paper"},
        ),
    log:
        f"{R}/logs/paper.log",
    shell:
        STAGE
