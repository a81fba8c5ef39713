"""Import of a Hugging Face folder: native architecture, all weights, a tokenizer with an EOS."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel

from cpt.errors import UserError
from cpt.files import read_json
from cpt.model.loaded import SPECIAL_TOKENS, Loaded, fast_tokenizer
from cpt.model.pieces import tokenizer_of_pieces

MOBILELLM_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
MOBILELLM_LICENCE = "FAIR Noncommercial Research License; weights derived from it must carry it"
REMOTE_KEYS = ("auto_map", "share_embedding", "layer_sharing", "architectures", "_name_or_path")


def load_folder(folder: Path) -> Loaded:
    """Read config, weights and tokenizer from `folder`; code in the folder is never run.

    MobileLLM ships its own model class, but is a Llama with tied embeddings, so it is read as one. Its
    tokenizer_config.json leaves the special tokens empty, which is mended.

    Raises UserError for an architecture that transformers doesn't have, for missing or unexpected weights,
    and for a tokenizer without EOS; the message names them.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"base: {folder} has no config.json; expected a Hugging Face model folder")
    given = read_json(folder / "config.json")
    mended: list[str] = []
    config = _config(given, folder, mended)
    model = _model(config, folder)
    is_mobilellm = given.get("model_type") == "mobilellm"
    backend, special = _tokenizer(folder, is_mobilellm, mended)
    facts = {"licence": MOBILELLM_LICENCE} if is_mobilellm else {}
    tokenizer = fast_tokenizer(backend, special, config.max_position_embeddings)
    return Loaded(model, tokenizer, facts, mended)


def _config(given: dict[str, Any], folder: Path, mended: list[str]) -> PreTrainedConfig:
    kind = given.get("model_type")
    kept = {key: value for key, value in given.items() if key not in REMOTE_KEYS}
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
    return CONFIG_MAPPING[kind].from_dict(kept)


def _model(config: PreTrainedConfig, folder: Path) -> PreTrainedModel:
    safetensors = any(folder.glob("*.safetensors"))
    if not safetensors and not any(folder.glob("pytorch_model*.bin")):
        raise UserError(f"base: {folder} has neither *.safetensors nor pytorch_model*.bin")
    try:
        model, found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            folder,
            config=config,
            dtype="auto",
            use_safetensors=safetensors,
            weights_only=True,
            ignore_mismatched_sizes=True,  # they are reported below, with the others
            local_files_only=True,
            output_loading_info=True,
        )
    except (UnpicklingError, SafetensorError, EOFError, OSError) as error:
        why = str(error).splitlines()[0][:200]
        raise UserError(
            f"base: the weights in {folder} can't be read: {why}. A file is incomplete, or holds more than "
            "tensors; only tensors are read. Get the files again, best as *.safetensors"
        ) from None
    problems = [
        f"{what}: {', '.join(keys[:5])}" + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        for what in ("missing", "unexpected", "mismatched")
        if (keys := sorted(key if isinstance(key, str) else key[0] for key in found[f"{what}_keys"]))
    ]
    if problems:
        told = "; ".join(problems)
        message = (
            f"base: the weights in {folder} don't fit its config.json; {told}. Missing weights would stay "
            "random; check tie_word_embeddings, and that all files come from one release"
        )
        if safetensors and any(folder.glob("pytorch_model*.bin")):
            message += ". If the *.safetensors are a bad conversion of pytorch_model.bin, remove them"
        raise UserError(message)
    return model


def _tokenizer(folder: Path, is_mobilellm: bool, mended: list[str]) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer itself, and the content of tokenizer_config.json with its special tokens mended."""
    file = folder / "tokenizer_config.json"
    special = read_json(file) if file.is_file() else {}
    if (folder / "tokenizer.json").is_file():
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif (folder / "tokenizer.model").is_file():
        backend = tokenizer_of_pieces(folder / "tokenizer.model")
        mended.append(
            "tokenizer: tokenizer.json made from SentencePiece's tokenizer.model, and compared with it"
        )
    else:
        raise UserError(f"base: {folder} has neither tokenizer.json nor tokenizer.model")
    backend.no_truncation()
    backend.no_padding()
    if is_mobilellm:
        for name, token in MOBILELLM_SPECIAL.items():
            if not special.get(name):
                special[name] = token
                mended.append(f"tokenizer: {name} was empty, is {token!r} (id {backend.token_to_id(token)})")
    if not special.get("eos_token"):
        raise UserError(
            f"{file}: eos_token is empty, so documents couldn't be separated; set it to the token that ended "
            "documents in pre-training"
        )
    for name in SPECIAL_TOKENS:
        token = special.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if text and backend.token_to_id(text) is None:
            raise UserError(f"{file}: {name} {text!r} isn't in the tokenizer's vocabulary")
    return backend, special
