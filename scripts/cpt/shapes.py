"""A model's sizes, measured from its modules, because configs name them differently."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D


def measured_shape(model: PreTrainedModel) -> dict[str, Any]:
    """Returns the sizes of a causal language model that plans need, under the names of most configs.

    The config's class maps the first four from any name (GPT-2's `n_layer`). What few classes state is
    measured: `intermediate_size` is the widest input of a matrix whose output has the model's width,
    `layer_parameters` the mean over the layers. `model` may be on the device `meta`, without weights.
    """
    config = model.config
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    tied = inputs.weight is outputs.weight
    parameters = sum(parameter.numel() for parameter in model.parameters())
    layers = sum(parameter.numel() for parameter in model.base_model.parameters()) - inputs.weight.numel()
    return {
        "num_hidden_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        # An upper bound where the class has another name for them (Falcon, GPT-BigCode).
        "num_key_value_heads": getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        "intermediate_size": max(_widths_into(model.base_model, config.hidden_size)),
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": tied,
        "max_position_embeddings": context_length(config),
        "parameters": parameters,
        "layer_parameters": layers // config.num_hidden_layers,
    }


def context_length(config: PreTrainedConfig) -> int | None:
    """Returns the context length in tokens; None if the config doesn't state it.

    Most classes map it to max_position_embeddings from any name. Classes without position embeddings (ALiBi:
    Press et al. 2022) don't, so it is also looked up by the names in MPT and Bloom.
    """
    names = ("max_position_embeddings", "max_seq_len", "seq_length")
    return next((length for name in names if (length := getattr(config, name, None))), None)


def _widths_into(model: nn.Module, hidden: int) -> Iterator[int]:
    """Yields the input widths of matrices whose output has the model's width (attention, feed-forward)."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.out_features == hidden:
            yield module.in_features
        elif isinstance(module, Conv1D) and module.nf == hidden:
            yield module.nx


def shape_before_import(folder: Path) -> dict[str, Any] | None:
    """Returns `measured_shape` of a Hugging Face folder from its config.json alone; None if that fails.

    The import reports what is wrong with a folder, so a plan needn't.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            return measured_shape(AutoModelForCausalLM.from_config(config))
    except Exception:  # whatever a config's class, or a model's, raises
        return None
