"""Weighted sums of models, block by block: memory never holds a whole tensor, let alone a model."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from cpt.errors import UserError
from cpt.files import atomic, read_json
from cpt.model_folders import copy_companions, weights
from cpt.templates import chat_templates

BLOCK = 2**20  # elements of each model that are summed at once: 8 MB in float64
# Floating-point types as a safetensors file calls them. Tensors of any other type aren't summed.
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Keys of config.json that don't change what weights mean; all others must be the same in models to be summed.
FREE_KEYS = re.compile(
    r".*_token_id|.*dropout.*|.*pdrop|.*initializer_range|(torch_)?dtype|transformers_version|_?name_or_path|"
    r"use_cache|architectures|max_position_embeddings|max_window_layers"
)


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a safetensors file, in bytes, and what the file calls its dtype."""

    file: Path
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def dtype(self) -> torch.dtype | None:
        """The torch dtype; None if tensors of this type aren't summed."""
        return DTYPES.get(self.kind)

    def blocks(self) -> Iterator[torch.Tensor]:
        """Yield its elements in float64, or its bytes if it isn't summed: flat, BLOCK at a time."""
        kind = self.dtype or torch.uint8
        with open(self.file, "rb") as file:
            file.seek(self.begin)
            for begin in range(self.begin, self.end, BLOCK * kind.itemsize):
                content = bytearray(min(BLOCK * kind.itemsize, self.end - begin))
                if file.readinto(content) < len(content):
                    raise UserError(
                        f"{self.file}: ends too early; remove the model, so that it is made again"
                    )
                block = torch.frombuffer(content, dtype=kind)
                yield block.double() if self.dtype else block


@dataclass(frozen=True)
class StoredFile:
    """A safetensors file: the bytes before its tensors, and the tensors' places, in the file's order."""

    name: str
    header: bytes
    tensors: dict[str, StoredTensor]


