"""Import of a Hugging Face folder with a native architecture, all weights and a tokenizer with an EOS."""

import copy
import re
from functools import reduce
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel

from cpt.errors import UserError
from cpt.files import read_json
from cpt.model.ends import Ends, find_ends
from cpt.model.loaded import Loaded, fast_tokenizer, token_text
from cpt.model.tokenizer_files import adds_bos, read_tokenizer
from cpt.model_folders import companions
from cpt.shapes import context_length
from cpt.templates import chat_templates, with_eos

# Floating types by their names in safetensors.
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WEIGHT_FILES = ("model*.safetensors", "pytorch_model*.bin")  # in the order of preference
OTHER_SAFETENSORS = {
    "adapter_model.safetensors": "an adapter (LoRA), to be merged into its model (peft's merge_and_unload)",
    "consolidated*.safetensors": "with the names of Mistral's own library: take the release for transformers",
}
MOBILELLM_LICENCE = "FAIR Noncommercial Research License; weights derived from it must carry it"
# Keys of config.json about code that isn't run, other model classes, the dtype (which is read from the
# files), and how the authors ran the model.
DROPPED_KEYS = ("auto_map", "share_embedding", "layer_sharing", "architectures", "_name_or_path", "dtype")
DROPPED_KEYS += ("torch_dtype", "attn_implementation", "_attn_implementation", "output_attentions")
DROPPED_KEYS += ("_attn_implementation_internal", "_attn_implementation_autoset", "experts_implementation")
DROPPED_KEYS += ("_experts_implementation", "output_hidden_states", "return_dict", "use_return_dict")
# Causal masks and rotary frequencies that older versions of transformers saved as if they were weights.
OLD_BUFFER = re.compile(r"\.(attention|attn|self_attn|rotary_emb)\.(bias|masked_bias|causal_mask|inv_freq)$")


def load_folder(folder: Path) -> Loaded:
    """Read config, weights and tokenizer from `folder`; never runs code in the folder.

    MobileLLM ships its own model class, but is a Llama with tied embeddings, so it is read as one. Its
    tokenizer_config.json has empty special tokens, which are repaired. Weights keep the type that they have
    in their files.

    Other files for the model's users are kept; cpt.model_folders lists them.

    Raises UserError for an architecture that transformers doesn't have, for quantised, missing or unexpected
    weights, and for a tokenizer without EOS; the message names them.
    """
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(
                f"base: {folder} has adapter_config.json, but no config.json: it is an adapter (LoRA) to a "
                "model; merge it into that (peft's merge_and_unload), and save the result"
            )
        raise UserError(
            f"base: {folder} has no config.json; expected a Hugging Face model folder, so fix base.path or "
            "base.repo"
        )
    settings = read_json(folder / "config.json")
    repairs: list[str] = []
    config = _config(settings, folder, repairs)
    model = _model(config, folder, repairs)
    file = folder / "generation_config.json"
    generation = read_json(file) if file.is_file() else {}
    backend, special = read_tokenizer(folder, settings, repairs)
    texts = {name: template.text for name, template in chat_templates(folder).items()}
    before = token_text(special.get("eos_token"))
    ends = _ends(folder, backend, special, settings, generation, texts, repairs)
    files = {name: (folder / name).read_bytes() for name in companions(folder)}
    files.pop(Path("tokenizer.json"), None)  # Loaded.save writes the repaired tokenizer
    if before and before != token_text(special["eos_token"]):
        kept = {name: with_eos(text, before) for name, text in texts.items()}
        if kept != texts:
            repairs.append(f"chat template: its eos_token stays {before!r}, which ends a turn")
            files = {name: content for name, content in files.items() if name.suffix != ".jinja"}
            special.pop("chat_template", None)
        texts = kept
    facts = {"licence": MOBILELLM_LICENCE} if settings.get("model_type") == "mobilellm" else {}
    chat_template = texts["default"] if list(texts) == ["default"] else texts or None
    tokenizer = fast_tokenizer(
        backend, {**special, "chat_template": chat_template}, config.max_position_embeddings
    )
    bos = adds_bos(backend, special)
    return Loaded(model, tokenizer, facts, repairs, ends, special, generation, files, bos)


def _config(settings: dict[str, Any], folder: Path, repairs: list[str]) -> PreTrainedConfig:
    kind = settings.get("model_type")
    kept = {key: value for key, value in settings.items() if key not in DROPPED_KEYS}
    if kind == "mobilellm":
        if settings.get("layer_sharing"):
            raise UserError(
                f"{folder / 'config.json'}: layer_sharing is true (a -layer-share model), in which each "
                "layer runs twice; that isn't a Llama. Use MobileLLM without layer sharing"
            )
        kept |= {"model_type": "llama", "tie_word_embeddings": bool(settings.get("share_embedding", True))}
        repairs.append(
            "config: model_type mobilellm is read as llama, with tie_word_embeddings "
            f"{str(kept['tie_word_embeddings']).lower()} as share_embedding says"
        )
        kind = "llama"
    if kind not in CONFIG_MAPPING or CONFIG_MAPPING[kind] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(
            f"{folder / 'config.json'}: model_type {kind!r} isn't a causal language model that transformers "
            "has built in, and code that comes with a model is never run; choose a native architecture"
        )
    if "quantization_config" in settings:
        raise UserError(
            f"{folder / 'config.json'}: the weights are quantised (quantization_config), and can't be "
            "trained; take the release that isn't"
        )
    # transformers' own form of infinity in JSON, {"__float__": "Infinity"}.
    config = CONFIG_MAPPING[kind].from_dict(PreTrainedConfig._decode_special_floats(kept))
    if (length := context_length(config)) != getattr(config, "max_position_embeddings", None):
        config.max_position_embeddings = length  # also saved, so that every stage finds it
        repairs.append(f"config: max_position_embeddings is {length}, as its class calls it otherwise")
    for name in ("vocab_size", "max_position_embeddings"):
        if not isinstance(getattr(config, name, None), int):
            raise UserError(
                f"{folder / 'config.json'}: model_type {kind!r} has no {name}, as a model of text and "
                "pictures or one without a fixed context; choose another base model, or add the number that "
                "it was trained with"
            )
    return config


