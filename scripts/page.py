from pathlib import Path

from cpt.command import run
from cpt.files import write_text
from cpt.report.pages import render


def page(source: Path, title: str, caption: str, html: Path) -> None:
    """Make an HTML page of a table or a text, for Snakemake's report.

    Args:
        source: file to show (.csv or .md), or the folder of a released model, whose card is shown.
        title: title of the page.
        caption: what the page shows, in words.
        html: page to write.
    """
    write_text(html, render(source, title, caption))


if __name__ == "__main__":
    run(page)
