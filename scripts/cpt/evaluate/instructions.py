"""Instructions that rules can check, and a fixed set of prompts with one instruction each.

The kinds, their names and their checks are IFEval's (Zhou et al. 2023, 2311.07911), as lm-eval implements
them, with one difference: the letter-case checks don't detect the language. IFEval's prompts are on the hub,
so the prompts are made here: one for each kind and subject. Standard library only.
"""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

SUBJECTS = (
    "how bread is baked",
    "why the sky is blue",
    "what a library is for",
    "how to learn a language",
    "why trees lose their leaves",
    "what a bicycle is made of",
    "how a letter reaches its reader",
)
BULLETS = (r"^\s*\*[^\*].*$", r"^\s*-.*$")
FENCES = ("```json", "```Json", "```JSON", "```")


class Kind(NamedTuple):
    """An instruction, and a check of whether an answer follows it."""

    instruction: str
    follows: Callable[[str], bool]


class Instructed(NamedTuple):
    """A prompt with one instruction, by its kind's name."""

    kind: str
    prompt: str


def _words(answer: str) -> int:
    return len(re.findall(r"\w+", answer))


def _is_json(answer: str) -> bool:
    text = answer.strip()
    for fence in FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _parts(answer: str, divider: str) -> list[str] | None:
    """Returns the non-empty parts between dividers; None if one other than the first and last is empty."""
    parts = [part.strip() for part in re.split(divider, answer)]
    return None if not all(parts[1:-1]) else [part for part in parts if part]


def _paragraphs(answer: str) -> bool:
    parts = _parts(answer, r"\s?\*\*\*\s?")
    return parts is not None and len(parts) == 2


def _two_responses(answer: str) -> bool:
    parts = _parts(answer, r"\*{6}")
    return parts is not None and len(parts) == 2 and parts[0] != parts[1]


def _highlights(answer: str) -> int:
    single = re.findall(r"\*[^\n\*]*\*", answer)
    double = re.findall(r"\*\*[^\n\*]*\*\*", answer)
    return sum(bool(text.strip("*").strip()) for text in (*single, *double))


KINDS = {
    "change_case:english_lowercase": Kind(
        "Your entire response should be in English, and in all lowercase letters. No capital letters are "
        "allowed.",
        str.islower,
    ),
    "change_case:english_capital": Kind(
        "Your entire response should be in English, and in all capital letters.", str.isupper
    ),
    "punctuation:no_comma": Kind(
        "In your entire response, refrain from the use of any commas.", lambda answer: "," not in answer
    ),
    "startend:quotation": Kind(
        "Wrap your entire response with double quotation marks.",
        lambda answer: re.fullmatch(r'".*"', answer.strip(), re.DOTALL) is not None,
    ),
    "startend:end_checker": Kind(
        "Finish your response with this exact phrase: Is there anything else I can help with? No other words "
        "should follow this phrase.",
        lambda answer: answer.strip().strip('"').lower().endswith("is there anything else i can help with?"),
    ),
    "detectable_format:number_bullet_lists": Kind(
        "Your answer must contain exactly 3 bullet points. Use the markdown bullet points such as:\n"
        "* This is point 1.\n* This is point 2",
        lambda answer: sum(len(re.findall(bullet, answer, re.MULTILINE)) for bullet in BULLETS) == 3,
    ),
    "detectable_format:json_format": Kind(
        "Entire output should be wrapped in JSON format. You can use markdown ticks such as ```.", _is_json
    ),
    "detectable_format:title": Kind(
        "Your answer must contain a title, wrapped in double angular brackets, such as <<poem of joy>>.",
        lambda answer: any(
            title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", answer)
        ),
    ),
    "detectable_format:number_highlighted_sections": Kind(
        "Highlight at least 2 sections in your answer with markdown, i.e. *highlighted section*.",
        lambda answer: _highlights(answer) >= 2,
    ),
    "detectable_content:postscript": Kind(
        "At the end of your response, please explicitly add a postscript starting with P.S.",
        lambda answer: re.search(r"p\.\s?s\.", answer.lower()) is not None,
    ),
    "keywords:forbidden_words": Kind(
        "Do not include the keywords 'the' and 'and' in the response.",
        lambda answer: re.search(r"\b(the|and)\b", answer, re.IGNORECASE) is None,
    ),
    "length_constraints:number_words": Kind(
        "Answer with less than 30 words.", lambda answer: _words(answer) < 30
    ),
    "length_constraints:number_paragraphs": Kind(
        "There should be 2 paragraphs. Paragraphs are separated with the markdown divider: ***", _paragraphs
    ),
    "combination:two_responses": Kind(
        "Give two different responses. Responses and only responses should be separated by 6 asterisk "
        "symbols: ******.",
        _two_responses,
    ),
}
PROMPTS = tuple(
    Instructed(name, f"Explain {subject}. {kind.instruction}")
    for subject in SUBJECTS
    for name, kind in KINDS.items()
)


def follows(kind: str, answer: str) -> bool:
    """Whether an answer strictly follows an instruction of this kind; an empty answer never does."""
    return bool(answer.strip()) and KINDS[kind].follows(answer)