def _model(config: PreTrainedConfig, folder: Path, repairs: list[str]) -> PreTrainedModel:
    """Load the model with all weights, from *.safetensors, or from pytorch_model*.bin if those don't fit.

    MobileLLM's first *.safetensors on the hub, made by a bot, lack the embedding; its .bin is complete.
    """
    problems: list[str] = []
    for pattern in WEIGHT_FILES:
        files = sorted(folder.glob(pattern))
        if not files:
            continue
        model, problem = _read_weights(config, folder, files, repairs)
        if model and not problem:
            repairs += [f"weights: read from {files[0].name}, as {problem}" for problem in problems]
            return model
        problems.append(f"{pattern}: {problem}")
    if not problems:
        for pattern, what in OTHER_SAFETENSORS.items():
            for file in sorted(folder.glob(pattern)):
                raise UserError(f"base: {folder} has only {file.name}, {what}")
        raise UserError(
            f"base: {folder} has neither {' nor '.join(WEIGHT_FILES)}; fetch the weights, or take a release "
            "that has them in one of these formats"
        )
    raise UserError(
        f"base: the weights in {folder} can't be used. {'. '.join(problems)}; check tie_word_embeddings in "
        "config.json, and that all files are complete and of one release, best as *.safetensors"
    )


def _read_weights(
    config: PreTrainedConfig, folder: Path, files: list[Path], repairs: list[str]
) -> tuple[PreTrainedModel | None, str]:
    """Returns the model with the weights of one format, and what is wrong with them ("": nothing)."""
    try:
        dtype, shapes = _dtype_and_shapes(files)
        model, loading_info = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            folder,
            config=copy.deepcopy(config),
            dtype=dtype,
            use_safetensors=files[0].suffix == ".safetensors",
            weights_only=True,
            ignore_mismatched_sizes=True,  # reported below with the other problems
            local_files_only=True,
            output_loading_info=True,
        )
    except (UnpicklingError, SafetensorError, EOFError, OSError, RuntimeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return None, f"can't be read, incomplete or more than tensors, which alone are read ({why})"
    unexpected = loading_info["unexpected_keys"]
    if old := sorted(name for name in unexpected if _is_old_buffer(name, shapes.get(name))):
        loading_info["unexpected_keys"] = set(unexpected) - set(old)
        repairs.append(
            f"weights: {len(old)} buffers of an older transformers ignored, which compute nothing ({old[0]}, "
            "...)"
        )
    problems = [
        f"{what}: {', '.join(keys[:5])}" + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        for what in ("missing", "unexpected", "mismatched")
        if (keys := sorted(key if isinstance(key, str) else key[0] for key in loading_info[f"{what}_keys"]))
    ]
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if config.tie_word_embeddings and model._tied_weights_keys and outputs.weight is not inputs.weight:
        problems.append(
            "tie_word_embeddings is true, but there is an output matrix other than the embedding (set it to "
            "false if that matrix was trained)"
        )
    return model, "; ".join(problems)


def _is_old_buffer(name: str, shape: tuple[int, ...] | None) -> bool:
    """Whether a tensor is a mask of all positions, one number, or frequencies. The shape is checked because
    a bias that the architecture lacks has the same name."""
    if shape is None or not OLD_BUFFER.search(name):
        return False
    is_mask = len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
    return is_mask or shape in ((), (1,)) or name.endswith("inv_freq")


def _dtype_and_shapes(files: list[Path]) -> tuple[torch.dtype, dict[str, tuple[int, ...]]]:
    """Returns the floating type that holds the weights of all files exactly, regardless of config.json, and
    each tensor's shape."""
    dtypes: set[torch.dtype] = set()
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as weights:
                slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
                names = {part.get_dtype() for part in slices.values()}
                shapes |= {name: tuple(part.get_shape()) for name, part in slices.items()}
            dtypes |= {dtype for name, dtype in FLOATS.items() if name in names}
        else:
            values = torch.load(file, map_location="meta", weights_only=True)
            tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
            dtypes |= {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
            shapes |= {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return (reduce(torch.promote_types, dtypes) if dtypes else torch.float32), shapes


def _ends(
    folder: Path,
    backend: Tokenizer,
    special: dict[str, Any],
    config: dict[str, Any],
    generation: dict[str, Any],
    templates: dict[str, str],
    repairs: list[str],
) -> Ends:
    """Returns document separator and ends of generation. The separator becomes the EOS in `special`."""
    eos_id, eos = config.get("eos_token_id"), token_text(special.get("eos_token"))
    generation_id = generation.get("eos_token_id")
    if config.get("model_type") == "mobilellm":  # its tokens are known
        eos_id = generation_id = None
    ends = find_ends(backend, eos_id, generation_id, eos or None, templates)
    if ends is None:
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: eos_token is empty, so documents couldn't be separated; "
            "set it to the token that ended documents in pre-training"
        )
    separator = backend.id_to_token(ends.separator)
    if not eos:
        where = "config.json" if eos_id is not None else "generation_config.json"
        repairs.append(f"tokenizer: eos_token was empty, is {separator!r}, id {ends.separator} in {where}")
    elif eos != separator:
        repairs.append(f"tokenizer: EOS is {separator!r}, which separates documents, not {eos!r}")
    if eos != separator:
        special["eos_token"] = separator
    return ends
