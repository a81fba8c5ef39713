"""Tables and texts as self-contained HTML pages, for a browser to show inside Snakemake's report."""

import base64
import csv
import html
import io
import re
from pathlib import Path

from markdown_it import MarkdownIt

STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 1.5rem; color: #111; background: #fff }
h1 { font-size: 1.3rem }
body > p { max-width: 46rem }
table { border-collapse: collapse; margin: 1rem 0 }
th { position: sticky; top: 0; background: #eee; text-align: left }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.words { min-width: 18rem }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .5rem }
""".strip()
FRONT_MATTER = r"\A---\n.*?\n---\n"  # of model cards: for the hub, not for readers
LONG = 40  # characters of a cell that is read like a sentence


def html_of_markdown(text: str) -> str:
    """Markdown with tables as HTML. HTML in it, which may quote the web, is shown as text."""
    return MarkdownIt("js-default").render(re.sub(FRONT_MATTER, "", text, flags=re.S))


def table_of_csv(text: str, name: str) -> str:
    """The table of a CSV file as HTML, under a link that saves the file itself as `name`."""
    header, *rows = csv.reader(io.StringIO(text))
    numbers = [all(_is_number(row[index]) for row in rows if row[index]) for index in range(len(header))]
    encoded, name = base64.b64encode(text.encode()).decode(), html.escape(name)
    lines = [f'<p><a download="{name}" href="data:text/csv;base64,{encoded}">Save {name}</a></p>']
    lines.append("<table><thead><tr>")
    for title, numeric in zip(header, numbers, strict=True):
        lines.append(f'<th class="{"number" if numeric else ""}">{html.escape(title)}</th>')
    lines.append("</tr></thead><tbody>")
    lines += [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows]
    return "\n".join([*lines, "</tbody></table>"])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cell(text: str) -> str:
    if _is_number(text):
        shown = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
        return f'<td class="number">{shown}</td>'
    kind = ' class="words"' if len(text) > LONG else ""
    return f"<td{kind}>{html.escape(text)}</td>"


def render(source: Path, title: str, caption: str) -> str:
    """A whole page that shows a .csv or .md file, or the card in the folder of a released model.

    `caption` is text with literals in double backticks.
    """
    if source.is_dir():
        source /= "README.md"
    text = source.read_text(encoding="utf-8")
    body = table_of_csv(text, source.name) if source.suffix == ".csv" else html_of_markdown(text)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    opening = f"<h1>{html.escape(title)}</h1>\n{html_of_markdown(caption)}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{opening}\n{body}\n</body></html>\n'
