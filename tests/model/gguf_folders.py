"""Folders of small models and tokenizers that are written as GGUF."""

import json
from pathlib import Path

import torch
from tests.model.test_model_architectures import SIZE
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)
from transformers import AutoConfig, AutoModelForCausalLM

from cpt.model.loaded import fast_tokenizer
from cpt.model.tiny import END_OF_TEXT, byte_tokenizer

LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def byte_pairs(cut, ignore_merges=False, normalizer=None):
    """A byte-level BPE tokenizer trained on prose, code and numbers."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    level = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=not isinstance(cut, str) or cut == "bytes"
    )
    steps = [level]
    if cut == "digits, bytes":
        steps = [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    elif cut != "bytes":
        steps = [pre_tokenizers.Split(Regex(cut), "isolated"), level]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    special = [END_OF_TEXT, "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINED_ON, trainer)
    tokenizer.add_tokens([AddedToken("[TOOL]", special=False, normalized=False)])
    return tokenizer


ODD = "naïve café, Größe, 漢字かな交じり, русский текст, 😀👩\u200d🔬 12345 1,000,000.50 it's we'LL"
ODD += " I'd\n\n\n   x  = 3"
TRAINED_ON = [Path(json.__file__).read_text(), ODD * 5]


IDS = torch.randint(0, 256, (2, 60), generator=torch.Generator().manual_seed(1))
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
)
CHATML += "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def saved(folder, settings, backend=None, special=None, ends=None):
    """A model's folder as training leaves it."""
    size = {**SIZE, "hidden_size": 64, "intermediate_size": 128} | settings
    backend = backend or byte_tokenizer()
    config = AutoConfig.for_model(**size | ({"vocab_size": backend.get_vocab_size()} if special else {}))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # biases and norms too
    model.save_pretrained(folder)
    fast_tokenizer(backend, special or {"eos_token": END_OF_TEXT}, 512).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends or 256}))
    return model.eval()


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits.numpy()