def read_header(file: Path) -> StoredFile:
    """Read a file in this format: size of the JSON (little-endian uint64), the JSON, tensors without gaps."""
    with open(file, "rb") as opened:
        size = opened.read(8)
        content = opened.read(int.from_bytes(size, "little"))
    entries = json.loads(content)
    entries.pop("__metadata__", None)
    tensors = {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = (8 + len(content) + offset for offset in entry["data_offsets"])
        tensors[name] = StoredTensor(file, entry["dtype"], tuple(entry["shape"]), begin, end)
    return StoredFile(file.name, size + content, tensors)


def merged_model(run: str, models: dict[str, Path], coefficients: dict[str, float], output: Path) -> str:
    """Write a model folder: the sum of models, each weight times its model's coefficient.

    Products and sums are float64, in the order of `models`, and are rounded to the first model's dtypes. The
    files have the first model's tensors and shards, so {X: 1} gives X's bytes. Tensors that aren't floats
    (counters, masks) must be equal in all models. Interpolation is WiSE-FT (Wortsman et al. 2022, eq. 1). A
    run plus a difference is the chat vector (Huang et al. 2024) or instruction residual (Jindal et al. 2024).

    config.json is the first model's. Template, tokenizer, generation settings and token ids come from the
    first model that has a coefficient over 0 and a chat template; without such a model, from the first one.

    Args:
        run: name of the run, for messages.
        models: Hugging Face folders by name.
        coefficients: by the same names.
        output: folder to write.

    Returns:
        The name of the model whose template, tokenizer and settings were taken.

    Raises:
        UserError: the models differ in tensors, in settings that change what weights mean or in tokens, or a
            sum isn't finite.
    """
    stored = require_alike(run, models)
    first = next(iter(models))
    chatting = [name for name, folder in models.items() if coefficients[name] > 0 and chat_templates(folder)]
    spoken = first if first in chatting or not chatting else chatting[0]
    with atomic(output) as folder:
        folder.mkdir()
        for file in _files(models[first]):
            with open(folder / file.name, "wb") as stream:
                stream.write(file.header)
                for key in file.tensors:
                    summands = {name: stored[name][key] for name in models}
                    for block in _summed(run, key, summands, coefficients):
                        stream.write(block.view(torch.uint8).numpy())
        for name in weights(models[first]):
            if name.suffix == ".json":
                shutil.copyfile(models[first] / name, folder / name)
        copy_companions(models[spoken], folder)
        shutil.copyfile(models[first] / "config.json", folder / "config.json")
        if spoken != first:
            _take_token_ids(models[spoken] / "config.json", folder / "config.json")
    return spoken


def _files(folder: Path) -> list[StoredFile]:
    return [read_header(folder / name) for name in weights(folder) if name.suffix == ".safetensors"]


def _take_token_ids(source: Path, file: Path) -> None:
    """Copy the token ids of one config.json into another."""
    config, ids = read_json(file), {k: v for k, v in read_json(source).items() if k.endswith("_token_id")}
    text = json.dumps(dict(sorted((config | ids).items())), indent=2) + "\n"
    file.write_text(text, encoding="utf-8")


def _summed(
    run: str, key: str, summands: dict[str, StoredTensor], coefficients: dict[str, float]
) -> Iterator[torch.Tensor]:
    """Yield the blocks of one tensor of the sum. Raises UserError as merged_model does."""
    names, dtype = list(summands), next(iter(summands.values())).dtype
    for blocks in zip(*(tensor.blocks() for tensor in summands.values()), strict=True):
        if dtype is None:
            for name, block in zip(names, blocks, strict=True):
                if not torch.equal(block, blocks[0]):
                    raise UserError(
                        f"runs.{run}.merge: {names[0]} and {name} differ in the tensor {key!r}, whose type "
                        f"{summands[name].kind} can't be summed; leave one of them out"
                    )
            yield blocks[0]
            continue
        total = blocks[0].mul_(coefficients[names[0]])
        for name, block in zip(names[1:], blocks[1:], strict=True):
            total += block.mul_(coefficients[name])
        rounded = total.to(dtype)
        if not torch.isfinite(rounded).all():
            raise UserError(
                f"runs.{run}.merge: the sum isn't finite in the tensor {key!r} ({dtype}); lower the "
                f"coefficients, or look for the model that has such weights: {', '.join(names)}"
            )
        yield rounded


def require_alike(run: str, models: dict[str, Path]) -> dict[str, dict[str, StoredTensor]]:
    """Check that models can be summed; returns the places of their tensors, by model and name.

    Raises UserError with the first difference in settings that change what weights mean, tensors or tokens.
    """
    stored = {
        name: {key: tensor for file in _files(folder) for key, tensor in file.tensors.items()}
        for name, folder in models.items()
    }
    configs = {name: read_json(folder / "config.json") for name, folder in models.items()}
    tokenizers = {name: _tokens(folder) for name, folder in models.items()}
    first, *others = models
    for name in others:
        problem = (
            _difference_of_settings(first, configs[first], name, configs[name])
            or _difference_of_tensors(first, stored[first], name, stored[name])
            or _difference_of_tokens(first, tokenizers[first], name, tokenizers[name])
        )
        if problem:
            raise UserError(
                f"runs.{run}.merge: {first} and {name} can't be summed: {problem}; all models of a sum must "
                "come from one model, each trained further from it"
            )
    return stored


def _difference_of_settings(one: str, mine: dict[str, Any], other: str, theirs: dict[str, Any]) -> str | None:
    for key in sorted(mine.keys() | theirs.keys()):
        if not FREE_KEYS.fullmatch(key) and mine.get(key) != theirs.get(key):
            return f"{key} in config.json is {mine.get(key)!r} in {one} and {theirs.get(key)!r} in {other}"
    return None


def _difference_of_tensors(
    one: str, mine: dict[str, StoredTensor], other: str, theirs: dict[str, StoredTensor]
) -> str | None:
    for key in sorted(mine.keys() | theirs.keys()):
        if key not in mine or key not in theirs:
            return f"only {one if key in mine else other} has the tensor {key!r}"
        if mine[key].shape != theirs[key].shape:
            shapes = f"{list(mine[key].shape)} in {one} and {list(theirs[key].shape)} in {other}"
            return f"the tensor {key!r} has the shape {shapes}"
        kinds = mine[key].kind, theirs[key].kind
        if kinds[0] != kinds[1] and not (mine[key].dtype and theirs[key].dtype):
            return f"the tensor {key!r} has the type {kinds[0]} in {one} and {kinds[1]} in {other}"
    return None


def _tokens(folder: Path) -> dict[str, Any]:
    """A tokenizer.json in the library's current format, however old it is. Raises UserError without one."""
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"{folder}: no tokenizer.json; expected a model folder, so run the step that makes it"
        )
    return json.loads(Tokenizer.from_file(str(folder / "tokenizer.json")).to_str())


def _difference_of_tokens(one: str, mine: dict[str, Any], other: str, theirs: dict[str, Any]) -> str | None:
    ids, others = _ids(mine), _ids(theirs)
    for token in sorted(ids.keys() | others.keys()):
        if ids.get(token) != others.get(token):
            return (
                f"the token {token!r} has the id {ids.get(token)} in {one} and {others.get(token)} in {other}"
            )
    for key in ("model", "normalizer", "pre_tokenizer"):
        if mine[key] != theirs[key]:
            return f"their tokenizers cut text differently ({key!r} in tokenizer.json)"
    return None


def _ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    """All tokens and their ids; a Unigram model lists tokens in the order of their ids."""
    listed = tokenizer["model"]["vocab"]
    if isinstance(listed, list):
        listed = {token: id for id, (token, _) in enumerate(listed)}
    return listed | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
