"""Loads the model under test, and computes its logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.logging import disable_progress_bar

from cpt.cuda import require_cuda
from cpt.errors import UserError
from cpt.gpus import claim_gpus
from cpt.model_folders import weights

Device = Literal["cuda", "cpu"]
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def load_model(
    folder: Path, precision: str, threads: int, device: Device
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a model folder for scoring, on a GPU that no other job uses, or on `threads` CPU threads.

    `tokenizer.backend_tokenizer`, which does the encoding, keeps special strings inside text as text.

    Raises UserError if the folder holds no model, or PyTorch can't compute on a GPU that was asked for.
    """
    weights(folder)
    set_up_device(threads, device)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=PRECISIONS[precision]).eval().to(device)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.backend_tokenizer.encode_special_tokens = True
    return model, tokenizer


class _States(BaseModelOutputWithPast):
    """The output of a model's layers: the last hidden states, and None for any other attribute."""

    def __getattr__(self, name: str) -> None:
        return None


def logits_of(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """Returns the logits, [tokens, vocabulary], of last hidden states, [tokens, width].

    The model's own forward pass computes them without its layers, because some models scale or cap the output
    of the output embeddings (Gemma 2, Granite, Cohere).
    """
    layers = model.base_model
    output = _States(last_hidden_state=states[None])
    layers.forward = lambda *_, **__: output
    try:
        return model(input_ids=states.new_zeros(1, len(states), dtype=torch.long), use_cache=False).logits[0]
    finally:
        del layers.forward  # restores the method of the class


def set_up_device(threads: int, device: Device) -> None:
    """Prepare to compute on a GPU that no other job uses, or on `threads` CPU threads.

    Raises UserError if PyTorch can't compute on a GPU that was asked for.
    """
    disable_progress_bar()
    torch.set_num_threads(threads)
    if device != "cpu":
        claim_gpus(1)
        require_cuda()


@contextmanager
def out_of_memory_explained(key: str, size: int) -> Iterator[None]:
    """Turn a lack of GPU memory into a UserError that names the config key to lower; its value is `size`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of GPU memory while scoring: {key} is {size}; set it to {max(1, size // 2)} or less. "
            "Scores don't depend on it"
        ) from error
