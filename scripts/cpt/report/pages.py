"""Tables and texts as HTML pages that stand alone, for a browser to show inside Snakemake's report."""

import base64
import csv
import html
import io
import re

from markdown_it import MarkdownIt

STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 1.5rem; color: #111; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 }
th { position: sticky; top: 0; background: #eee; text-align: left }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .5rem }
""".strip()
FRONT_MATTER = r"\A---\n.*?\n---\n"  # of model cards: for the hub, not for readers


def page_of_markdown(title: str, text: str) -> str:
    """A page of Markdown with tables. HTML in it, which may quote the web, is only shown."""
    return _page(title, MarkdownIt("js-default").render(re.sub(FRONT_MATTER, "", text, flags=re.S)))


def page_of_csv(title: str, text: str, name: str) -> str:
    """A page with the table of a CSV file, and a link that saves the file as `name`."""
    header, *rows = csv.reader(io.StringIO(text))
    encoded, name = base64.b64encode(text.encode()).decode(), html.escape(name)
    lines = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p><a download="{name}" href="data:text/csv;base64,{encoded}">Save {name}</a></p>',
        "<table><thead><tr>",
        *(f"<th>{html.escape(cell)}</th>" for cell in header),
        "</tr></thead><tbody>",
        *(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows),
        "</tbody></table>",
    ]
    return _page(title, "\n".join(lines))


def _cell(text: str) -> str:
    try:
        float(text)
    except ValueError:
        return f"<td>{html.escape(text)}</td>"
    return f'<td class="number">{text}</td>'


def _page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'
