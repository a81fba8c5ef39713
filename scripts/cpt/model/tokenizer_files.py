"""Reads the tokenizer of a Hugging Face folder from any of the file formats that authors publish."""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.files import read_json
from cpt.model.loaded import SPECIAL_TOKENS, token_text
from cpt.model.pieces import tokenizer_of_pieces

MOBILELLM_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
# Files of tokenizers that aren't read, and what they are.
OTHER_FILES = {
    "*.model": "a SentencePiece model whose ids the tokenizer's class changes",
    "tekken.json": "Mistral's own format",
    "*.tiktoken": "a tiktoken file",
    "vocab.txt": "a list of words",
    "vocab.json": "a vocabulary without its merges.txt",
}
# Tokenizers of these classes add BOS unless their files say otherwise.
ADDING_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast")
ADDING_CLASSES += ("GemmaTokenizer", "GemmaTokenizerFast")
SAVED_ONCE = (
    "make a tokenizer.json where the model's own tokenizer works: "
    "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
)


def read_tokenizer(
    folder: Path, config: dict[str, Any], repairs: list[str]
) -> tuple[Tokenizer, dict[str, Any]]:
    """Returns the tokenizer, and the content of tokenizer_config.json with its special tokens repaired.

    `config` is the content of config.json. Raises UserError if none of the folder's files can be read, or if
    one of its special tokens isn't in the vocabulary.
    """
    file, older = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    special = read_json(file) if file.is_file() else {}
    for name, token in (read_json(older) if older.is_file() else {}).items():
        if name in SPECIAL_TOKENS and not special.get(name):
            special[name] = token
    backend = _backend(folder, repairs)
    backend.no_truncation()
    backend.no_padding()
    if dropout := getattr(backend.model, "dropout", None):
        backend.model.dropout = None
        repairs.append(f"tokenizer: BPE dropout of {dropout:g} switched off, so that a text has one encoding")
    _add_tokens(backend, special, folder, repairs)
    if config.get("model_type") == "mobilellm":
        if not special.get("bos_token"):
            special["add_bos_token"] = False  # without a BOS token the authors' tokenizer can't have added it
        for name, token in MOBILELLM_SPECIAL.items():
            if not special.get(name):
                special[name] = token
                repairs.append(f"tokenizer: {name} was empty, is {token!r} (id {backend.token_to_id(token)})")
    for name in SPECIAL_TOKENS:
        text = token_text(special.get(name))
        if text and backend.token_to_id(text) is None:
            raise UserError(
                f"{file}: {name} {text!r} isn't in the tokenizer's vocabulary; correct it there, or take all "
                "files of the tokenizer from one release"
            )
    return backend, special


def _backend(folder: Path, repairs: list[str]) -> Tokenizer:
    """Read the first of tokenizer.json, tokenizer.model, and vocab.json with merges.txt that exists."""
    if (folder / "tokenizer.json").is_file():
        try:
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers has no class of its own
            raise UserError(
                f"{folder / 'tokenizer.json'}: can't be read ({error}); fetch it again, from the release of "
                "the weights"
            ) from None
    if (folder / "tokenizer.model").is_file():
        repairs.append(
            "tokenizer: tokenizer.json made from SentencePiece's tokenizer.model, and compared with it"
        )
        return tokenizer_of_pieces(folder / "tokenizer.model")
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _from_merges(folder, repairs)
    for pattern, what in OTHER_FILES.items():
        for other in sorted(folder.glob(pattern)):
            raise UserError(f"base: {folder} has only {other.name} of a tokenizer, {what}; {SAVED_ONCE}")
    raise UserError(
        f"base: {folder} has neither tokenizer.json nor tokenizer.model, nor vocab.json with merges.txt; "
        "fetch them from the release of the weights"
    )


def _from_merges(folder: Path, repairs: list[str]) -> Tokenizer:
    """Convert GPT-2's older files (OPT has no others) with the transformers class that the folder names."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a tokenizer's class raises
        raise UserError(
            f"base: {folder}: no tokenizer can be made of vocab.json and merges.txt "
            f"({str(error).splitlines()[0]}); {SAVED_ONCE}"
        ) from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            f"base: transformers has no fast tokenizer for vocab.json and merges.txt in {folder} "
            f"({type(tokenizer).__name__}); {SAVED_ONCE}"
        )
    repairs.append(
        "tokenizer: tokenizer.json made from vocab.json and merges.txt by transformers' "
        f"{type(tokenizer).__name__}"
    )
    return tokenizer.backend_tokenizer


def _add_tokens(backend: Tokenizer, special: dict[str, Any], folder: Path, repairs: list[str]) -> None:
    """Add tokens of tokenizer_config.json or added_tokens.json that the tokenizer's own file lacks.

    Raises UserError if a token would get another id.
    """
    file = folder / "added_tokens.json"
    plain = {id: token for token, id in (read_json(file) if file.is_file() else {}).items()}
    full = {int(id): token for id, token in special.get("added_tokens_decoder", {}).items()}
    added = []
    for id, token in sorted((plain | full).items()):
        text = token_text(token)
        if backend.token_to_id(text) is not None:
            continue
        options = {key: value for key, value in token.items() if key != "__type"} if id in full else {}
        backend.add_tokens([AddedToken(**{"content": text, "special": bool(text.strip())} | options)])
        if backend.token_to_id(text) != id:
            raise UserError(
                f"{folder}: the added token {text!r} should have id {id}, but the tokenizer's next id is "
                f"{backend.token_to_id(text)}; write a complete tokenizer.json with "
                "AutoTokenizer.save_pretrained"
            )
        added.append(text)
    if added:
        repairs.append(f"tokenizer: {len(added)} added tokens put into tokenizer.json ({added[0]!r}, ...)")


def adds_bos(backend: Tokenizer, settings: dict[str, Any]) -> bool:
    """Whether the authors' tokenizer puts BOS before a text.

    `add_bos_token` of tokenizer_config.json decides, if it is set. Else the post-processor of tokenizer.json
    or the default of the tokenizer's class must add it.

    Args:
        backend: the tokenizer as in the authors' files.
        settings: the content of tokenizer_config.json.
    """
    bos = token_text(settings.get("bos_token"))
    if not bos:
        return False
    if isinstance(settings.get("add_bos_token"), bool):
        return settings["add_bos_token"]
    return begins_with(backend, bos) or settings.get("tokenizer_class") in ADDING_CLASSES


def begins_with(backend: Tokenizer, bos: str) -> bool:
    """Whether the tokenizer puts this token before a text."""
    return backend.encode("").ids[:1] == [backend.token_to_id(bos)]
