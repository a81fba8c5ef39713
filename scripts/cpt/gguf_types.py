"""What can be written as GGUF: the types of a file, and by Hugging Face's `model_type` llama.cpp's name."""

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
    """The file's name; the hub and Ollama read the type from its ending."""
    return f"{run}-{kind.upper()}.gguf"


def require_architecture(model_type: str | None) -> str:
    """llama.cpp's name of an architecture; UserError for one that can't be written."""
    if model_type not in ARCHITECTURES:
        raise UserError(
            f"release.gguf: the model_type {model_type!r} of config.json can't be written as GGUF here, only "
            f"{', '.join(ARCHITECTURES)}; remove release.gguf, or convert the released folder with "
            "llama.cpp's convert_hf_to_gguf.py"
        )
    return ARCHITECTURES[model_type]
