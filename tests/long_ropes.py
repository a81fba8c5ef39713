"""Models whose rotary frequencies depend on the length of what they read."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

FACTORS = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 3.0, 9.0, 20.0]}
KINDS = [("phi3", "longrope"), ("llama", "longrope"), ("llama", "dynamic"), ("llama", "yarn")]
OF_NO_LENGTH = [("llama", "llama3"), ("llama", "linear")]  # which no length changes


def random_model(kind: str, rope: str, vocabulary: int, context: int, original: int) -> PreTrainedModel:
    """Heads of 8, opinions that depend on positions; `original` is the length without extension."""
    original_key = {"original_max_position_embeddings": original}
    ropes = {
        "longrope": FACTORS | original_key,
        "dynamic": {"factor": 4.0},  # changes beyond the context alone
        "yarn": {"factor": 4.0} | original_key,
        "llama3": {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0} | original_key,
        "linear": {"factor": 4.0},
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=context,
        rope_parameters={"rope_type": rope, "rope_theta": 100.0, **ropes[rope]},
        pad_token_id=0,
        **(original_key if kind == "phi3" else {}),
    )
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data.mul_(6)
    return model
