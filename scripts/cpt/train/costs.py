"""What training will cost, from formulas: FLOPs, device-hours, memory, before anything is downloaded.

No figure here was measured on a GPU by this project; docs/performance-planning.md names their sources.
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
    counted: int | None = None  # parameters, where the weights were counted
    counted_layer: int | None = None  # those of a layer

    @property
    def layer_parameters(self) -> int:
        """Of one layer: as counted, or a Llama's: attention's four matrices, the feed-forward's three, two
        normalizations."""
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
        imported: the finished import, `models/base` (with `base.json` beside it), if it is there.
    """
    numbers = read_json(imported.with_name("base.json")).get("shape") if imported is not None else None
    if numbers is None and base.source == "local":
        from cpt.shapes import shape_before_import  # torch, which few plans need

        numbers = shape_before_import(Path(base.path))
    if numbers is not None:
        counted = {"counted": numbers["parameters"], "counted_layer": numbers["layer_parameters"]}
        return Shape(**{name: numbers[name] for name in SHAPE_KEYS}, **counted)
    if base.source == "random":
        width, heads = base.hidden_size, base.heads
        return Shape(base.layers, width, heads, heads, 4 * width, 257, True, base.context_length)
    return KNOWN_MODELS.get(getattr(base, "repo", None) or base.label or "")


def bos_of(packing: Packing, imported: Path | None) -> bool | None:
    """Whether BOS stands before each document; None if `imported`, see shape_of, isn't there to say it."""
    if packing.add_bos is not None or imported is None:
        return packing.add_bos
    return read_json(imported.with_name("base.json")).get("adds_bos")


@dataclass(frozen=True)
class Speed:
    """A speed that somebody stated or measured, to be carried over to other models by their FLOPs."""

    source: str
    tokens_per_second: float  # of one device
    shape: Shape
    sequence_length: int
    checkpointing: bool = False

    def hours(self, tokens: int, shape: Shape, sequence_length: int, checkpointing: bool | str) -> float:
        """Device-hours for these tokens at the same FLOP/s; a second forward pass costs a third more (that of
        `selective` checkpointing has no products)."""
        cost = flops_per_token(shape, shape.parameters, sequence_length)
        if checkpointing is True and not self.checkpointing:
            cost *= 4 / 3
        return tokens * cost / self.flops_per_second / 3600

    @property
    def flops_per_second(self) -> float:
        """Model FLOPs (6 N + 6 L d S, cpt.train.flops.flops_per_token) that one device does in a second."""
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
    """The stated speed that a run's settings are most like."""
    if not gpu:
        return CPU
    return OFFLOADED if offload else WHOLE


# Other ways to train, beside the one that is set: engine, zero_stage, offload.
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
    """Bytes that one process holds in weights, gradients and moments: `gpu`, and `cpu` where offloaded.

    Sixteen bytes per parameter (Rajbhandari et al. 2020, section 3.1), less where `moments` are stored in a
    shorter form (whose 8 bytes per row of a matrix aren't counted), and two more where DeepSpeed adds
    bfloat16 gradients up in float32. Of these, ZeRO's stages split the optimizer's (1), and the gradients'
    (2), and the weights' (3, fsdp) over the processes. Gathered layers come on top, and with autocast a
    bfloat16 copy of the weights. Communication buffers aren't counted.
    """
    whole = engine == "ddp" or (engine == "deepspeed" and zero_stage == 0)
    split = 0 if whole else zero_stage if engine == "deepspeed" else 3
    copies = not whole and engine == "deepspeed" and precision != "float32"  # of those in the optimizer
    weights, gradients, optimizer = (2, 4, 12) if copies else (4, 4, MOMENTS_BYTES_PER_PARAMETER[moments])
    if copies and split == 1 and not offload:  # which adds gradients up in bfloat16
        gradients = 2
    totals = {"gpu": 0.0, "cpu": 0.0}
    for size, stage, part in (
        (optimizer, 1, "optimizer"),
        (gradients, 2, "optimizer"),  # updated where the moments are
        (weights, 3, "parameters"),
    ):
        place = "cpu" if part in offload else "gpu"
        totals[place] += size * shape.parameters / (processes if split >= stage else 1)
    if whole and precision != "float32":
        totals["gpu"] += 2 * shape.parameters
    if split == 3:  # the layer that is computed and the next one, or the embedding
        layer = max(2 * shape.layer_parameters, shape.vocab_size * shape.hidden_size)
        totals["gpu"] += layer * (4 if precision == "float32" else 2)
    return totals


def step_bytes(
    shape: Shape, micro_batch: int, sequence_length: int, checkpointing: bool | str, precision: str, gpu: bool
) -> dict[str, float]:
    """Bytes of one micro-batch's forward and backward pass: `activations` and `logits`.

    Of each token, transformers' Llama layer keeps 11 vectors of the model's width (2 for each normalization,
    in float32; the inputs of the matrices, 3; query, repeated keys and values, 3; attention's output, 1) and
    4 of the feed-forward's (gate, SiLU, up, product). With checkpointing a layer keeps its input alone, which
    autocast leaves in float32, and all of it exists for one layer; with `selective` also the products' and
    attention's outputs. An upper bound where layers are compiled.
    Of the logits a block of rows exists at a time, in float32 with its gradient, beside the gradient of the
    head. On a CPU, where the start of a run decides between the precisions, float32's are given.
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
