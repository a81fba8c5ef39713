from pathlib import Path

from cpt.command import run
from cpt.files import write_text
from cpt.report.held_out_text import held_out_markdown, read_overlap
from cpt.report.scores import read_scores


def held_out_table(scores: Path, text: Path, roles: dict[str, str], overlap: Path) -> None:
    """Write a table of all runs' bits per byte on held-out text: intervals, number of documents and groups,
    and the share of that text in training text.

    Args:
        scores: scores.csv.
        text: bits_per_byte.md to write.
        roles: whether a corpus is domain or general text, by its name.
        overlap: how much held-out text is in training text (.json).
    """
    paragraphs = held_out_markdown(read_scores(scores), roles, read_overlap(overlap))
    write_text(text, "\n\n".join(paragraphs) + "\n")


if __name__ == "__main__":
    run(held_out_table)
