"""Writes a model's folder as one GGUF file for llama.cpp and Ollama, and reads it back to measure losses.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, written by the `gguf` package.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quant_shape_to_byte_shape, quantize
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.files import read_json
from cpt.gguf_types import GgufType
from cpt.model.gguf_layers import (
    architecture_of,
    from_gguf,
    rotary_factors,
    tensor_names,
    to_gguf,
    write_settings,
)
from cpt.model.gguf_vocabulary import write_vocabulary
from cpt.model.k_quants import QUANTIZERS
from cpt.model_folders import open_weights

F32, F16, Q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q8_0
Q4_K, Q5_0, Q6_K = GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_0, GGMLQuantizationType.Q6_K
FILE_TYPES = {
    "f16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
}
ROTARY_FACTORS = "rope_freqs.weight"


def write_gguf(folder: Path, kind: GgufType, path: Path, name: str) -> dict[str, Any]:
    """Write the model in `folder` as a GGUF file.

    Holds one weight at a time in memory. Returns `types` (the number of weights by type, such as
    {"Q8_0": 211}) and `notes` (what llama.cpp does differently from transformers).

    Args:
        folder: Hugging Face model folder.
        kind: type of the file: f16, q8_0 or q4_k_m.
        path: the file to write.
        name: the model's name, for the file's metadata.

    Raises:
        UserError: the file can't hold the architecture, tokenizer or a shape; the message names the key.
    """
    config = AutoConfig.from_pretrained(folder)
    architecture = architecture_of(config)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    write_settings(writer, architecture, config)
    notes = write_vocabulary(writer, tokenizer, config.vocab_size, ends_of_generation(folder))
    types = Counter()
    for gguf, _, weight in _weights(folder, architecture, config):
        quantised = tensor_type(gguf, weight.shape, kind, config)
        types[quantised.name] += 1
        shape = (
            weight.shape if quantised in (F32, F16) else quant_shape_to_byte_shape(weight.shape, quantised)
        )
        dtype = {F32: np.dtype(np.float32), F16: np.dtype(np.float16)}.get(quantised, np.dtype(np.uint8))
        size = int(np.prod(shape)) * dtype.itemsize
        writer.add_tensor_info(gguf, shape, dtype, size, quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for gguf, _, weight in _weights(folder, architecture, config):
        writer.write_tensor_data(_quantised(weight, tensor_type(gguf, weight.shape, kind, config)))
    writer.close()
    return {"types": dict(types.most_common()), "notes": notes}


def ends_of_generation(folder: Path) -> list[int]:
    """Returns the ids that end an answer, the document separator first."""
    file = folder / "generation_config.json"
    ids = read_json(file).get("eos_token_id") if file.is_file() else None
    ids = read_json(folder / "config.json")["eos_token_id"] if ids is None else ids
    return ids if isinstance(ids, list) else [ids]


def _weights(folder: Path, architecture: str, config: Any) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields each weight's name in the file, name in the folder, and float32 values in the file's order."""
    find = tensor_names(architecture, config.num_hidden_layers)
    with open_weights(folder) as stored:
        for name in sorted(stored):
            if (gguf_name := find(name)) is None:
                raise UserError(
                    f"release.gguf: the weight {name} has no place in a GGUF file of llama.cpp's "
                    f"{architecture}; remove release.gguf"
                )
            values = stored[name].get_tensor(name).float().numpy()
            yield gguf_name, name, np.ascontiguousarray(to_gguf(values, name, architecture, config))
    if (factors := rotary_factors(config)) is not None:
        yield ROTARY_FACTORS, "", factors


def tensor_type(name: str, shape: tuple[int, ...], kind: GgufType, config: Any) -> GGMLQuantizationType:
    """Returns the type of one weight, chosen as in llama.cpp's llama-quant.cpp (llama_tensor_get_type_impl).

    Raises UserError if its rows aren't a whole number of blocks.
    """
    if len(shape) < 2 or name.endswith("_norm.weight") or name.startswith("position_embd"):
        return F32
    chosen = {"f16": F16, "q8_0": Q8_0, "q4_k_m": Q4_K}[kind]
    if chosen is Q4_K:
        head = "token_embd.weight" if config.tie_word_embeddings else "output.weight"
        careful = any(part in name for part in ("attn_v.", "attn_qkv.", "ffn_down."))
        if name == head or (careful and _more_bits(int(name.split(".")[1]), config.num_hidden_layers)):
            chosen = Q6_K
        if shape[-1] % 256:
            chosen = Q8_0 if chosen is Q6_K else Q5_0
    block = GGML_QUANT_SIZES[chosen][0]
    if shape[-1] % block:
        raise UserError(
            f"release.gguf: {name} has rows of {shape[-1]} values, but {kind} has blocks of {block}; remove "
            f"{kind} there (f16 fits any shape)"
        )
    return chosen


def _more_bits(layer: int, layers: int) -> bool:
    """Whether a layer gets more bits: the first and last eighth, and every third layer between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _quantised(weight: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
    """Returns float32 [..., columns] as float32, float16, or bytes of blocks, uint8 [..., bytes of a row]."""
    if quantizer := QUANTIZERS.get(kind.name):
        return quantizer(weight.reshape(-1, 256)).reshape(quant_shape_to_byte_shape(weight.shape, kind))
    return quantize(weight, kind)


def read_back(path: Path, folder: Path) -> PreTrainedModel:
    """Returns the model in a GGUF file written from `folder`, with its weights dequantised to float32."""
    config = AutoConfig.from_pretrained(folder)
    architecture = architecture_of(config)
    find = tensor_names(architecture, config.num_hidden_layers)
    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = stored[find(name)]
            values = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
            parameter.copy_(torch.from_numpy(from_gguf(values, name, architecture, config)))
    return model.eval()
