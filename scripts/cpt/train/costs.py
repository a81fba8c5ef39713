"""Costs of training by formulas, before anything is downloaded: FLOPs, device-hours, memory.

This project measured none of these figures on a GPU; docs/performance-planning.md names their sources.
"""

from dataclasses import dataclass
from pathlib import Path

from cpt.config_sections import BaseSource, Packing
from cpt.files import read_json
from cpt.sizes import LOGIT_ROWS, MOMENTS_BYTES_PER_PARAMETER
from cpt.train.flops import PEAK_FLOPS, flops_per_token


@dataclass(frozen=True)
class Shape:
    """A model's shape, by the names of a Llama's config.json."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool
    max_position_embeddings: int
    counted: int | None = None  # parameters, if the weights were counted
    counted_layer: int | None = None  # the same of one layer

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: as counted, or a Llama's (four matrices of attention, three of the
        feed-forward part, two norms)."""
        if self.counted_layer:
            return self.counted_layer
        hidden = self.hidden_size
        values = hidden // self.num_attention_heads * self.num_key_value_heads
        return 2 * hidden * (hidden + values) + 3 * hidden * self.intermediate_size + 2 * hidden

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        embedding = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.counted or embedding + self.num_hidden_layers * self.layer_parameters + self.hidden_size


SHAPE_KEYS = [name for name in Shape.__dataclass_fields__ if not name.startswith("counted")]
# From the models' config.json: layers, width, heads, key heads, feed-forward, vocabulary, tied, context.
KNOWN_MODELS = {
    "facebook/MobileLLM-125M": Shape(30, 576, 9, 3, 1536, 32_000, True, 2048),
    "facebook/MobileLLM-350M": Shape(32, 960, 15, 5, 2560, 32_000, True, 2048),
    "HuggingFaceTB/SmolLM2-135M": Shape(30, 576, 9, 3, 1536, 49_152, True, 8192),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Shape(30, 576, 9, 3, 1536, 49_152, True, 8192),
    "HuggingFaceTB/SmolLM2-360M": Shape(32, 960, 15, 5, 2560, 49_152, True, 8192),
    "HuggingFaceTB/SmolLM2-1.7B": Shape(24, 2048, 32, 32, 8192, 49_152, True, 8192),
}


def shape_of(base: BaseSource, imported: Path | None) -> Shape | None:
    """The base model's shape; None if it can't be known yet.

    Args:
        base: the config's section.
        imported: folder of the finished import, `models/base` (with `base.json` beside it); None before it.
    """
    numbers = read_json(imported.with_name("base.json")).get("shape") if imported is not None else None
    if numbers is None and base.source == "local":
        from cpt.shapes import shape_before_import  # imports torch, which few plans need

        numbers = shape_before_import(Path(base.path))
    if numbers is not None:
        counted = {"counted": numbers["parameters"], "counted_layer": numbers["layer_parameters"]}
        return Shape(**{name: numbers[name] for name in SHAPE_KEYS}, **counted)
    if base.source == "random":
        width, heads = base.hidden_size, base.heads
        return Shape(base.layers, width, heads, heads, 4 * width, 257, True, base.context_length)
    return KNOWN_MODELS.get(getattr(base, "repo", None) or base.label or "")


def bos_of(packing: Packing, imported: Path | None) -> bool | None:
    """Whether BOS precedes each document; None if only an unfinished import (see shape_of) can say."""
    if packing.add_bos is not None or imported is None:
        return packing.add_bos
    return read_json(imported.with_name("base.json")).get("adds_bos")


@dataclass(frozen=True)
class Speed:
    """A stated or measured speed, to be transferred to other models by their FLOPs."""

    source: str
    tokens_per_second: float  # of one device
    shape: Shape
    sequence_length: int
    checkpointing: bool = False

    def hours(self, tokens: int, shape: Shape, sequence_length: int, checkpointing: bool | str) -> float:
        """Device-hours for these tokens at the same FLOP/s. Full checkpointing costs a third more for its
        second forward pass; `selective` counts as free, as it repeats no products."""
        cost = flops_per_token(shape, shape.parameters, sequence_length)
        if checkpointing is True and not self.checkpointing:
            cost *= 4 / 3
        return tokens * cost / self.flops_per_second / 3600

    @property
    def flops_per_second(self) -> float:
        """Model FLOP/s of one device, with 6 N + 6 L d S per token (cpt.train.flops.flops_per_token)."""
        cost = flops_per_token(self.shape, self.shape.parameters, self.sequence_length)
        return self.tokens_per_second * cost


