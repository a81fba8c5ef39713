from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report.typesetting import typeset


def paper(
    template: Path,
    references: Path,
    published: Path,
    config: Path,
    scores: Path,
    comparisons: Path,
    letters: Path,
    answers: Path,
    answers_text: Path,
    touched: Path,
    runs_table: Path,
    base: Path,
    statistics: Path,
    pdf: Path,
    claims: Path | None = None,
    claims_source: Path | None = None,
    packed: Sequence[Path] = (),
    summaries: Sequence[Path] = (),
    figures: Sequence[Path] = (),
) -> None:
    """Typeset the paper: a PDF whose every number is read from the results when it is compiled.

    Args:
        template: paper.typ.
        references: references.bib.
        published: the paper's Table 1 as CSV.
        config: the merged config.yaml of the results.
        scores: scores.csv.
        comparisons: comparisons.csv.
        letters: letters.csv.
        answers: answers.csv.
        answers_text: answers.md.
        touched: touched.csv.
        runs_table: runs.csv.
        base: models/base.json.
        statistics: corpora/statistics.csv.
        pdf: paper to write.
        claims: claims.csv; without it the paper doesn't compare itself with the original study.
        claims_source: paper/claims.yaml.
        packed: folders of the packed mixtures, each with its ledger.json.
        summaries: run.json of each run.
        figures: figure1.svg, figure2.svg, ...; the template shows those that exist.
    """
    files = {
        "paper.typ": template,
        "references.bib": references,
        "published.csv": published,
        "config.yaml": config,
        "scores.csv": scores,
        "comparisons.csv": comparisons,
        "letters.csv": letters,
        "answers.csv": answers,
        "answers.md": answers_text,
        "touched.csv": touched,
        "runs.csv": runs_table,
        "base.json": base,
        "statistics.csv": statistics,
    }
    if claims and claims_source:
        files |= {"claims.csv": claims, "claims.yaml": claims_source}
    ledgers = [folder / "ledger.json" for folder in packed]
    typeset(pdf, files, {"runs": summaries, "ledgers": ledgers}, figures)


if __name__ == "__main__":
    run(paper)
