"""Layers that torch.compile fuses; in Llama's, products of the same factor become one first.

Queries, keys and values come from one product, gate and up from another: the input is read twice instead of
five times a layer, and its gradient is one product instead of a sum of several. The weights stay where they
are, so that state dicts don't change; they are put side by side in each forward pass.
"""

import importlib.util
import logging
import statistics
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import linear
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaRotaryEmbedding,
    eager_attention_forward,
)

from cpt import compilers

TIMED_TOKENS, TIMED_RUNS = 16_384, 9


def compiles(settings: dict[str, Any], device: torch.device) -> bool:
    """Whether a plan's settings ask for compiled layers on this device."""
    return settings["compile"] is True or (settings["compile"] == "auto" and can_compile(device))


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile pays: on a GPU for which there is Triton, and the C compiler that it needs."""
    if device.type != "cuda":
        return False
    triton = importlib.util.find_spec("triton") is not None
    error = compilers.c_error() if triton else "Triton isn't installed, which PyTorch's builds for GPUs bring"
    if error:
        logging.warning("compile: auto compiles nothing, so steps take longer: %s", error)
    return not error


def fuses(model: nn.Module, settings: dict[str, Any], device: torch.device) -> bool:
    """Whether a Llama's feed-forward products are those of cpt.train.gated_kernels, which is measured.

    They move less memory than cuBLAS and what lies between its products, but may multiply more slowly. The
    first process's GPU decides. settings["products"] becomes `fused` or `cublas`.
    """
    layer = next((module for module in model.modules() if type(module) is LlamaDecoderLayer), None)
    possible = settings["precision"] == "bf16" and not settings["gradient_checkpointing"]
    if device.type != "cuda" or layer is None or not possible or not can_fuse(layer):
        return False
    answer = [None]
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            seconds = [feed_forward_seconds(layer, kind, device) for kind in (JoinedLayer, FusedLayer)]
            times = (1e3 * each for each in seconds)
            logging.info("feed-forward part: %.2f ms by cuBLAS, %.2f ms fused", *times)
            answer = [seconds[1] < seconds[0]]
        except Exception as error:  # of Triton's compiler, which names many: the run can do without
            logging.warning("feed-forward part by cuBLAS, as this GPU can't compute it fused: %s", error)
            answer = [False]
    if dist.is_initialized():
        dist.broadcast_object_list(answer, src=0)
    settings["products"] = "fused" if answer[0] else "cublas"
    return answer[0]


def can_fuse(layer: LlamaDecoderLayer) -> bool:
    """Whether cpt.train.gated_kernels computes a layer's feed-forward part."""
    return layer.mlp.gate_proj.bias is None and layer.mlp.config.hidden_act == "silu"


def feed_forward_seconds(layer: LlamaDecoderLayer, kind: type, device: torch.device) -> float:
    """Seconds of a GPU for the compiled feed-forward part of a layer like `layer`, forward and backward.

    `kind` is JoinedLayer or FusedLayer. The median of a few runs over TIMED_TOKENS.
    """
    timed = kind(layer.mlp.config, 0).to(device)
    forward = torch.compile(timed.feed_forward, dynamic=False)
    hidden = torch.ones(1, TIMED_TOKENS, timed.hidden_size, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(TIMED_RUNS):
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            result = forward(hidden.requires_grad_())
        result.backward(result.detach())
        torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:])  # the first ones compile


def compile_layers(model: nn.Module) -> None:
    """Let torch.compile fuse what lies between a layer's matrix products.

    Layers that are alike share one compilation for each shape of a micro-batch, for the sizes are fixed.
    Parameters keep their names.
    """
    for layer in [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]:
        layer.compile(dynamic=False)


def keep_residual_in_bfloat16(model: nn.Module) -> None:
    """Under autocast, let layers pass on bfloat16: the embeddings' float32 would make each layer's output so.

    It is what layers cast to bfloat16 pass on too (FSDP, DeepSpeed). Norms compute in float32.
    """
    model.get_input_embeddings().register_forward_hook(lambda module, given, output: output.bfloat16())


