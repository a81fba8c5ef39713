"""Floating-point operations of training, and the peaks of devices. Standard library only."""

from typing import Any

# Dense bfloat16 peaks in FLOP/s from NVIDIA's data sheets. A device not listed has no utilization.
PEAK_FLOPS = {"A100": 312e12, "H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12}


def flops_per_token(config: Any, parameters: int, sequence_length: int) -> float:
    """Training FLOPs per token: 6 N + 6 L d S (Kaplan et al. 2020, section 2.1; causal attention).

    Args:
        config: transformers config with num_hidden_layers, hidden_size, vocab_size, tie_word_embeddings.
        parameters: of the model, tied weights counted once.
        sequence_length: S in tokens. Attention costs 12 L d S with every position attending to S
            others; a causal mask halves that. Document masks reduce it further, which isn't counted.

    N excludes an input embedding that isn't tied to the output head: a look-up costs nothing.
    """
    if not config.tie_word_embeddings:
        parameters -= config.vocab_size * config.hidden_size
    return 6.0 * parameters + 6.0 * config.num_hidden_layers * config.hidden_size * sequence_length
