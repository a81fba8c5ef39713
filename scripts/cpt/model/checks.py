"""Does the imported model work? Context, parameters, and the loss on text that it must know."""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.files import read_json, sha256_of

MAXIMUM_LOSS_SHARE = 0.6  # of the uniform loss; trained models of 100M parameters stand near 0.3

KNOWN_TEXT = """\
The sun is a star at the centre of our solar system. It gives light and heat to the planets that move \
around it, and without it there would be no life on Earth. Plants use the energy of sunlight to turn water \
and carbon dioxide into sugar, and animals live by eating plants or other animals. In the evening the sun \
seems to go down in the west, and in the morning it rises again in the east, but in fact it is the Earth \
that turns. One full turn takes a day, and one journey around the sun takes a year. Because the Earth is \
tilted, the days are long in summer and short in winter, and so we have the four seasons."""


def check_context(config: PreTrainedConfig, sequence_length: int) -> None:
    """Raise UserError if training sequences are longer than the model's context."""
    if sequence_length > config.max_position_embeddings:
        raise UserError(
            f"packing.sequence_length: {sequence_length} is over the base model's context of "
            f"{config.max_position_embeddings} tokens (max_position_embeddings in its config.json); lower "
            "packing.sequence_length or take another base model"
        )


def known_text_loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> float:
    """Mean cross-entropy on KNOWN_TEXT after one EOS, in nats per token."""
    text = tokenizer(KNOWN_TEXT, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.eos_token_id, *text]])[:, : model.config.max_position_embeddings]
    with torch.inference_mode():
        logits = model.eval()(input_ids=ids[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits[0], ids[0, 1:]).item()


def describe(folder: Path) -> dict[str, Any]:
    """Facts about the model in `folder`, read as it was written, for the import report.

    `parameters` counts a tied matrix once; `uniform_loss` (nats per token) is what guessing gives.
    """
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = inputs.data_ptr() == outputs.data_ptr()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    dtype = str(model.dtype).removeprefix("torch.")
    loss = known_text_loss(model.float(), PreTrainedTokenizerFast.from_pretrained(folder))
    return {
        "architecture": read_json(folder / "config.json")["architectures"][0],
        "parameters": parameters,
        "parameters_without_embeddings": parameters - inputs.numel() - (0 if tied else outputs.numel()),
        "context_length": config.max_position_embeddings,
        "vocab_size": config.vocab_size,
        "eos_token_id": config.eos_token_id,
        "tied": tied,
        "dtype": dtype,
        "loss_on_known_text": round(loss, 6),
        "uniform_loss": round(math.log(config.vocab_size), 6),
        "sha256": {name: sha256_of(folder / name) for name in ("model.safetensors", "tokenizer.json")},
    }


def check_loss(report: dict[str, Any]) -> None:
    """Raise UserError if the loss on ordinary English is near that of guessing.

    That is how a checkpoint with lost or shuffled weights, or another model's tokenizer, shows.
    """
    loss, limit = report["loss_on_known_text"], MAXIMUM_LOSS_SHARE * report["uniform_loss"]
    if not loss < limit:
        raise UserError(
            f"base: the model has a loss of {loss:.2f} nats per token on ordinary English; a working one is "
            f"under {limit:.2f} (guessing gives {report['uniform_loss']:.2f}). The weights are broken, or "
            "don't belong to this tokenizer. Check that config.json, weights and tokenizer come from one "
            "release, that tie_word_embeddings is right, and that no weight file is a bad conversion (try "
            "pytorch_model.bin instead of model.safetensors)"
        )