def join_products(model: nn.Module, fused: bool = False) -> None:
    """Give a Llama's layers the forward pass of this module; others, and those with biases, stay.

    `fused`: SwiGLU and the residual sum are computed by the products' kernels.
    """
    for module in model.modules():
        if type(module) is LlamaDecoderLayer and module.mlp.gate_proj.bias is None:
            module.__class__ = FusedLayer if fused and can_fuse(module) else JoinedLayer
        elif type(module) is LlamaAttention and module.q_proj.bias is None:
            module.__class__ = JoinedAttention
        elif type(module) is LlamaRotaryEmbedding and not module.config.attention_bias:
            # Sines and cosines get the precision of its first argument.
            module.register_forward_pre_hook(
                lambda module, given: (given[0].new_empty(0, dtype=torch.float32),)
            )


class JoinedLayer(LlamaDecoderLayer):
    """LlamaDecoderLayer.forward without a cache, the feed-forward part written out.

    Its RMSNorm is linear but for a factor per token, so the norm's weights go into the product's and the
    factor into the kernel after it: normalised states are neither written, nor kept for the backward pass.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        past_key_values: None = None,
        use_cache: bool = False,
        **arguments: Any,
    ) -> torch.Tensor:
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **arguments)
        return self.feed_forward(hidden_states + attended)

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The sum of hidden_states [batch, length, width] and the feed-forward part's output."""
        scale = torch.rsqrt(hidden_states.float().square().mean(-1, keepdim=True) + self.epsilon)
        gate, up = (part * scale for part in linear(hidden_states, self.gate_up_weights()).chunk(2, dim=-1))
        return hidden_states + self.mlp.down_proj((self.mlp.act_fn(gate) * up).to(hidden_states.dtype))

    @property
    def epsilon(self) -> float:
        return self.post_attention_layernorm.variance_epsilon

    def gate_up_weights(self) -> torch.Tensor:
        """Of gate and up, [2 inner, width], times the norm's."""
        weights = torch.cat([self.mlp.gate_proj.weight, self.mlp.up_proj.weight])
        return weights * self.post_attention_layernorm.weight


class FusedLayer(JoinedLayer):
    """JoinedLayer whose feed-forward products are kernels of cpt.train.gated_kernels."""

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        from cpt.train.gated_kernels import GatedFeedForward  # needs Triton

        dtype = hidden_states.dtype
        weights, down = self.gate_up_weights().to(dtype), self.mlp.down_proj.weight.to(dtype)
        result, *_ = GatedFeedForward.apply(hidden_states.flatten(0, 1), weights, down, self.epsilon)
        return result.view_as(hidden_states)


class JoinedAttention(LlamaAttention):
    """LlamaAttention.forward without a cache."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        **arguments: Any,
    ) -> tuple[torch.Tensor, None]:
        parts = (self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        heads = linear(hidden_states, torch.cat(parts)).unflatten(-1, (-1, self.head_dim))
        queries, keys, values = heads.split([len(part) // self.head_dim for part in parts], dim=2)
        queries, keys = (rotate(part, *position_embeddings) for part in (queries, keys))
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attended, _ = attend(
            *(self, queries, keys, values, attention_mask),
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **arguments,
        )
        return self.o_proj(attended.flatten(-2)), None


def rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (Su et al. 2021) of [batch, length, heads, head size].

    Llama pairs component i with i + half. Compiled, it is one pass: the halves change places by their index,
    not in a copy. `cosine` and `sine` are [batch or 1, length, head size].
    """
    halves, cosine, sine = (x.unflatten(-1, (2, -1)) for x in (heads, cosine[:, :, None], sine[:, :, None]))
    signs = torch.arange(-1, 2, 2, device=heads.device)[:, None]
    return (halves * cosine + halves.flip(-2) * (signs * sine)).flatten(-2).to(heads.dtype)
