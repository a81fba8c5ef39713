"""Answers of several runs to the same prompts side by side: as a page, as Markdown, and in a terminal."""

import html
import io
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt.errors import UserError
from cpt.report.pages import STYLE
from cpt.report.statistics import wilson_interval

Answers = Mapping[str, Sequence[Mapping[str, Any]]]  # rows of chat_answers, by run
COLUMNS, SIDE_BY_SIDE = 80, 3  # of a terminal; runs side by side in it
LAYOUT = """
@page { size: A4 landscape; margin: 12mm }
table.chat { table-layout: fixed; width: 100% }
.chat th, .chat td { overflow-wrap: anywhere; white-space: pre-wrap }
.chat th small, .chat td small { display: block; color: #555; font-weight: normal; margin-top: .3rem }
.chat td:first-child { background: #f6f6f6 }
.chat tr { break-inside: avoid }
.chat td small.cut { color: #a33 }
.chat th:first-child { width: 22% }
@media print { body { margin: 0; font-size: 9pt } .chat th { position: static } }
""".strip()


def read_answers(files: Sequence[Path], runs: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Read the rows of each run's file. Raises UserError if the runs answered different prompts."""
    answers = {
        run: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for run, file in zip(runs, files, strict=True)
    }
    prompts = {run: [row["prompt"] for row in rows] for run, rows in answers.items()}
    first = runs[0]
    for run, file in zip(runs, files, strict=True):
        if prompts[run] != prompts[first]:
            raise UserError(
                f"{file}: the prompts aren't those that {first} answered; delete the file and run again"
            )
    return answers


def visible(text: str) -> str:
    """Escape a text's control characters, which could move a cursor or reverse text."""
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def length_text(row: Mapping[str, Any]) -> str:
    """How long an answer is, and what ended it."""
    return f"{row['tokens']} tokens, stopped" if row["stopped"] else f"cut at {row['tokens']} tokens"


def stopped_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many answers stopped, with the 95 % interval of the share (Wilson)."""
    stopped = sum(row["stopped"] for row in rows)
    low, high = wilson_interval(stopped, len(rows))
    return f"{stopped} of {len(rows)} stopped ({100 * low:.0f} to {100 * high:.0f} %)"


def template_note(answers: Answers) -> str:
    """Which runs got plain prompts; empty if none did."""
    plain = [run for run, rows in answers.items() if not rows[0]["template"]]
    if not plain:
        return ""
    return f"No chat template: {', '.join(plain)}. The prompts went in as plain text, to be continued."


def _about(answers: Answers, max_new_tokens: int) -> str:
    note = template_note(answers)
    return (
        f"Greedy answers of at most {max_new_tokens} tokens. In brackets, the 95 % interval (Wilson) of the "
        f"share that stops.{' ' if note else ''}{note}"
    )


def chat_page(answers: Answers, title: str, max_new_tokens: int) -> str:
    """A self-contained page: a row for each prompt, a column for each run."""

    def cell(row: Mapping[str, Any]) -> str:
        kind = "" if row["stopped"] else ' class="cut"'
        return f"<td>{shown(row['answer'].strip())}<small{kind}>{length_text(row)}</small></td>"

    def shown(text: str) -> str:
        return html.escape(visible(text))

    heads = [f"<th>{shown(run)}<small>{stopped_text(rows)}</small></th>" for run, rows in answers.items()]
    lines = [f'<table class="chat"><thead><tr><th>Prompt</th>{"".join(heads)}</tr></thead><tbody>']
    for rows in zip(*answers.values(), strict=True):
        lines.append(f"<tr><td>{shown(rows[0]['prompt'])}</td>{''.join(map(cell, rows))}</tr>")
    lines.append("</tbody></table>")
    head = f'<meta charset="utf-8"><title>{shown(title)}</title><style>{STYLE}\n{LAYOUT}</style>'
    about = f"<h1>{shown(title)}</h1>\n<p>{shown(_about(answers, max_new_tokens))}</p>"
    table = "\n".join(lines)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{about}\n{table}\n</body></html>\n'


def chat_markdown(answers: Answers, title: str, max_new_tokens: int) -> str:
    """The same as Markdown; prompts and answers are in fences."""
    lines = [f"# {title}", "", _about(answers, max_new_tokens), ""]
    lines += [f"- {run}: {stopped_text(rows)}" for run, rows in answers.items()]
    for number, rows in enumerate(zip(*answers.values(), strict=True), 1):
        lines += ["", f"## Prompt {number}", "", *_fenced(rows[0]["prompt"])]
        for run, row in zip(answers, rows, strict=True):
            lines += ["", f"**{run}** ({length_text(row)})", "", *_fenced(row["answer"])]
    return "\n".join(lines) + "\n"


def _fenced(text: str) -> list[str]:
    shown = visible(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", shown, fence]


def chat_terminal(answers: Answers, width: int = COLUMNS) -> str:
    """The same for a terminal: answers side by side, a few runs at a time."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    runs = list(answers)
    for number, rows in enumerate(zip(*answers.values(), strict=True), 1):
        console.print(Text(f"\n{number}. {visible(rows[0]['prompt'])}"))
        for begin in range(0, len(runs), SIDE_BY_SIDE):
            table = Table(width=width)
            shown = rows[begin : begin + SIDE_BY_SIDE]
            for run, row in zip(runs[begin : begin + SIDE_BY_SIDE], shown, strict=True):
                table.add_column(Text(run), Text(length_text(row)), ratio=1, overflow="fold")
            table.show_footer = True
            table.add_row(*(Text(visible(row["answer"].strip())) for row in shown))
            console.print(table)
    if note := template_note(answers):
        console.print(Text(note))
    for run, rows in answers.items():
        console.print(Text(f"{run}: {stopped_text(rows)}"))
    return console.file.getvalue().strip("\n")
