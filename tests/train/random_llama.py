"""A random Llama, and its loss and gradients."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from cpt.train.losses import LossModel

SIZES = {"vocab_size": 50, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3}


def random_llama() -> LlamaForCausalLM:
    """A random Llama with grouped queries, confident predictions, and norms that differ from one."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8}
    model = LlamaForCausalLM(LlamaConfig(**SIZES, **heads, tie_word_embeddings=True)).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0).add_(0.02 * torch.randn_like(parameter))
    return model


def loss_and_gradients(
    model, documents: list[int], checkpointing: bool
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss and gradients of two rows of 40 tokens, in documents of these lengths."""
    places = torch.cat([torch.arange(length) for length in documents])[None].repeat(2, 1)
    positions = places if len(documents) > 1 else None
    ids = torch.randint(0, 50, (2, 40), generator=torch.Generator().manual_seed(1))
    loss = LossModel(model, checkpointing)(ids, positions, torch.ones(2, 39))
    model.zero_grad()
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in model.parameters()]
