"""What a layer keeps for its backward pass, and what it recomputes there (train.gradient_checkpointing)."""

from functools import partial
from typing import Any, Literal

import torch
from torch.nn.attention.varlen import _varlen_attn
from torch.utils.checkpoint import create_selective_checkpoint_contexts

aten = torch.ops.aten

# `selective` keeps the results of products and of attention. The rest (norms, rotary embeddings, activations,
# casts) is most of the memory and costs little to recompute.
KEPT = [
    aten.mm.default,
    aten.addmm.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
    _varlen_attn._opoverload,  # of cpt.train.attention
]


def checkpointing(kind: Literal[True, "selective"]) -> dict[str, Any]:
    """Arguments of torch.utils.checkpoint for each layer: True keeps only its input."""
    options = {"context_fn": partial(create_selective_checkpoint_contexts, KEPT)}
    return {"use_reentrant": False} | (options if kind == "selective" else {})