_MOBILE, _SMOL = KNOWN_MODELS["facebook/MobileLLM-125M"], KNOWN_MODELS["HuggingFaceTB/SmolLM2-135M"]
# Paper 4.2.2: 400M tokens in about 3 h on 3 A100, with ZeRO-3, CPU offload and checkpointing.
OFFLOADED = Speed("the paper's 12,300 tokens/s per A100, with offload", 12_300, _MOBILE, 2000, True)
# MobileLLM's repository (Liu et al. 2024): 1T tokens in about 3 days on 32 A100.
WHOLE = Speed("the model's authors' 121,000 tokens/s per A100, nothing offloaded", 121_000, _MOBILE, 2048)
# docs/performance.md, "The demo": 141 tokens/s on two processes of one thread.
CPU = Speed("the demo's 70 tokens/s per process of one thread", 70.5, _SMOL, 256)
A100_FLOPS = PEAK_FLOPS["A100"]


def speed_of(offload: list[str], gpu: bool) -> Speed:
    """The known speed whose settings are closest to the run's."""
    if not gpu:
        return CPU
    return OFFLOADED if offload else WHOLE


# Alternatives to the configured engine: engine, zero_stage, offload.
ENGINES: list[tuple[str, int, list[str]]] = [
    ("ddp", 0, []),
    ("fsdp", 0, []),
    ("fsdp", 0, ["optimizer", "parameters"]),
    ("deepspeed", 1, []),
    ("deepspeed", 2, ["optimizer"]),
    ("deepspeed", 3, []),
    ("deepspeed", 3, ["optimizer", "parameters"]),
]


def state_bytes(
    shape: Shape,
    engine: str,
    zero_stage: int,
    offload: list[str],
    processes: int,
    precision: str,
    moments: str = "float32",
) -> dict[str, float]:
    """Bytes of weights, gradients and moments on one process: `gpu`, and `cpu` if offloaded.

    Sixteen bytes per parameter (Rajbhandari et al. 2020, section 3.1); fewer if `moments` have a shorter form
    (8bit's 8 bytes per row of a matrix aren't counted), two more if DeepSpeed sums bfloat16 gradients in
    float32. ZeRO splits the optimizer's bytes (stage 1), also the gradients' (2), also the weights' (3, fsdp)
    over the processes. Gathered layers come on top and, with autocast, a bfloat16 copy of the weights.
    Communication buffers aren't counted.
    """
    whole = engine == "ddp" or (engine == "deepspeed" and zero_stage == 0)
    split = 0 if whole else zero_stage if engine == "deepspeed" else 3
    copies = not whole and engine == "deepspeed" and precision != "float32"  # of the optimizer's weights
    weights, gradients, optimizer = (2, 4, 12) if copies else (4, 4, MOMENTS_BYTES_PER_PARAMETER[moments])
    if copies and split == 1 and not offload:  # sums gradients in bfloat16
        gradients = 2
    totals = {"gpu": 0.0, "cpu": 0.0}
    for size, stage, part in (
        (optimizer, 1, "optimizer"),
        (gradients, 2, "optimizer"),  # on the device of the moments
        (weights, 3, "parameters"),
    ):
        place = "cpu" if part in offload else "gpu"
        totals[place] += size * shape.parameters / (processes if split >= stage else 1)
    if whole and precision != "float32":
        totals["gpu"] += 2 * shape.parameters
    if split == 3:  # gathered: the current layer and the next one, or the embedding
        layer = max(2 * shape.layer_parameters, shape.vocab_size * shape.hidden_size)
        totals["gpu"] += layer * (4 if precision == "float32" else 2)
    return totals


def step_bytes(
    shape: Shape, micro_batch: int, sequence_length: int, checkpointing: bool | str, precision: str, gpu: bool
) -> dict[str, float]:
    """Bytes of one micro-batch's forward and backward pass: `activations` and `logits`.

    Per token, transformers' Llama layer keeps 11 vectors of the model's width (2 for each norm, in float32; 3
    inputs of matrices; 3 for query, repeated keys and values; 1 attention output) and 4 of the feed-forward
    part's (gate, SiLU, up, product). With checkpointing, a layer keeps only its input, which autocast leaves
    in float32, and one layer at a time keeps all. `selective` also keeps the outputs of products and
    attention. If layers are compiled, this is an upper bound.
    One block of rows of the logits exists at a time, in float32 with its gradient, beside the head's
    gradient. On a CPU, a run chooses its precision only when it starts, so these are float32's bytes.
    """
    tokens, size = micro_batch * sequence_length, 2 if gpu and precision != "float32" else 4
    width = shape.hidden_size
    layer = 4 * width * 4 + (7 * width + 4 * shape.intermediate_size) * size
    layers = shape.num_hidden_layers
    kept = layers * layer
    if checkpointing:
        kept = layers * width * 4 + layer
    if checkpointing == "selective":
        values = width // shape.num_attention_heads * shape.num_key_value_heads
        kept += layers * (4 * width + 2 * values + 2 * shape.intermediate_size) * size
    rows = min(tokens, LOGIT_ROWS["cuda" if gpu else "cpu"])
    logits = 2 * 4 * rows * shape.vocab_size + 4 * shape.vocab_size * width
    return {"activations": float(tokens * kept), "logits": float(logits)}
