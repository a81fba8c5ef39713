"""What can be written as GGUF: types of files, and llama.cpp's names for Hugging Face's `model_type`s."""

from typing import Literal

from cpt.errors import UserError

GgufType = Literal["f16", "q8_0", "q4_k_m"]
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "smollm3": "smollm3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "olmo2": "olmo2",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "gpt_neox": "gptneox",
}


def gguf_name(run: str, kind: str) -> str:
    """Returns the name of a GGUF file; the hub and Ollama read the type from its ending."""
    return f"{run}-{kind.upper()}.gguf"


def require_architecture(model_type: str | None) -> str:
    """Returns llama.cpp's name of an architecture. Raises UserError if it can't be written as GGUF."""
    if model_type not in ARCHITECTURES:
        raise UserError(
            f"release.gguf: the model_type {model_type!r} of config.json can't be written as GGUF here, only "
            f"{', '.join(ARCHITECTURES)}; remove release.gguf, or convert the released folder with "
            "llama.cpp's convert_hf_to_gguf.py"
        )
    return ARCHITECTURES[model_type]
