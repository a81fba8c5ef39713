"""A tiny random Llama with a byte-level tokenizer, for uses in which the model doesn't matter."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from cpt.config_sections import RandomModel
from cpt.model.loaded import Loaded, fast_tokenizer

END_OF_TEXT = "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role + ': ' + message.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def byte_characters() -> dict[str, int]:
    """Returns the byte of each character in byte-level tokenizers (GPT-2, Radford et al. 2019)."""
    return {character: byte for byte, character in sorted(bytes_to_unicode().items())}


def byte_tokenizer() -> Tokenizer:
    """Returns a tokenizer whose ids 0 to 255 are the bytes of the text, and 256 is <|endoftext|>."""
    tokenizer = Tokenizer(models.BPE(vocab=byte_characters(), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def load_random(source: RandomModel) -> Loaded:
    """Returns a Llama with random weights, as the config's `base` section with source: random describes it.

    The same seed gives the same bytes. Feed-forward width is 4 * hidden_size; the embedding is tied.
    """
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=source.hidden_size,
        intermediate_size=4 * source.hidden_size,
        num_hidden_layers=source.layers,
        num_attention_heads=source.heads,
        num_key_value_heads=source.heads,
        max_position_embeddings=source.context_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=256,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        model = LlamaForCausalLM(config)
    special = {"eos_token": END_OF_TEXT, "chat_template": CHAT_TEMPLATE}
    return Loaded(model, fast_tokenizer(byte_tokenizer(), special, source.context_length))
