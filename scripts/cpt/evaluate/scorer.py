"""A model under lm-eval's interface that computes shared beginnings of questions and answers only once."""

import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.evaluate import generation
from cpt.evaluate.answers import Answer, Answers, Question
from cpt.evaluate.attention import NAME, States, hidden_states, shares_prefixes, stem_states
from cpt.evaluate.model import load_model, logits_of
from cpt.evaluate.stems import Row, plan_rows
from cpt.evaluate.trees import Tree
from cpt.progress import Progress
from cpt.rotary import grouped_by_frequencies, original_length

Request = tuple[tuple[str, str], list[int], list[int]]  # (context, continuation) as text, then as ids
Item = tuple[str | None, int | None]  # (task, number of the item)

HEAD_POSITIONS = 128  # with logits at the same time: 25 MB at a vocabulary of 49,152
CACHED_TOKENS = 8  # of all rows of a generation batch, in units of batch_tokens
GREEDY = {"do_sample": (None, False), "num_beams": (None, 1), "temperature": (None, 0.0)}
ALLOWED = {"until", "max_gen_toks", "top_p", "top_k"}  # the last two change nothing without sampling


@register_model("prefix-trees")
class Scorer(TemplateLM):
    """A model under lm-eval's interface, with the same answers as lm-eval's own class (HFLM).

    The sequences of all requests (a context and an answer without its last token, which is only predicted)
    form prefix trees. An answer attends to its context and to itself, at the positions of a separate
    sequence, and shared beginnings are computed once. Trees are packed into rows of at most `batch_tokens`
    tokens without padding. A long beginning that many sequences share, such as a task's examples, is read
    once before their rows. Logits are computed only where an answer's token is predicted. The probabilities
    equal those of separate passes, except for rounding (docs/scoring.md).

    `label` names the current task, `answers` keeps its answers. By (task, number of the item), `cuts` has the
    number of tokens that didn't fit into the context, and `endings` what ended a generation. The code that
    begins a task sets all four.
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
        self.add_bos_token = add_bos_token
        self.max_length = resolve_max_length(model.config, tokenizer)
        self.own_attention = model.config._attn_implementation
        self.shares = shares_prefixes(model)
        self.label, self.answers = "answers", Answers()
        self.cuts: dict[Item, int] = {}
        self.endings: dict[Item, str] = {}
        backend = tokenizer.backend_tokenizer
        # The cache lets a question be encoded once for all of its answers.
        self.text_ids = functools.lru_cache(64)(
            lambda text: backend.encode(text, add_special_tokens=False).ids
        )

    @classmethod
    def create_from_arg_obj(cls, arguments: dict[str, Any], config: dict[str, Any] | None = None) -> "Scorer":
        """Make a scorer from lm-eval's arguments: `pretrained` (a model folder), precision, threads,
        batch_tokens, add_bos_token. The device is lm-eval's option, else a GPU if there is one.
        """
        settings = {"precision": "float32", "threads": torch.get_num_threads()} | arguments
        device = (config or {}).get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        loaded = load_model(
            Path(settings["pretrained"]), settings["precision"], int(settings["threads"]), device
        )
        return cls(
            *loaded, int(settings.get("batch_tokens", 1_024)), settings.get("add_bos_token", False) is True
        )

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context: BOS, or EOS if the tokenizer has no BOS."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def max_gen_toks(self) -> int:
        return 256

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """Returns the token ids of `string`, after BOS if `add_special_tokens`, else add_bos_token, is true.

        A text that begins with the string of BOS gets one BOS. All other special strings stay text.
        """
        bos, add_bos = self.tokenizer.bos_token, add_special_tokens
        if add_bos is None:
            add_bos = self.add_bos_token
            if bos and string.startswith(bos):
                add_bos, string = True, string.removeprefix(bos)
        prefix = [self.tokenizer.bos_token_id] if add_bos else []
        return prefix + self.text_ids(string)

    def tok_decode(self, tokens: int | Sequence[int], skip_special_tokens: bool = True) -> str:
        """Returns the text of token ids."""
        return self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Answer]:
        """Returns each continuation's log-probability (nats) after its context; whether it is the argmax."""
        encoded = [self._encoded(*request.args) for request in requests]
        return self._answer(encoded, [(request.task_name, request.doc_id) for request in requests])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Returns each text's log-probability (nats), in windows of the model's context, each token once."""
        windows, owners = [], []
        for number, request in enumerate(requests):
            tokens = self.tok_encode(*request.args)
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1):
                windows.append(make_disjoint_window(window))
                owners.append(number)
        items = [(requests[number].task_name, requests[number].doc_id) for number in owners]
        totals = [0.0] * len(requests)
        for number, (value, _) in zip(owners, self._answer(windows, items), strict=True):
            totals[number] += value
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Returns the model's greedy continuation of each prompt, up to a stop string."""
        if not requests:
            return []
        generation_requests = [self._generation(request) for request in requests]
        widest = max(
            min(self.max_length, len(one.prompt) + one.max_new_tokens) for one in generation_requests
        )
        rows = max(1, CACHED_TOKENS * self.batch_tokens // widest)
        generator = generation.Generator(
            self.model, self.tokenizer, rows, self.answers.path, self.label, self.max_length
        )
        self.model.set_attn_implementation(self.own_attention)
        try:
            completions = generator.generate(generation_requests)
        finally:
            if self.shares:
                self.model.set_attn_implementation(NAME)
        for request, completion in zip(requests, completions, strict=True):
            item = (request.task_name, request.doc_id)
            self._count(item, completion.cut)
            self.endings[item] = completion.ending
        self._say_cuts()
        return [completion.text for completion in completions]

    def _loglikelihood_tokens(self, requests: Sequence[Request], disable_tqdm: bool = True) -> list[Answer]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        return self._answer(pairs, [(None, None)] * len(pairs))

    def _encoded(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Returns context and continuation as ids; the prefix token replaces an empty context."""
        if context:
            return self._encode_pair(context, continuation)
        ids = self.tok_encode(continuation, add_special_tokens=False)
        has_prefix = ids[:1] == [self.prefix_token_id]
        return (ids[:1], ids[1:]) if has_prefix else ([self.prefix_token_id], ids)

    def _generation(self, request: Instance) -> generation.Request:
        """Returns a prompt's request with the stop strings and the limit that lm-eval's own class uses."""
        context, arguments = request.args
        settings = normalize_gen_kwargs(arguments, self.max_gen_toks)
        where = self._name((request.task_name, request.doc_id))
        for key in sorted(settings.keys() - ALLOWED):
            if settings[key] not in GREEDY.get(key, (None,)):
                raise UserError(
                    f"{where}: generation_kwargs has {key}: {settings[key]}, but answers are generated "
                    "greedily; remove it from the task's YAML file, or leave the task out of evaluate.tasks"
                )
        if settings["max_gen_toks"] < 1:
            raise UserError(
                f"{where}: generation_kwargs has max_gen_toks: {settings['max_gen_toks']}; give it at least 1"
            )
        prompt = tuple(self.tok_encode(context))
        if not prompt:
            raise UserError(
                f"{where}: the prompt is empty, and a model can only continue some text; remove the item, "
                "or give the task a description"
            )
        eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(settings["until"], eos)
        return generation.Request(prompt, settings["max_gen_toks"], tuple(until))

    def _name(self, item: Item) -> str:
        """Returns an item's name for messages."""
        return self.label if item[0] is None else f"{item[0]}, item {item[1]}"

    def _count(self, item: Item, cut: int) -> None:
        if cut > 0:
            self.cuts[item] = max(cut, self.cuts.get(item, 0))

    def _say_cuts(self) -> None:
        if self.cuts:
            logging.warning(
                f"{self.label}: {len(self.cuts)} items are too long for the model's context of "
                f"{self.max_length} tokens; as lm-eval does, {sum(self.cuts.values())} tokens at their start "
                "were cut"
            )

    def _fit(self, item: Item, context: Sequence[int], continuation: Sequence[int]) -> Question:
        """Returns context and answer, with the context cut at its start to what the model has room for."""
        if not context or not continuation:
            raise UserError(
                f"{self._name(item)}: lm-eval can't score "
                + ("an answer without a token" if context else "a question that is nothing but spaces")
                + "; remove the item, or fix doc_to_text and doc_to_choice of the task"
            )
        room = self.max_length + 1 - len(continuation)
        if room < 1:
            raise UserError(
                f"{self._name(item)}: an answer of {len(continuation)} tokens doesn't fit into the model's "
                f"context of {self.max_length} tokens; leave the task out of evaluate.tasks"
            )
        self._count(item, len(context) - room)
        return tuple(context[-room:]), tuple(continuation)

    def _answer(self, pairs: Sequence[tuple[list[int], list[int]]], items: Sequence[Item]) -> list[Answer]:
        """Returns the answers to pairs of context and continuation."""
        questions = [self._fit(item, *pair) for item, pair in zip(items, pairs, strict=True)]
        self._say_cuts()
        answers: list[Answer | None] = [None] * len(questions)
        stem, states = (), None
        with Progress(self.label, len(questions), "answer") as bar:
            for row in self._rows(questions):
                batch = [questions[number] for number in row.numbers]
                scores = self.answers.get(batch, len(row.stem))
                if scores is None:
                    if row.stem != stem:
                        states = None  # frees the memory of the last stem's states
                        stem, states = row.stem, stem_states(self.model, row.stem) if row.stem else None
                    scores = self._score(row, batch, states)
                    self.answers.keep(batch, len(row.stem), scores)
                for number, answer in zip(row.numbers, scores, strict=True):
                    answers[number] = answer
                bar.advance(len(batch))
        return answers

    def _rows(self, questions: Sequence[Question]) -> Iterator[Row]:
        """Yields rows with all questions. In longrope models, short and long sequences share no row."""
        sequences = [(*context, *continuation[:-1]) for context, continuation in questions]
        original = original_length(self.model.config)
        for group in grouped_by_frequencies([len(sequence) for sequence in sequences], self.model.config):
            members = [sequences[number] for number in group]
            # Stems end before the context's last token, which makes the first prediction. Long sequences have
            # none, because a stem alone may be short and get the other frequencies.
            stems = original is None or max(map(len, members)) <= original
            longest = [stems * (len(questions[number][0]) - 1) for number in group]
            for row in plan_rows(members, longest, self.batch_tokens, self.shares):
                for tree in row.trees:
                    tree.numbers = [group[number] for number in tree.numbers]
                yield row

    @torch.inference_mode()
    def _score(self, row: Row, questions: list[Question], stem: States | None) -> list[Answer]:
        """Returns the answers of a row after `stem`; `questions` are in the order of the trees' paths."""
        paths, begin = [], 0
        for tree in row.trees:
            paths += [[begin + place for place in path] for path in tree.paths]
            begin += len(tree)
        # The distinct states whose logits are needed: answers of one token share theirs.
        places = [
            path[len(context) - 1 - len(row.stem) :]
            for path, (context, _) in zip(paths, questions, strict=True)
        ]
        needed = sorted({place for some in places for place in some})
        index = {place: number for number, place in enumerate(needed)}
        states = hidden_states(self.model, row.trees, stem) if self.shares else self._padded_states(row.trees)
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
        """Returns log-probabilities of tokens (float64 on the CPU, [pairs]), and whether none is likelier.

        `rows` and `targets` [pairs], int64: a row of `states` [positions, width], and the token after it.
        """
        values = torch.empty(len(rows), dtype=torch.float32, device=states.device)
        greedy = torch.empty(len(rows), dtype=torch.bool, device=states.device)
        for begin in range(0, len(states), HEAD_POSITIONS):
            logits = logits_of(self.model, states[begin : begin + HEAD_POSITIONS]).float()
            (pairs,) = torch.where((rows >= begin) & (rows < begin + len(logits)))
            positions, target = rows[pairs] - begin, targets[pairs]
            greedy[pairs] = logits[positions, target] == logits.amax(-1)[positions]
            values[pairs] = logits.log_softmax(-1)[positions, target]
        return values.double().cpu(), greedy.cpu()

    def _padded_states(self, row: list[Tree]) -> torch.Tensor:
        """Returns the hidden states of trees of one path, from padded rows and the model's own attention."""
        # Padding is at the end, where causal attention hides it.
        ids = pad_sequence([torch.tensor(tree.tokens, device=self.device) for tree in row], batch_first=True)
        states = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return torch.cat([states[number, : len(tree)] for number, tree in enumerate(row)])
