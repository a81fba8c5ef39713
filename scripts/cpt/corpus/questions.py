"""Makes questions and answers of documentation, without a model: a name's purpose, and what else to know."""

import re

from cpt.corpus.conversations import Message, as_text
from cpt.corpus.documents import Document

SHORTEST, LONGEST = 40, 1_500  # characters of an answer
# Matches lists, tables, prompts and directives. (cpt.corpus.reflow makes prose one line per paragraph.)
NO_PROSE = re.compile(r"^[-=~*#>|.+:@`\d\s]|\n")


def conversation_of(document: Document) -> Document | None:
    """The document's name as a question and its first paragraph as the answer; None if that isn't prose.

    The second paragraph, if it is prose too, answers a second question.
    """
    answers = []
    for paragraph in (document.text or "").split("\n\n")[:2]:
        if not SHORTEST <= len(paragraph) <= LONGEST or NO_PROSE.search(paragraph):
            break
        answers.append(paragraph.strip())
    if not answers:
        return None
    questions = (f"What is `{document.id}` in Python for?", "What else should I know about it?")
    messages = [
        Message(role, content)
        for question, answer in zip(questions, answers, strict=False)
        for role, content in (("user", question), ("assistant", answer))
    ]
    return document._replace(text=as_text(messages))
