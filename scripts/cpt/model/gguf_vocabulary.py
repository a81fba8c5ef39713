"""Writes a tokenizer.json as the tokenizer of a GGUF file, with the same ids in llama.cpp."""

import json
from collections.abc import Sequence
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerFast

from cpt.errors import UserError

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_THREES, _ONES = rf"{_LETTERS}\p{{N}}{{1,3}}{_REST}", rf"{_LETTERS}\p{{N}}{_REST}"
# llama.cpp's names of pre-tokenizers (llama-vocab.cpp), by the pattern in tokenizer.json and by
# `ignore_merges`: whether a piece that is a token stays whole without merges.
PATTERNS = {
    ("bytes", False): "gpt-2",
    ("digits, bytes", False): "smollm",
    (_THREES, True): "llama-bpe",
    (_THREES, False): "dbrx",
    (_ONES, False): "qwen2",
}
NOT_NORMALIZED = (
    "llama.cpp doesn't normalize text (Unicode's NFC) before it makes tokens, as this tokenizer does"
)
CUTS_ALL = {("Isolated", False), ("Removed", True)}  # both mean that all matches are pieces
BYTE = "<0x{:02X}>"
SPACE = "\u2581"  # stands for a space in pieces
NO_MERGE = "<none> <none>"  # llama.cpp needs a merge; no text has these pieces


def write_vocabulary(
    writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, size: int, ends: Sequence[int]
) -> list[str]:
    """Write tokens, merges or scores, special tokens, chat template; return what llama.cpp does differently.

    Args:
        writer: the GGUF file's writer.
        tokenizer: the model's tokenizer.
        size: number of ids in the model's embedding; ids without a token are padded.
        ends: ids that end an answer, the document separator first.

    Raises UserError for a tokenizer whose ids would differ in llama.cpp.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if content["model"]["type"] != "BPE":
        raise _refused(f"is of the type {content['model']['type']}, not BPE")
    tokens, kinds = _tokens(tokenizer, content, size)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    notes = []
    if content["model"].get("byte_fallback"):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_add_space_prefix(_space_prefix(content))
        writer.add_token_list(tokens)
        writer.add_token_scores(_scores(tokens, merges))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_pattern(content))
        writer.add_token_list(tokens)
        writer.add_token_merges(merges or [NO_MERGE])
        if (content["normalizer"] or {}).get("type") == "NFC":
            notes.append(NOT_NORMALIZED)
        elif content["normalizer"]:
            raise _refused(f"normalizes text by {content['normalizer']['type']}")
    writer.add_token_types(kinds)
    _write_special(writer, tokenizer, ends)
    return notes


def _refused(why: str) -> UserError:
    return UserError(
        f"release.gguf: the tokenizer {why}, which llama.cpp doesn't do the same way, so ids would differ; "
        "remove release.gguf"
    )


def _tokens(
    tokenizer: PreTrainedTokenizerFast, content: dict[str, Any], size: int
) -> tuple[list[str], list[TokenType]]:
    """Returns the tokens by id and their types. Skips ids beyond the embedding, and pads unused ids."""
    tokens = [f"[PAD{id}]" for id in range(size)]
    kinds = [TokenType.UNUSED] * size
    fallback = {BYTE.format(byte) for byte in range(256)} if content["model"].get("byte_fallback") else set()
    for token, id in tokenizer.get_vocab().items():
        if id < size:
            tokens[id] = token
            kinds[id] = TokenType.BYTE if token in fallback else TokenType.NORMAL
    for added in content["added_tokens"]:
        if added["id"] < size:
            kinds[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
            if fallback and not added["special"]:
                tokens[added["id"]] = added["content"].replace(SPACE, " ")
    if (unknown := content["model"].get("unk_token")) and fallback:
        kinds[tokens.index(unknown)] = TokenType.UNKNOWN
    return tokens, kinds


def _pattern(content: dict[str, Any]) -> str:
    """Returns llama.cpp's name of the pre-tokenizer. Raises UserError if it has none."""
    steps = content["pre_tokenizer"] or {}
    steps = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    names = []
    for step in steps:
        kind = step.get("type")
        if kind == "Split" and (step["behavior"], step["invert"]) in CUTS_ALL:
            names.append(step["pattern"].get("Regex"))
        elif kind == "Digits" and step["individual_digits"]:
            names.append("digits")
        elif kind == "ByteLevel" and not step["add_prefix_space"]:
            names += ["bytes"] if step["use_regex"] else ["", ""]  # only after a pattern
        else:
            names.append(str(kind))
    signature = ", ".join(names).removesuffix(", , ")
    if not content["model"]["merges"] and signature == ", ":
        return "gpt-2"  # each byte is a token, so the cuts don't matter
    pre_tokenizer = PATTERNS.get((signature, bool(content["model"].get("ignore_merges"))))
    if pre_tokenizer is None:
        raise _refused(f"cuts text by {signature!r:.80}")
    return pre_tokenizer


def _space_prefix(content: dict[str, Any]) -> bool:
    """Whether the tokenizer puts a space before a text. Raises UserError for other changes to the text."""
    normalizer, cutter = content["normalizer"] or {}, content["pre_tokenizer"] or {}
    steps = normalizer["normalizers"] if normalizer.get("type") == "Sequence" else [normalizer]
    steps = [step for step in steps if step]
    prefix = [step for step in steps if step["type"] == "Prepend" and step["prepend"] == SPACE]
    spaces = [step for step in steps if step["type"] == "Replace" and step["content"] == SPACE]
    if cutter.get("type") == "Metaspace" and not steps and not cutter.get("split", True):
        return cutter["prepend_scheme"] != "never"
    if cutter.get("type") == "Split" and cutter["pattern"] == {"String": " "}:
        cutter = {}  # in Gemma: the normalizer has replaced all spaces
    if cutter or len(spaces) != 1 or len(prefix) + 1 != len(steps):
        raise _refused(f"prepares text by {[step['type'] for step in [*steps, cutter] if step]}")
    return bool(prefix)


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Returns SentencePiece's scores: llama.cpp joins the neighbours whose union has the highest score."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", "", 1), rank)
    return [-float(ranks.get(token, len(merges))) for token in tokens]


def _write_special(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, ends: Sequence[int]) -> None:
    for name in ("bos", "unk", "pad"):
        if (id := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(id)
    first = tokenizer("a")["input_ids"]
    keys = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    for add, id in zip(keys, ends, strict=False):
        add(id)
    writer.add_add_bos_token(bool(first) and first[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(False)
    if tokenizer.chat_template:
        template = tokenizer.chat_template
        templates = (
            [{"name": name, "template": text} for name, text in template.items()]
            if isinstance(template, dict)
            else template
        )
        writer.add_chat_template(templates)
