from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.corpus.drops import sections_of
from cpt.corpus.shards import by_corpus
from cpt.files import write_text


def drop_report(
    corpora: dict[str, int],
    drops: Sequence[Path],
    examples: Sequence[Path],
    contamination: Sequence[Path],
    token_drops: Sequence[Path],
    token_examples: Sequence[Path],
    page: Path,
) -> None:
    """What the rules dropped from each corpus: counts, and ten documents per rule to be read (Markdown).

    Args:
        corpora: corpus: number of shards; lists of files have all shards, in this order.
        drops: counts per rule of the filters (.csv).
        examples: documents that the filters dropped (.jsonl).
        contamination: reports of the decontamination (.json).
        token_drops: counts per rule of token quality (.csv).
        token_examples: documents that these rules dropped (.jsonl).
        page: the report (.md) to write.
    """
    files = by_corpus(corpora, drops, examples, contamination, token_drops, token_examples)
    sections = ["# What was dropped, and why\n"]
    for corpus, lists in files.items():
        sections += sections_of(corpus, *lists)
    write_text(page, "\n".join(sections))


if __name__ == "__main__":
    run(drop_report)
