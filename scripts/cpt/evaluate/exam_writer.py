"""Questions written by a language model behind OpenAI's chat interface, from held-out documents.

The questions pass the same checks as questions made without a model. The key comes only from the environment
variable EXAM_API_KEY, and is never written or logged.
"""

import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cpt.config_exam import Writer
from cpt.digest import settings_digest
from cpt.errors import UserError
from cpt.evaluate.exam_candidates import Candidate, Shown, digest
from cpt.evaluate.exam_text import lines_of, words_of

KEY = "EXAM_API_KEY"
WRITTEN = 2  # candidates for each item wanted: each request may cost money
PASSAGE = 1_500  # characters that one request shows
WAIT, LONGEST_WAIT = 2.0, 60.0  # seconds after the first failure, doubled after each; their maximum
RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}  # HTTP statuses of problems that may be temporary
PROMPT = """Write three exam questions on the passage below. Each has a short answer that stands word \
for word in the passage and not in the question, and five wrong answers of the same kind and length, which \
are wrong for everyone who knows the subject. A question must make sense without the passage. Answer with \
JSON alone: \
{"questions": [{"question": "...?", "answer": "...", "wrong": ["...", "...", "...", "...", "..."]}]}

Passage:
"""
Text = Annotated[str, Field(min_length=1, max_length=400)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Question(_Strict):
    question: Text
    answer: Text
    wrong: Annotated[list[Text], Field(min_length=3, max_length=8)]


class Questions(_Strict):
    questions: list[Question]


def passages_of(documents: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields documents in pseudo-random order, each with its first whole lines up to PASSAGE characters."""
    for document in sorted(documents, key=lambda document: digest(document["id"], document["text"])):
        text, stop = document["text"], 0
        for begin, end in lines_of(text):
            if end > PASSAGE:
                stop = stop or begin + text[begin:PASSAGE].rfind(" ")
                break
            stop = end
        if passage := text[:stop].strip():
            yield document, passage


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error, because it would send the key to another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Client:
    """Asks an endpoint, retries temporary failures, and saves each answer at once.

    Args:
        settings: the config's `evaluate.exam.writer`.
        kept: file of answers (JSON lines) by request, which a later attempt reads.
        wait: seconds after the first failure.
    """

    def __init__(self, settings: Writer, kept: Path, wait: float = WAIT):
        self.settings, self.kept, self.wait = settings, kept, wait
        self.opener = urllib.request.build_opener(_NoRedirects)
        self.known: dict[str, str] = {}
        if kept.exists():
            for line in kept.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    request, answer = json.loads(line)
                    self.known[request] = str(answer)
                except (ValueError, TypeError):
                    continue  # cut off when the process was killed

    def ask(self, prompt: str) -> str:
        """Returns the model's answer. Raises UserError if the endpoint refuses, or fails `attempts` times."""
        body = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "seed": 0,
        }
        request = settings_digest([self.settings.endpoint, body])
        if request not in self.known:
            self.known[request] = self._answer(json.dumps(body).encode())
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            with self.kept.open("a", encoding="utf-8") as file:  # the last line may be cut off
                file.write(f"\n{json.dumps([request, self.known[request]])}\n")
        return self.known[request]

    def _answer(self, body: bytes) -> str:
        address = f"{self.settings.endpoint.rstrip('/')}/chat/completions"
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        wait, problem = self.wait, ""
        for attempt in range(self.settings.attempts):
            if attempt:
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            request = urllib.request.Request(address, body, headers)
            try:
                with self.opener.open(request, timeout=self.settings.timeout) as response:
                    return _content(json.load(response))
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code} ({_excerpt(error)})"
                if error.code not in RETRIED:
                    break
                after = error.headers.get("Retry-After", "")
                wait = min(max(wait, float(after)), LONGEST_WAIT) if after.isdigit() else wait
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
            logging.info("%s: %s", address, problem)
        raise UserError(
            f"evaluate.exam.writer: {address} gave no answer for {self.settings.model}: {problem}. Check "
            f"endpoint, model and the environment variable {KEY} ({'set' if key else 'not set'}), then run "
            "again: answers so far are kept"
        )


def _excerpt(error: urllib.error.HTTPError) -> str:
    """Returns the beginning of an error response, without the key, which some servers repeat."""
    text = error.read(2_000).decode(errors="replace")
    if key := os.environ.get(KEY):
        text = text.replace(key, "***")
    return " ".join(text.split())[:200]


def _content(response: Any) -> str:
    """Returns the text of a response of OpenAI's chat interface. Raises ValueError if it has none."""
    try:
        content = response["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("no choices[0].message.content in the response") from None
    if not isinstance(content, str):
        raise ValueError("choices[0].message.content isn't text")
    return content


def write_candidates(
    ask: Callable[[str], str],
    documents: Sequence[dict[str, Any]],
    refused: Counter,
) -> Iterator[Candidate]:
    """Let a model write candidates, document by document; `refused` counts unusable questions by reason.

    Args:
        ask: returns the answer to a prompt, such as `Client.ask`.
        documents: held-out documents with `id`, `url` and `text`.
        refused: counts by reason, which are increased.
    """
    everything = "\n".join(document["text"] for document in documents).casefold()
    seen: set[tuple[str, ...]] = set()
    for document, passage in passages_of(documents):
        answer = ask(PROMPT + passage)
        try:
            questions = Questions.model_validate_json(answer[answer.find("{") : answer.rfind("}") + 1])
        except ValidationError:
            refused["the writer's answer isn't the JSON that it was asked for"] += 1
            continue
        for question in questions.questions:
            reason = _problem(question, passage)
            question_words = tuple(words_of(question.question))
            if reason is None and question_words in seen:
                reason = "the same question was asked already"
            if reason:
                refused[reason] += 1
                continue
            seen.add(question_words)
            pool = [question.answer, *question.wrong]
            yield Candidate(
                kind="written",
                document=document["id"],
                url=document["url"],
                before=f"Question: {question.question}\nAnswer:",
                space=" ",
                after="",
                passage=passage,
                pool=pool,
                counts=[everything.count(each.casefold()) for each in pool],
            )


def _problem(question: Question, passage: str) -> str | None:
    """Returns why a question can't be used; None if it can."""
    answers = [question.answer, *question.wrong]
    shown = Shown.of(question.question)
    if any(answer != answer.strip() or "\n" in answer for answer in answers):
        return "an answer of several lines, or with white space around it"
    if len({answer.casefold() for answer in answers}) < len(answers):
        return "the same answer twice"
    if question.answer.casefold() not in passage.casefold():
        return "the answer doesn't stand in the document"
    if any(shown.has(answer) for answer in answers):
        return "a word of an answer stands in the question"
    return None
