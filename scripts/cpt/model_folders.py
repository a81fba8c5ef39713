"""The files of a model's folder, and those that models made from it keep (tokenizer, templates, ...)."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from cpt.errors import UserError
from cpt.files import read_json, sha256_of

SHARD_BYTES = 5 * 10**9  # of one file of weights; larger models have several, as the hub advises
# Formats of published weights: those that are read here, and those that never are.
READ_WEIGHTS = (".safetensors", ".bin")
OTHER_WEIGHTS = (".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx", ".onnx_data", ".tflite", ".gguf")
OTHER_WEIGHTS += (".npz", ".mlmodel", ".mlpackage", ".nemo", ".pkl")
# Not copied: each model gets its own. README.md describes the start model only, and code is never run.
OWN_FILES = ("config.json", "README.md", "Modelfile")
OWN_ENDINGS = (*READ_WEIGHTS, *OTHER_WEIGHTS, ".index.json", ".py")


def companions(folder: Path) -> Iterator[Path]:
    """Yields the files of `folder`, relative to it, that models made from it keep: tokenizer, licence, ...

    These are all but weights, their index, config.json, the card, the Modelfile, code and hidden files. From
    inner folders only chat templates (*.jinja) are kept: other folders hold another model (onnx, original) or
    a trainer's files (checkpoint-500, runs).
    """
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from (inner.relative_to(folder) for inner in sorted(path.glob("*.jinja")))
        elif path.name not in OWN_FILES and not path.name.endswith(OWN_ENDINGS):
            yield path.relative_to(folder)


def weights(folder: Path) -> list[Path]:
    """Returns the files of weights in one of our model folders, relative to it: one, or index and shards.

    Raises UserError if there are none, or if a file that the index names is missing.
    """
    whole, index = Path("model.safetensors"), Path("model.safetensors.index.json")
    files = [whole]
    if (folder / index).is_file():
        files = [index, *map(Path, sorted(set(read_json(folder / index)["weight_map"].values())))]
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise UserError(f"{folder}: no {missing[0]}; expected a model folder, so run the step that makes it")
    return files


def weights_digest(folder: Path) -> str:
    """Returns the SHA-256 of the weights' file as hex; for several files, that of their names and digests."""
    files = [name for name in weights(folder) if name.suffix == ".safetensors"]
    if len(files) == 1:
        return sha256_of(folder / files[0])
    lines = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in files)
    return hashlib.sha256(lines.encode()).hexdigest()


@contextmanager
def open_weights(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields a dict from each weight's name to the open file that has it (safetensors' safe_open, torch)."""
    with ExitStack() as stack:
        files = [name for name in weights(folder) if name.suffix == ".safetensors"]
        opened = [stack.enter_context(safe_open(folder / name, "pt")) for name in files]
        yield {name: file for file in opened for name in file.keys()}  # noqa: SIM118


def name_rotary_base(folder: Path) -> None:
    """Add to config.json the keys that transformers 4 reads about rotary positions.

    Version 4 silently ignores rope_parameters of version 5, and would compute with a base of 10,000.
    """
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    rope, older = config.get("rope_parameters") or {}, {}
    if "sliding_attention" in rope:  # one base for each kind of layer, as Gemma 3 has
        older["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if "rope_theta" not in rope:
        return
    names = {"rope_theta": "rope_theta", "partial_rotary_factor": "partial_rotary_factor"}
    if config["model_type"] == "gpt_neox":
        names = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    older |= {names[key]: rope[key] for key in names if key in rope}
    if rope.get("rope_type", "default") != "default":
        older["rope_scaling"] = {key: value for key, value in rope.items() if key not in names}
    if rope.get("rope_type") == "longrope":  # Phi 3 accepts no other keys than these
        older["rope_scaling"] = {"type": "longrope"} | {
            key: rope[key] for key in ("short_factor", "long_factor")
        }
        older["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    file.write_text(json.dumps(dict(sorted((config | older).items())), indent=2) + "\n", encoding="utf-8")


def copy_companions(source: Path, target: Path) -> None:
    """Copy the companions of one model's folder into another's, over files of the same name."""
    for name in companions(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
