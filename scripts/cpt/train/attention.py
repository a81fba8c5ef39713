"""Attention on a GPU: chooses the kernel, separates documents without a mask, repeats keys in float32.

A mask over pairs of tokens would also separate documents, as it does on a CPU, but it rules out a GPU's
fastest kernels. For those, each document is a sequence of its own within one call.
"""

import logging
from contextlib import ExitStack
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# Names in transformers' registry.
DOCUMENTS, REPEATED_KEYS = "cpt_documents", "cpt_repeated_keys"

NAMES = {
    SDPBackend.CUDNN_ATTENTION: "cudnn",
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "efficient",
    SDPBackend.MATH: "math",
}
# SDPA uses the first kernel of an order that can compute a case. cuDNN's is made for Hopper and Blackwell; up
# to 9.15.0 it fails for lengths that aren't multiples of 128 (as in PyTorch 2.13's sdp_utils.cpp).
CUDNN_FIRST = list(NAMES)
FLASH_FIRST = CUDNN_FIRST[1:]
CUDNN_CAPABILITIES, CUDNN_VERSION = (9, 10), 91501
_order = ExitStack()  # holds the order until the process ends


def choose_attention(model: nn.Module, settings: dict[str, Any], device: torch.device) -> None:
    """Choose and log a GPU's attention function for as long as the process lives; a CPU keeps SDPA.

    Sets settings["attention"] to `varlen`, to the SDPA kernel that training uses (NAMES), or to the
    implementation other than SDPA that the model has already.

    Args:
        model: a transformers causal language model; its attention function may be changed.
        settings: `precision` and `document_masking` are read.
        device: of this process.
    """
    if device.type != "cuda":
        return
    capability = torch.cuda.get_device_capability(device)
    made_for = capability[0] in CUDNN_CAPABILITIES and (torch.backends.cudnn.version() or 0) >= CUDNN_VERSION
    _order.enter_context(sdpa_kernel(CUDNN_FIRST if made_for else FLASH_FIRST, set_priority=True))
    if model.config._attn_implementation != "sdpa":
        settings["attention"] = model.config._attn_implementation
        return
    masked = settings["document_masking"]
    if masked and not (obstacle := _varlen_obstacle(model, settings["precision"], capability)):
        model.set_attn_implementation(DOCUMENTS)
        settings["attention"] = "varlen"
        logging.info("attention: varlen, documents apart without a mask")
        return
    if masked:
        logging.warning("attention: a mask keeps documents apart, which is slower: %s", obstacle)
    if settings["precision"] == "float32":
        model.set_attn_implementation(REPEATED_KEYS)
    kernel = _sdpa_kernel_name(model, settings["precision"], masked, device)
    settings["attention"] = kernel
    log = logging.warning if kernel == "math" else logging.info
    log("attention: %s%s", kernel, ", which is slow and takes much memory" if kernel == "math" else "")


def attend_within_documents(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    document_starts: torch.Tensor | None = None,
    sliding_window: int | None = None,
    **arguments: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each token within its document, for transformers' registry.

    Args:
        module, attention_mask, arguments: as transformers passes them. Calls without `document_starts` use
            the mask, in transformers' own function.
        query, key, value: [sequences, heads, length, head size]; keys and values may have fewer heads.
        document_starts: int32 [documents + 1]: see cpt.train.batches.Batch.
        sliding_window: how many tokens a token attends to at most, itself included.

    Returns: [sequences, length, heads, head size], and None.
    """
    if document_starts is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
    sequences, _, length, _ = query.shape
    # Autocast casts SDPA's arguments but doesn't know this operation.
    flat = (part.to(value.dtype).transpose(1, 2).flatten(0, 1) for part in (query, key, value))
    attended = varlen_attn(
        *flat,
        document_starts,
        document_starts,
        length,
        length,
        scale=arguments["scaling"],
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=True,
    )
    return attended.unflatten(0, (sequences, length)), None


def attend_with_repeated_keys(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Compute transformers' attention with repeated keys and values, so no kernel shares them among queries.

    In float32, the only GPU kernel that can share them is PyTorch's unfused one, which writes all scores.
    """
    groups = query.shape[1] // key.shape[1]
    attended = scaled_dot_product_attention(
        query,
        repeat_kv(key, groups),
        repeat_kv(value, groups),
        attention_mask,
        dropout,
        is_causal=attention_mask is None,
        scale=scaling,
    )
    return attended.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(DOCUMENTS, attend_within_documents)
ALL_ATTENTION_FUNCTIONS.register(REPEATED_KEYS, attend_with_repeated_keys)
ALL_MASK_ATTENTION_FUNCTIONS.register(DOCUMENTS, sdpa_mask)
ALL_MASK_ATTENTION_FUNCTIONS.register(REPEATED_KEYS, sdpa_mask)


def _heads(model: nn.Module) -> tuple[int, int, int]:
    """Returns (heads of queries, heads of keys and values, head size)."""
    config = model.config
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads, getattr(config, "num_key_value_heads", None) or heads, size


def _varlen_obstacle(model: nn.Module, precision: str, capability: tuple[int, int]) -> str | None:
    """The reason why PyTorch's variable-length attention can't be used; None if it can."""
    *_, size = _heads(model)
    obstacles = {
        "this PyTorch is too old": "enable_gqa" not in signature(varlen_attn).parameters,
        "precision isn't bf16": precision != "bf16",
        "the GPU is older than Ampere": capability < (8, 0),
        "not known for AMD's GPUs": torch.version.hip is not None,
        f"heads of {size}": size % 8 != 0 or size > 256,
        "the model has dropout of attention": bool(getattr(model.config, "attention_dropout", 0.0)),
        # Its arguments must reach attention, and its attention must be of the common kind.
        "not for this model": not (model._supports_attention_backend and model._supports_flash_attn)
        or getattr(model.config, "attn_logit_softcapping", None) is not None,
    }
    return next((name for name, there in obstacles.items() if there), None)


def _sdpa_kernel_name(model: nn.Module, precision: str, masked: bool, device: torch.device) -> str:
    """The name of the kernel that SDPA chooses for a short sequence with the model's heads."""
    heads, key_heads, size = _heads(model)
    if masked or precision == "float32":
        key_heads = heads  # repeated, by transformers or here
    options = {"dtype": torch.bfloat16 if precision == "bf16" else torch.float32, "device": device}
    query = torch.empty(1, heads, 128, size, requires_grad=True, **options)
    keys = torch.empty(1, key_heads, 128, size, requires_grad=True, **options)
    mask = torch.ones(1, 1, 128, 128, dtype=torch.bool, device=device) if masked else None
    dropout = getattr(model.config, "attention_dropout", 0.0)
    choice = torch._fused_sdp_choice(
        query, keys, keys, mask, dropout, not masked, enable_gqa=key_heads != heads
    )
    return NAMES.get(SDPBackend(choice), str(choice))
