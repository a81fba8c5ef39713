import csv
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.corpus.drops import (
    EXAMPLES,
    overlap_section,
    read_examples,
    read_tables,
    sections_of,
    warnings_of,
)
from cpt.corpus.shards import corpus_files
from cpt.files import read_json, write_text


def drop_report(
    corpora: dict[str, int],
    drops: Sequence[Path],
    examples: Sequence[Path],
    contamination: Sequence[Path],
    token_drops: Sequence[Path],
    token_examples: Sequence[Path],
    overlap: Path,
    overlap_table: Path,
    warn_share: float,
    page: Path,
    warnings: Path,
) -> None:
    """Report what the rules dropped from each corpus: counts, and ten documents per rule (Markdown).

    Args:
        corpora: number of shards by corpus; lists of files have all shards in this order.
        drops: counts per rule of the filters (.csv).
        examples: documents that the filters dropped (.jsonl).
        contamination: reports of the decontamination (.json).
        token_drops: counts per rule of token quality (.csv).
        token_examples: documents that these rules dropped (.jsonl).
        overlap: how much held-out text is in training text (.json).
        overlap_table: the same of each held-out document (.csv).
        warn_share: the config's `filters.warn_share`.
        page: the report (.md) to write.
        warnings: a line for each rule that dropped more than that, and for overlap (.txt), to write.
    """
    files = corpus_files(corpora, drops, examples, contamination, token_drops, token_examples)
    sections, messages = ["# What was dropped, and why\n"], []
    with open(overlap_table, newline="", encoding="utf-8") as file:
        worst = list(itertools.islice(csv.DictReader(file), EXAMPLES))
    for corpus, lists in files.items():
        sections += sections_of(corpus, *lists)
        for tables, kept in ((lists[0], lists[1]), (lists[3], lists[4])):
            shown = [entry for path in kept for entry in read_examples(path)]
            messages += warnings_of(corpus, read_tables(tables), shown, warn_share)
    measured = read_json(overlap)
    if measured["shared"]:
        sections.append(overlap_section(measured, worst))
        share = 100 * measured["shared"] / measured["ngrams"]
        messages.append(
            f"held-out text: {share:.1f} % of its {measured['ngram']}-grams are in training text as well, "
            f"most of {worst[0]['id']} ({100 * float(worst[0]['share']):.0f} %)"
        )
    for line in messages:
        logging.info(line)
    write_text(page, "\n".join(sections))
    write_text(warnings, "".join(f"{line}\n" for line in messages))


if __name__ == "__main__":
    run(drop_report)
