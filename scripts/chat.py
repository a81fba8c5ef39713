import logging
from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.files import write_text
from cpt.progress import NOTICE
from cpt.report.chat import chat_markdown, chat_page, chat_terminal, read_answers


def chat(
    answers: Sequence[Path], html: Path, markdown: Path, runs: list[str], title: str, max_new_tokens: int
) -> None:
    """Show the answers of several runs to the same prompts side by side, in the terminal too.

    Args:
        answers: the answers of each run (JSON lines).
        html: page to write.
        markdown: the same as Markdown, to write.
        runs: names of the runs, in the same order.
        title: title of the page.
        max_new_tokens: most tokens that an answer could have.
    """
    answer_rows = read_answers(answers, runs)
    write_text(html, chat_page(answer_rows, title, max_new_tokens))
    write_text(markdown, chat_markdown(answer_rows, title, max_new_tokens))
    logging.log(NOTICE, "%s\n\n%s", chat_terminal(answer_rows), html)


if __name__ == "__main__":
    run(chat)
