"""Import of a Hugging Face folder: native architecture, all weights, a tokenizer with an EOS."""

import copy
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
from cpt.model.loaded import SPECIAL_TOKENS, Loaded, fast_tokenizer, token_text
from cpt.model.pieces import tokenizer_of_pieces

# By their names in safetensors.
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")  # in the order of preference
MOBILELLM_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
MOBILELLM_LICENCE = "FAIR Noncommercial Research License; weights derived from it must carry it"
# Of code that isn't run, of other model classes, and of the files' dtype, which is read from themselves.
DROPPED_KEYS = ("auto_map", "share_embedding", "layer_sharing", "architectures", "_name_or_path", "dtype")
DROPPED_KEYS += ("torch_dtype",)


def load_folder(folder: Path) -> Loaded:
    """Read config, weights and tokenizer from `folder`; code in the folder is never run.

    MobileLLM ships its own model class, but is a Llama with tied embeddings, so it is read as one. Its
    tokenizer_config.json leaves the special tokens empty, which is mended. Weights keep the type that they
    have in their files.

    Raises UserError for an architecture that transformers doesn't have, for quantised, missing or unexpected
    weights, and for a tokenizer without EOS; the message names them.
    """
    if not (folder / "config.json").is_file():
        raise UserError(
            f"base: {folder} has no config.json; expected a Hugging Face model folder, so mend base.path or "
            "base.repo"
        )
    given = read_json(folder / "config.json")
    mended: list[str] = []
    config = _config(given, folder, mended)
    model = _model(config, folder, mended)
    backend, special = _tokenizer(folder, given, mended)
    facts = {"licence": MOBILELLM_LICENCE} if given.get("model_type") == "mobilellm" else {}
    tokenizer = fast_tokenizer(backend, special, config.max_position_embeddings)
    return Loaded(model, tokenizer, facts, mended)


def _config(given: dict[str, Any], folder: Path, mended: list[str]) -> PreTrainedConfig:
    kind = given.get("model_type")
    kept = {key: value for key, value in given.items() if key not in DROPPED_KEYS}
    if kind == "mobilellm":
        if given.get("layer_sharing"):
            raise UserError(
                f"{folder / 'config.json'}: layer_sharing is true (a -layer-share model), in which each "
                "layer runs twice; that isn't a Llama. Use MobileLLM without layer sharing"
            )
        kept |= {"model_type": "llama", "tie_word_embeddings": bool(given.get("share_embedding", True))}
        mended.append(
            "config: model_type mobilellm is read as llama, with tie_word_embeddings "
            f"{str(kept['tie_word_embeddings']).lower()} as share_embedding says"
        )
        kind = "llama"
    if kind not in CONFIG_MAPPING or CONFIG_MAPPING[kind] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(
            f"{folder / 'config.json'}: model_type {kind!r} isn't a causal language model that transformers "
            "has built in, and code that comes with a model is never run; choose a native architecture"
        )
    if "quantization_config" in given:
        raise UserError(
            f"{folder / 'config.json'}: the weights are quantised (quantization_config), and can't be "
            "trained; take the release that isn't"
        )
    config = CONFIG_MAPPING[kind].from_dict(kept)
    for name in ("vocab_size", "max_position_embeddings"):
        if not isinstance(getattr(config, name, None), int):
            raise UserError(
                f"{folder / 'config.json'}: model_type {kind!r} has no {name}; only language models with a "
                "fixed context can be continued, and of models of text and pictures only the text part; "
                "choose another base model"
            )
    return config


def _model(config: PreTrainedConfig, folder: Path, mended: list[str]) -> PreTrainedModel:
    """The model with all its weights, from *.safetensors, or from pytorch_model*.bin where those don't fit.

    MobileLLM's first *.safetensors on the hub, made by a bot, lack the embedding; its .bin is complete.
    """
    problems: list[str] = []
    for pattern in WEIGHT_FILES:
        files = sorted(folder.glob(pattern))
        if not files:
            continue
        model, problem = _read_weights(config, folder, files)
        if model and not problem:
            mended += [f"weights: read from {files[0].name}, as {told}" for told in problems]
            return model
        problems.append(f"{pattern}: {problem}")
    if not problems:
        raise UserError(
            f"base: {folder} has neither {' nor '.join(WEIGHT_FILES)}; fetch the weights, or take a release "
            "that has them in one of these formats"
        )
    raise UserError(
        f"base: the weights in {folder} can't be used. {'. '.join(problems)}. Missing weights would stay "
        "random; check tie_word_embeddings in config.json, and that all files are complete and of one "
        "release, best as *.safetensors"
    )


