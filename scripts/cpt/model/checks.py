"""Checks that the imported model works: its context, its weights, its logits, its loss on known text."""

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.files import read_json, sha256_of
from cpt.shapes import measured_shape
from cpt.sizes import over_context

HEAD_TOLERANCE = 1e-6  # relative to the largest logit; the same float32 operations don't differ
RESTART_TOLERANCE = 1e-3  # relative to the largest hidden state: masks change the order of float32 sums
MAXIMUM_LOSS_SHARE = 0.6  # of the uniform loss; trained models of 100M parameters are near 0.3
# Names of the number of experts in transformers' configs, and of modules of experts in its classes.
EXPERTS = re.compile(r"(^|_)(num|n)_(local_|routed_)?experts$")
EXPERT_MODULE = re.compile(r"Expert|MoE|Moe$|MoeBlock|MoeMLP|Router")

KNOWN_TEXT = """\
The sun is a star at the centre of our solar system. It gives light and heat to the planets that move \
around it, and without it there would be no life on Earth. Plants use the energy of sunlight to turn water \
and carbon dioxide into sugar, and animals live by eating plants or other animals. In the evening the sun \
seems to go down in the west, and in the morning it rises again in the east, but in fact it is the Earth \
that turns. One full turn takes a day, and one journey around the sun takes a year. Because the Earth is \
tilted, the days are long in summer and short in winter, and so we have the four seasons."""


def check_context(config: PreTrainedConfig, sequence_length: int) -> None:
    """Raise UserError if training sequences are longer than the model's context."""
    if problem := over_context(sequence_length, config.max_position_embeddings):
        raise UserError(problem)


def check_dense(model: PreTrainedModel) -> None:
    """Raise UserError for a mixture of experts, recognised by its config and its modules.

    Its pre-training loss has an additional term, or its router a rule, that keeps the experts evenly used
    (Fedus et al. 2022, section 2.2). Training without it could let the routing collapse unnoticed.
    """
    if not any(EXPERT_MODULE.search(type(module).__name__) for module in model.modules()):
        return
    pending: list[Any] = [model.config.to_dict()]
    while pending:
        for key, value in pending.pop().items():
            if isinstance(value, dict):
                pending.append(value)
            elif EXPERTS.search(str(key)) and isinstance(value, int) and value > 1:
                raise UserError(
                    f"base: {model.config.model_type} has {value} experts ({key} in its config.json), and "
                    "the training loss has no term that keeps them evenly used; choose a dense model, such "
                    "as a Llama, Qwen2, Qwen3, OLMo2 or GPT-NeoX"
                )


def describe(folder: Path, imported: PreTrainedModel) -> dict[str, Any]:
    """Returns facts about the model in `folder`, read back from disk, for the import report.

    `parameters` counts a tied matrix once. `loss_on_known_text` is the mean cross-entropy on KNOWN_TEXT in
    float32, after BOS if the folder's tokenizer adds it, else after one EOS. `uniform_loss` is the loss of
    guessing (both in nats per token). `shape` is what plans are made from.

    Raises UserError if the folder's model isn't equal to `imported`, from which it was written, or if its
    logits aren't those that training computes.
    """
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    config = model.config
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    adds_bos = config.bos_token_id is not None and tokenizer("")["input_ids"][:1] == [config.bos_token_id]
    ids = known_text(tokenizer, config.bos_token_id if adds_bos else config.eos_token_id, config)
    dtype = str(model.dtype).removeprefix("torch.")
    check_saved(model, imported, ids)
    logits = check_head(model.float(), ids)
    loss = cross_entropy(logits[0, :-1], ids[0, 1:]).item()
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = inputs.data_ptr() == outputs.data_ptr()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "architecture": read_json(folder / "config.json")["architectures"][0],
        "parameters": parameters,
        "parameters_without_embeddings": parameters - inputs.numel() - (0 if tied else outputs.numel()),
        "shape": measured_shape(model),
        "context_length": config.max_position_embeddings,
        "vocab_size": config.vocab_size,
        "eos_token_id": config.eos_token_id,
        "tied": tied,
        "dtype": dtype,
        "restarted_positions_separate_documents": restarts(model, ids),
        "loss_on_known_text": round(loss, 6),
        "uniform_loss": round(math.log(config.vocab_size), 6),
        "sha256": {name: sha256_of(folder / name) for name in ("model.safetensors", "tokenizer.json")},
    }


def known_text(tokenizer: PreTrainedTokenizerFast, start: int, config: PreTrainedConfig) -> torch.Tensor:
    """Returns KNOWN_TEXT after the id `start`, cut to the context: int64 [1, tokens]."""
    text = tokenizer(KNOWN_TEXT, add_special_tokens=False)["input_ids"]
    return torch.tensor([[start, *text]])[:, : config.max_position_embeddings]


