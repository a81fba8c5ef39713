"""Log-likelihoods of answers, for lm-eval: one forward pass per question, not one per answer."""

from collections.abc import Iterator, Sequence

import torch
from lm_eval.api.model import TemplateLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.progress import Progress

Request = tuple[tuple[str, str], list[int], list[int]]  # (context, continuation) as text, then as ids

Row = tuple[tuple[int, ...], list[list[int]], list[int]]  # a context, its continuations, their numbers


def _length(row: tuple) -> int:
    """Tokens fed for a row: its context, and its continuations but for their last tokens."""
    return len(row[0]) + sum(len(continuation) - 1 for continuation in row[1])


class Scorer(TemplateLM):
    """A model under lm-eval's interface; its splitting of text into context and answer is inherited.

    All answers to one question are scored in one row: the context's tokens, then each answer's, where an
    answer attends to the context and to itself, at the positions it would have if it stood there alone. So
    a question costs its context once instead of once per answer. The probabilities are those of separate
    passes, but for rounding.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        batch_size: int,
        add_bos_token: bool,
        label: str,
    ):
        super().__init__()
        if add_bos_token and tokenizer.bos_token_id is None:
            raise UserError("evaluate.add_bos_token: true, but the model's tokenizer has no BOS token")
        self.model, self.tokenizer = model, tokenizer
        self.batch_size, self.label = batch_size, label
        self.prefix = [tokenizer.bos_token_id] if add_bos_token else []
        self.max_length = model.config.max_position_embeddings

    @property
    def eot_token_id(self) -> int:
        return self.model.config.eos_token_id

    @property
    def tokenizer_name(self) -> str:
        return "model folder"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """Token ids of `string`, after BOS if add_bos_token is set and `add_special_tokens` isn't False."""
        prefix = self.prefix if add_special_tokens is not False else []
        return prefix + self.tokenizer.backend_tokenizer.encode(string, add_special_tokens=False).ids

    def loglikelihood(self, requests: list, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: list, disable_tqdm: bool = True) -> list[float]:
        raise NotImplementedError("bits per byte has a script of its own")

    def generate_until(self, requests: list, disable_tqdm: bool = True) -> list[str]:
        raise NotImplementedError("none of the tasks generates text")

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Log-probability (nats) of each continuation given its context, and whether it is the argmax.

        A context that doesn't fit is cut at its start, as lm-eval does.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, (_, context, continuation) in enumerate(requests):
            room = self.max_length + 1 - len(continuation)
            if room < 1:
                raise UserError(
                    f"an answer of {len(continuation)} tokens doesn't fit into the model's context of "
                    f"{self.max_length} tokens"
                )
            groups.setdefault(tuple(context[-room:]), []).append(number)
        rows = [(context, [requests[i][2] for i in numbers], numbers) for context, numbers in groups.items()]
        answers: list[tuple[float, bool] | None] = [None] * len(requests)
        with Progress(self.label, len(requests), "answer") as bar:
            for batch in self._batches(rows):
                scored = self._score([row[0] for row in batch], [row[1] for row in batch])
                for (_, _, numbers), found in zip(batch, scored, strict=True):
                    for number, answer in zip(numbers, found, strict=True):
                        answers[number] = answer
                        self.cache_hook.add_partial("loglikelihood", requests[number][0], answer)
                    bar.advance(len(numbers))
        return answers

    def _batches(self, rows: list[Row]) -> Iterator[list[Row]]:
        """Batches of at most `batch_size` rows of similar length, long ones first.

        Long rows first: memory runs out at once or never. Similar length: at most an eighth of a batch is
        padding; on a CPU, where larger batches gain nothing, padding is what they would cost.
        """
        batch: list[Row] = []
        for row in sorted(rows, key=lambda row: (-_length(row), row[2])):
            if len(batch) == self.batch_size or (batch and _length(row) < 7 / 8 * _length(batch[0])):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    @torch.inference_mode()
    def _score(
        self, contexts: list[tuple[int, ...]], continuations: list[list[list[int]]]
    ) -> list[list[tuple[float, bool]]]:
        """Score a batch: for row r, each of `continuations[r]` given `contexts[r]`."""
        width = max(map(_length, zip(contexts, continuations, strict=True)))
        ids = torch.zeros(len(contexts), width, dtype=torch.long)
        positions = torch.zeros(len(contexts), width, dtype=torch.long)
        sees = torch.eye(width, dtype=torch.bool).repeat(len(contexts), 1, 1)  # [row, query, key]
        where: list[list[list[int]]] = []  # the columns whose output predicts the tokens of an answer
        for row, (context, answers) in enumerate(zip(contexts, continuations, strict=True)):
            end = len(context)
            ids[row, :end] = torch.tensor(context)
            positions[row, :end] = torch.arange(end)
            sees[row, :end, :end] = torch.ones(end, end, dtype=torch.bool).tril()
            where.append([])
            for answer in answers:
                fed = len(answer) - 1  # the last token is only predicted
                stop = end + fed
                ids[row, end:stop] = torch.tensor(answer[:-1], dtype=torch.long)
                positions[row, end:stop] = len(context) + torch.arange(fed)
                sees[row, end:stop, : len(context)] = True
                sees[row, end:stop, end:stop] = torch.ones(fed, fed, dtype=torch.bool).tril()
                where[-1].append([len(context) - 1, *range(end, stop)])
                end = stop
        kept = sorted({column for row in where for columns in row for column in columns})
        index = {column: i for i, column in enumerate(kept)}
        device = self.model.device
        # Without answers of several tokens the mask is the causal one, which has faster kernels. Padding
        # stands at the end, where no token that counts can see it.
        plain = all(len(answer) == 1 for answers in continuations for answer in answers)
        logits = self.model(
            input_ids=ids.to(device),
            position_ids=None if plain else positions.to(device),
            attention_mask=None if plain else sees[:, None].to(device),
            use_cache=False,
            logits_to_keep=torch.tensor(kept, device=device),
        ).logits.float()
        total = logits.logsumexp(-1)
        best = logits.argmax(-1)
        scored = []
        for row, answers in enumerate(continuations):
            scored.append([])
            for answer, columns in zip(answers, where[row], strict=True):
                at = torch.tensor([index[column] for column in columns], device=device)
                target = torch.tensor(answer, device=device)
                value = (logits[row, at, target] - total[row, at]).sum().item()
                scored[-1].append((value, bool((best[row, at] == target).all())))
        return scored