def _read_weights(
    config: PreTrainedConfig, folder: Path, files: list[Path]
) -> tuple[PreTrainedModel | None, str]:
    """The model with the weights of one format, and what is wrong with them (or nothing)."""
    try:
        model, found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            folder,
            config=copy.deepcopy(config),
            dtype=_widest_dtype(files),
            use_safetensors=files[0].suffix == ".safetensors",
            weights_only=True,
            ignore_mismatched_sizes=True,  # they are reported below, with the others
            local_files_only=True,
            output_loading_info=True,
        )
    except (UnpicklingError, SafetensorError, EOFError, OSError, RuntimeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return None, f"can't be read, incomplete or more than tensors, which alone are read ({why})"
    problems = [
        f"{what}: {', '.join(keys[:5])}" + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        for what in ("missing", "unexpected", "mismatched")
        if (keys := sorted(key if isinstance(key, str) else key[0] for key in found[f"{what}_keys"]))
    ]
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if config.tie_word_embeddings and model._tied_weights_keys and outputs.weight is not inputs.weight:
        problems.append(
            "tie_word_embeddings is true, but there is an output matrix other than the embedding (set it to "
            "false if that matrix was trained)"
        )
    return model, "; ".join(problems)


def _widest_dtype(files: list[Path]) -> torch.dtype:
    """The floating type that holds the weights of all files exactly, whatever config.json says."""
    found: set[torch.dtype] = set()
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as weights:
                names = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
            found |= {dtype for name, dtype in FLOATS.items() if name in names}
        else:
            values = torch.load(file, map_location="meta", weights_only=True).values()
            tensors = [value for value in values if isinstance(value, torch.Tensor)]
            found |= {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return reduce(torch.promote_types, found) if found else torch.float32


def _tokenizer(folder: Path, config: dict[str, Any], mended: list[str]) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer itself, and the content of tokenizer_config.json with its special tokens mended.

    `config` is the content of config.json.
    """
    is_mobilellm, eos_id = config.get("model_type") == "mobilellm", config.get("eos_token_id")
    file = folder / "tokenizer_config.json"
    special = read_json(file) if file.is_file() else {}
    if (folder / "tokenizer.json").is_file():
        try:
            backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers has no class of its own
            raise UserError(
                f"{folder / 'tokenizer.json'}: can't be read ({error}); fetch it again, from the release of "
                "the weights"
            ) from None
    elif (folder / "tokenizer.model").is_file():
        backend = tokenizer_of_pieces(folder / "tokenizer.model")
        mended.append(
            "tokenizer: tokenizer.json made from SentencePiece's tokenizer.model, and compared with it"
        )
    else:
        raise UserError(
            f"base: {folder} has neither tokenizer.json nor tokenizer.model; fetch one of them from the "
            "release of the weights"
        )
    backend.no_truncation()
    backend.no_padding()
    if is_mobilellm:
        for name, token in MOBILELLM_SPECIAL.items():
            if not special.get(name):
                special[name] = token
                mended.append(f"tokenizer: {name} was empty, is {token!r} (id {backend.token_to_id(token)})")
    if not special.get("eos_token") and isinstance(eos_id, int) and backend.id_to_token(eos_id):
        special["eos_token"] = backend.id_to_token(eos_id)
        mended.append(
            f"tokenizer: eos_token was empty, is {special['eos_token']!r}, id {eos_id} in config.json"
        )
    if not special.get("eos_token"):
        raise UserError(
            f"{file}: eos_token is empty, so documents couldn't be separated; set it to the token that ended "
            "documents in pre-training"
        )
    for name in SPECIAL_TOKENS:
        text = token_text(special.get(name))
        if text and backend.token_to_id(text) is None:
            raise UserError(
                f"{file}: {name} {text!r} isn't in the tokenizer's vocabulary; mend it there, or take all "
                "files of the tokenizer from one release"
            )
    return backend, special
