from pathlib import Path

from cpt.command import run
from cpt.files import write_text
from cpt.report.held_out_text import held_out_markdown, read_overlap
from cpt.report.scores import read_scores


def held_out_table(scores: Path, text: Path, roles: dict[str, str], overlap: Path) -> None:
    """Put the bits per byte of all runs on held-out text into a table, with intervals, what they rest on,
    and how much of that text is in training text.

    Args:
        scores: scores.csv.
        text: bits_per_byte.md to write.
        roles: what a corpus is, by its name: the domain, general text.
        overlap: how much held-out text is in training text (.json).
    """
    paragraphs = held_out_markdown(read_scores(scores), roles, read_overlap(overlap))
    write_text(text, "\n\n".join(paragraphs) + "\n")


if __name__ == "__main__":
    run(held_out_table)
