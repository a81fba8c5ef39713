"""Log-likelihoods of answers, for lm-eval: what questions and answers have in common is computed once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.evaluate.answers import Answer, Answers, Question
from cpt.evaluate.attention import hidden_states, shares_prefixes
from cpt.evaluate.model import load_model
from cpt.evaluate.trees import Tree, grow_trees, pack_trees
from cpt.progress import Progress
from cpt.rotary import grouped_by_frequencies

Request = tuple[tuple[str, str], list[int], list[int]]  # (context, continuation) as text, then as ids

HEAD_POSITIONS = 128  # whose logits exist at once: 25 MB at a vocabulary of 49,152


@register_model("prefix-trees")
class Scorer(TemplateLM):
    """A model under lm-eval's interface; its splitting of text into context and answer is inherited.

    The sequences of all requests (a context and an answer less its last token, which is only predicted)
    form prefix trees: an answer attends to its context and to itself, at the positions it would have if it
    stood there alone, and whatever begins alike is computed once. Trees are packed into rows of at most
    `batch_tokens` tokens without padding. Logits exist only where an answer's token is predicted. The
    probabilities are those of separate passes, but for rounding (docs/evaluation.md).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        batch_tokens: int,
        add_bos_token: bool,
    ):
        super().__init__()
        if add_bos_token and tokenizer.bos_token_id is None:
            raise UserError(
                "evaluate.add_bos_token: true, but the model's tokenizer has no BOS token; set it to false"
            )
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens
        self.prefix = [tokenizer.bos_token_id] if add_bos_token else []
        self.max_length = model.config.max_position_embeddings
        self.shares = shares_prefixes(model)
        self.label, self.answers = "answers", Answers()

    @classmethod
    def create_from_arg_obj(cls, arguments: dict[str, Any], config: dict[str, Any] | None = None) -> "Scorer":
        """For lm-eval: `pretrained` (a model folder), precision, threads, batch_tokens, add_bos_token.

        The device is lm-eval's option, or a GPU if there is one.
        """
        given = {"precision": "float32", "threads": torch.get_num_threads()} | arguments
        device = (config or {}).get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        loaded = load_model(Path(given["pretrained"]), given["precision"], int(given["threads"]), device)
        return cls(*loaded, int(given.get("batch_tokens", 1_024)), given.get("add_bos_token", False) is True)

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

    def loglikelihood(self, requests: list, disable_tqdm: bool = True) -> list[Answer]:
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: list, disable_tqdm: bool = True) -> list[float]:
        raise NotImplementedError("bits per byte has a script of its own")

    def generate_until(self, requests: list, disable_tqdm: bool = True) -> list[str]:
        raise NotImplementedError("only tasks that compare given answers are scored")

    def _loglikelihood_tokens(self, requests: Sequence[Request], disable_tqdm: bool = True) -> list[Answer]:
        """Log-probability (nats) of each continuation given its context, and whether it is the argmax.

        A context that doesn't fit is cut at its start, as lm-eval does.
        """
        questions: list[Question] = []
        for _, context, continuation in requests:
            room = self.max_length + 1 - len(continuation)
            if room < 1:
                raise UserError(
                    f"{self.label}: an answer of {len(continuation)} tokens doesn't fit into the model's "
                    f"context of {self.max_length} tokens; leave the task out of evaluate.tasks"
                )
            questions.append((tuple(context[-room:]), tuple(continuation)))
        sequences = [(*context, *continuation[:-1]) for context, continuation in questions]
        found: list[Answer | None] = [None] * len(requests)
        with Progress(self.label, len(requests), "answer") as bar:
            for row in self._rows(sequences):
                numbers = [number for tree in row for number in tree.numbers]
                batch = [questions[number] for number in numbers]
                answers = self.answers.get(batch)
                if answers is None:
                    answers = self._score(row, batch)
                    self.answers.keep(batch, answers)
                for number, answer in zip(numbers, answers, strict=True):
                    found[number] = answer
                bar.advance(len(numbers))
        return found

    def _rows(self, sequences: list[tuple[int, ...]]) -> list[list[Tree]]:
        """Rows of trees with every sequence; of models that look at lengths, with those that may meet."""
        rows = []
        for group in grouped_by_frequencies([len(sequence) for sequence in sequences], self.model.config):
            # Without shared prefixes a tree has one path.
            trees = grow_trees([sequences[n] for n in group], self.batch_tokens if self.shares else 0)
            for tree in trees:
                tree.numbers = [group[number] for number in tree.numbers]
            rows += pack_trees(trees, self.batch_tokens)
        return rows

    @torch.inference_mode()
    def _score(self, row: list[Tree], questions: list[Question]) -> list[Answer]:
        """The answers of a row of trees; `questions` are in the order of the trees' paths."""
        paths, begin = [], 0
        for tree in row:
            paths += [[begin + place for place in path] for path in tree.paths]
            begin += len(tree)
        # The states whose logits are needed, each once: answers of one token share theirs.
        places = [path[len(context) - 1 :] for path, (context, _) in zip(paths, questions, strict=True)]
        needed = sorted({place for some in places for place in some})
        index = {place: at for at, place in enumerate(needed)}
        states = hidden_states(self.model, row) if self.shares else self._alone(row)
        rows = torch.tensor([index[place] for some in places for place in some], device=states.device)
        targets = torch.tensor(
            [token for _, continuation in questions for token in continuation], device=states.device
        )
        values, greedy = self._predicted(states[torch.tensor(needed, device=states.device)], rows, targets)
        lengths = [len(continuation) for _, continuation in questions]
        return [
            (value.sum().item(), bool(best.all()))
            for value, best in zip(values.split(lengths), greedy.split(lengths), strict=True)
        ]

    def _predicted(
        self, states: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities of tokens (float64 on the CPU, [pairs]), and whether none is likelier (bool).

        `rows` and `targets` [pairs], int64: a row of `states` [positions, width], and the token after it.
        """
        head = self.model.get_output_embeddings()
        values = torch.empty(len(rows), dtype=torch.float32, device=states.device)
        greedy = torch.empty(len(rows), dtype=torch.bool, device=states.device)
        for begin in range(0, len(states), HEAD_POSITIONS):
            logits = head(states[begin : begin + HEAD_POSITIONS]).float()
            (pairs,) = torch.where((rows >= begin) & (rows < begin + len(logits)))
            at, target = rows[pairs] - begin, targets[pairs]
            greedy[pairs] = logits[at, target] == logits.amax(-1)[at]
            values[pairs] = logits.log_softmax(-1)[at, target]
        return values.double().cpu(), greedy.cpu()

    def _alone(self, row: list[Tree]) -> torch.Tensor:
        """The hidden states of trees of one path each, from padded rows and the model's own attention."""
        device = self.model.get_input_embeddings().weight.device
        # Padding stands at the end, where causal attention hides it.
        ids = pad_sequence([torch.tensor(tree.tokens, device=device) for tree in row], batch_first=True)
        states = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return torch.cat([states[number, : len(tree)] for number, tree in enumerate(row)])
