"""The section `chat`: who answers which prompts, and how long answers may be."""

from collections.abc import Collection

from pydantic import Field

from cpt.config_errors import require_known
from cpt.config_sections import Section
from cpt.config_values import Name, PathText, Positive


class Chat(Section):
    """Answers side by side (`snakemake chat`), and what is counted of them (`snakemake chat_scores`)."""

    prompts: PathText | None = Field(
        None, description="a file: .txt with one prompt a line, or .jsonl with `messages`; null: no page"
    )
    runs: list[Name] | None = Field(None, description="that answer; null: all")
    max_new_tokens: Positive = Field(200, description="an answer is cut there")
    batch_size: Positive = Field(16, description="answers at once; they don't depend on it")


def check_chat(chat: Chat, runs: Collection[str]) -> None:
    """Raise ValueError if a run that should answer isn't one, or none should."""
    for run in chat.runs or []:
        require_known(run, runs, "chat.runs", "runs")
    if chat.runs == []:
        raise ValueError("chat.runs: empty; name a run, or set it to null for all")
