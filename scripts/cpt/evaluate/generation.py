"""Greedy generation in batches. A completion depends only on its prompt, not on the batch."""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from transformers import (
    LogitsProcessorList,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from cpt.errors import UserError
from cpt.evaluate.growing import GrowingBatch, rows_can_join, rows_can_share
from cpt.evaluate.stems import find_families
from cpt.evaluate.trees import grow_trees
from cpt.progress import Progress
from cpt.rotary import original_length

# Two logits closer than this share of the largest one are a tie, because another batch may round them
# differently. In float32 the largest measured differences are a tenth of this (docs/using.md).
TIES = {torch.float32: 3e-5, torch.bfloat16: 2e-2}
JOINING = 4  # waiting prompts join a batch as soon as one row in four is free
LEAST_SAVED = 256  # minimum of tokens saved by reading a common beginning of prompts once
# Settings in generation_config.json that change the result of greedy generation.
PROCESSORS = {
    "repetition_penalty": RepetitionPenaltyLogitsProcessor,
    "no_repeat_ngram_size": NoRepeatNGramLogitsProcessor,
    "bad_words_ids": NoBadWordsLogitsProcessor,
    "suppress_tokens": SuppressTokensLogitsProcessor,
}
Ending = Literal["eos", "stop", "limit"]  # the model's end of generation, a stop string, max_new_tokens


class Request(NamedTuple):
    """A prompt as token ids, and the limits of its answer."""

    prompt: tuple[int, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ()


class Completion(NamedTuple):
    """A model's answer: its token ids without the end of generation, and their text up to a stop string.

    `cut` is the number of tokens cut at the prompt's start because the context had no room for them.
    """

    tokens: tuple[int, ...]
    text: str
    ending: Ending
    cut: int


@dataclass
class Row:
    """A request that is being answered."""

    request: Request
    tokens: list[int] = field(default_factory=list)
    ending: Ending | None = None

    @property
    def sequence(self) -> list[int]:
        """Prompt and new tokens."""
        return [*self.request.prompt, *self.tokens]


class Generator:
    """A model that continues prompts greedily.

    It continues up to `batch_size` prompts together; a row that ends makes room for the next prompt. A model
    whose rows can't share a batch continues one prompt at a time. If the two likeliest tokens nearly tie, a
    pass over the sequence alone decides.

    Args:
        model: a causal language model.
        tokenizer: the model's tokenizer.
        batch_size: prompts at once.
        kept: file of completions, written as rows end, so that a killed job resumes with the rest. It must
            belong to this model. None: nothing is kept.
        label: name of the prompts, for progress and errors.
        context: maximum tokens of a prompt with its answer; None: as the model's config says.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        batch_size: int,
        kept: Path | None = None,
        label: str = "answers",
        context: int | None = None,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.original = original_length(model.config)  # where a longrope model's frequencies change
        self.batch_size = batch_size if rows_can_join(model) and self.original is None else 1
        self.kept, self.label = kept, label
        ends = model.generation_config.eos_token_id
        self.ends = {ends} if isinstance(ends, int) else set(ends or ())
        self.processors = _processors(model)
        self.context = context or model.config.max_position_embeddings

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each prompt. Returns the completions in the order of the requests.

        A prompt that leaves no room for its new tokens is cut at its start, as in lm-eval.
        Raises UserError if a prompt is empty or has no room, or if the logits aren't finite.
        """
        fitting = [self._fit(number, request) for number, request in enumerate(requests, 1)]
        answers = self._read()
        rest = {request for request in fitting if _digest(request) not in answers}
        with Progress(self.label, len(rest), "answer") as bar:
            for row in self._continue(self._ordered(rest)):
                answers[_digest(row.request)] = (row.tokens, row.ending)
                self._keep(row)
                bar.advance()
        completions = []
        for request, original in zip(fitting, requests, strict=True):
            tokens, ending = answers[_digest(request)]
            text = self._text(tokens, request.stop)
            completions.append(
                Completion(tuple(tokens), text, ending, len(original.prompt) - len(request.prompt))
            )
        return completions

    def _fit(self, number: int, request: Request) -> Request:
        """Returns the request with its prompt cut to what the context has room for."""
        room = self.context - request.max_new_tokens
        if room < 1:
            raise UserError(
                f"{self.label}: {request.max_new_tokens} new tokens leave no room for a prompt in the "
                f"context of {self.context} tokens; lower their number (a task's max_gen_toks)"
            )
        if not request.prompt:
            raise UserError(
                f"{self.label}: prompt {number} has no tokens, and a model can only continue some; remove it"
            )
        return request._replace(prompt=tuple(request.prompt[-room:]))

    def _ordered(self, requests: set[Request]) -> list[tuple[Request, tuple[int, ...]]]:
        """Returns the requests in the order in which they begin, each with its stem, a shared beginning.

        Long prompts come first, so that a lack of memory shows at once.
        """
        long_first = sorted(requests, key=lambda request: (-len(request.prompt), request))
        if not rows_can_share(self.model):
            return [(request, ()) for request in long_first]
        prompts = [request.prompt for request in long_first]
        longest = [len(prompt) - 1 for prompt in prompts]
        families = [
            (family.stem, sorted(number for tree in family.trees for number in tree.numbers))
            for family in find_families(prompts, longest, grow_trees(prompts, 0), LEAST_SAVED)
        ]
        families = sorted((numbers, stem) for stem, numbers in families)
        return [(long_first[n], prompts[n][:stem]) for numbers, stem in families for n in numbers]

    @torch.inference_mode()
    def _continue(self, requests: list[tuple[Request, tuple[int, ...]]]) -> Iterator[Row]:
        """Generate for all requests, given with their stems. Yields each row as it ends."""
        waiting, rows, batch = deque(requests), [], GrowingBatch(self.model)
        while waiting or rows:
            free = self.batch_size - len(rows)
            if waiting and free * JOINING >= self.batch_size:
                joining, stem = [], waiting[0][1]
                while waiting and waiting[0][1] == stem and len(joining) < free:
                    joining.append(Row(waiting.popleft()[0]))
                self._extend(joining, batch.add([row.request.prompt for row in joining], stem))
                rows += joining
            elif self.original is not None and len(rows[0].sequence) == self.original + 1:
                batch.keep([])  # the cached keys have the short frequencies
                self._extend(rows, batch.add([rows[0].sequence]))
            else:
                self._extend(rows, batch.step([row.tokens[-1] for row in rows]))
            yield from (row for row in rows if row.ending)
            left = [number for number, row in enumerate(rows) if not row.ending]
            batch.keep(left)
            rows = [rows[number] for number in left]

    def _extend(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Add the next token to rows; `logits` [rows, vocabulary] are those after their sequences."""
        for row, token in zip(rows, self._likeliest(logits, [row.sequence for row in rows]), strict=True):
            row.tokens.append(token)
            if token in self.ends:
                row.tokens.pop()
                row.ending = "eos"
            elif self._stops(row):
                row.ending = "stop"
            elif len(row.tokens) == row.request.max_new_tokens:
                row.ending = "limit"

    def _likeliest(self, logits: torch.Tensor, sequences: list[list[int]]) -> list[int]:
        """Returns the likeliest next token of each sequence; `logits` [rows, vocabulary] are the batch's."""
        logits = logits.float()
        largest = logits.abs().amax(-1)
        if not torch.isfinite(largest).all():
            raise UserError(
                f"{self.label}: the model gives logits that aren't finite, so there is no likeliest token; "
                "its weights are damaged, or too large for evaluate.precision (try float32)"
            )
        best, tokens = self._processed(logits, sequences).topk(2)
        tied = best[:, 0] - best[:, 1] <= TIES.get(self.model.dtype, 2e-2) * largest
        chosen = tokens[:, 0].tolist()
        for row in tied.nonzero().flatten().tolist():
            ids = torch.tensor([sequences[row]], device=logits.device)
            alone = self.model(input_ids=ids, use_cache=False).logits[:, -1].float()
            chosen[row] = self._processed(alone, [sequences[row]]).argmax(-1).item()  # the first of equals
        return chosen

    def _processed(self, logits: torch.Tensor, sequences: list[list[int]]) -> torch.Tensor:
        """Returns logits after the processors of the model's generation settings, which see no padding."""
        if not self.processors:
            return logits
        ids = [torch.tensor([sequence], device=logits.device) for sequence in sequences]
        return torch.cat([self.processors(*pair) for pair in zip(ids, logits.split(1), strict=True)])

    def _stops(self, row: Row) -> bool:
        """Whether a row's last token completes a stop string."""
        stop = row.request.stop
        if not stop:
            return False
        # A token has at least one byte, so these contain any stop string that ends in the last token.
        recent = row.tokens[-max(len(each.encode()) for each in stop) - 1 :]
        text = self.tokenizer.decode(recent)
        return any(each in text for each in stop)

    def _text(self, tokens: Sequence[int], stop: tuple[str, ...]) -> str:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text[: min((text.index(each) for each in stop if each and each in text), default=len(text))]

    def _read(self) -> dict[str, tuple[list[int], Ending]]:
        """Returns what earlier jobs wrote to the file, by the request's digest."""
        answers = {}
        if self.kept is not None and self.kept.exists():
            for line in self.kept.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    digest, tokens, ending = json.loads(line)
                except (ValueError, TypeError):
                    continue  # cut off when the process was killed
                answers[digest] = (tokens, ending)
        return answers

    def _keep(self, row: Row) -> None:
        if self.kept is None:
            return
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps([_digest(row.request), row.tokens, row.ending])
        # The last line may be cut off without a line break, so begin a new line.
        with self.kept.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")


def _processors(model: PreTrainedModel) -> LogitsProcessorList:
    """Returns transformers' logits processors for the model's generation settings."""
    processors = LogitsProcessorList()
    for key, processor in PROCESSORS.items():
        value: Any = getattr(model.generation_config, key, None)
        if value not in (None, 0, 1.0, []):
            processors.append(
                processor(value, **({"device": model.device} if key == "suppress_tokens" else {}))
            )
    return processors


def _digest(request: Request) -> str:
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()