def losses_on_known_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Returns the mean cross-entropy on KNOWN_TEXT, in nats per token and the model's dtype, `without_bos`
    (after EOS) and `with_bos`.
    """
    losses = {}
    starts = {"without_bos": tokenizer.eos_token_id, "with_bos": tokenizer.bos_token_id}
    for key, start in starts.items():
        ids = known_text(tokenizer, start, model.config)
        with torch.inference_mode():
            logits = model.eval()(input_ids=ids).logits.float()
        losses[key] = cross_entropy(logits[0, :-1], ids[0, 1:]).item()
    return losses


def check_saved(saved: PreTrainedModel, imported: PreTrainedModel, ids: torch.Tensor) -> None:
    """Raise UserError unless both have the same weights, bit for bit, and the same logits for `ids`.

    The logits may differ by rounding in the model's dtype. `ids` are int64 [1, tokens].
    """
    ours, theirs = saved.state_dict(), imported.state_dict()
    changed = sorted(ours.keys() ^ theirs.keys())
    changed += [name for name in ours.keys() & theirs.keys() if not torch.equal(ours[name], theirs[name])]
    with torch.inference_mode():
        expected, actual = (model.eval()(input_ids=ids).logits.float() for model in (imported, saved))
    rounding = 8 * torch.finfo(imported.dtype).eps
    if changed or not _close(actual, expected, rounding):
        raise UserError(
            f"base: {type(imported).__name__} isn't the same model after saving and reading it again "
            f"({', '.join(changed[:5]) or 'other logits'}), so what is trained wouldn't be what is scored; "
            "choose another base model"
        )


def check_head(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Returns the logits, float32 [1, tokens, vocabulary], of a float32 model for int64 `ids` [1, tokens].

    Training applies the output matrix to the last hidden states in pieces. Raises UserError if the model does
    more, for example if it scales or caps the logits (Granite, Cohere, Gemma 2): then the training loss would
    silently be another model's.
    """
    with torch.inference_mode():
        logits = model(input_ids=ids).logits
        try:
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            head = model.get_output_embeddings()
            same = _close(linear(hidden, head.weight, head.bias), logits, HEAD_TOLERANCE)
        except (AttributeError, TypeError, RuntimeError):
            same = False
    if not same:
        raise UserError(
            f"base: {type(model).__name__} scales, caps or otherwise changes its logits, which the training "
            "loss doesn't do; choose an architecture without that, such as Llama, Qwen2, Qwen3, OLMo, OLMo2 "
            "or GPT-NeoX"
        )
    return logits


def restarts(model: PreTrainedModel, ids: torch.Tensor) -> bool:
    """Whether positions that restart at 0 begin a new document, which doesn't see the tokens before it.

    transformers makes such masks from `position_ids` for most architectures. Some (OPT, Falcon, state space
    models) accept the argument but mask nothing. `model` is float32, `ids` int64 [1, tokens].
    """
    begin = ids.shape[1] // 2
    positions = torch.cat([torch.arange(begin), torch.arange(ids.shape[1] - begin)])[None]
    with torch.inference_mode():
        try:
            packed = model.base_model(input_ids=ids, position_ids=positions, use_cache=False)
        except (TypeError, ValueError):
            return False
        alone = model.base_model(input_ids=ids[:, begin:], use_cache=False)
    return _close(packed.last_hidden_state[:, begin:], alone.last_hidden_state, RESTART_TOLERANCE)


def _close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Whether no element differs by more than `tolerance` times the largest of `expected`."""
    return actual.shape == expected.shape and bool(
        (actual - expected).abs().max() <= tolerance * expected.abs().max()
    )


def loss_limit(config: PreTrainedConfig) -> float:
    """Returns the loss, in nats per token, below which a working model is on ordinary English."""
    return MAXIMUM_LOSS_SHARE * math.log(config.vocab_size)


def check_loss(loss: float, limit: float, other: str = "") -> None:
    """Raise UserError unless the loss on ordinary English is below `limit`.

    A higher loss reveals a checkpoint with lost or shuffled weights, or another model's tokenizer. `other` is
    text about another attempt.
    """
    if not loss < limit:
        raise UserError(
            f"base: the model has a loss of {loss:.2f} nats per token on ordinary English{other}; a working "
            f"one is under {limit:.2f} (guessing gives {limit / MAXIMUM_LOSS_SHARE:.2f}). Check that "
            "config.json, weights and tokenizer come from one release, that tie_word_embeddings is right, "
            "and that model.safetensors isn't a bad conversion (try pytorch_model.bin)"
        )
