"""The end of a model card: which versions of transformers load the folder, and its GGUF files."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.gguf_types import gguf_name
from cpt.report.held_out_text import count_text

# A test loads models of these types with both versions and finds equal logits and token ids.
OLDER, CURRENT = "4.57", "5"
COMPARED = (
    "llama", "mistral", "smollm3", "qwen2", "qwen3", "gemma", "gemma3_text", "olmo", "olmo2", "phi", "phi3",
    "gpt_neox", "gpt_neo", "gpt2", "gptj", "opt", "falcon", "bloom", "stablelm", "starcoder2",
)  # fmt: skip
COMPARED_ROTARY = {"default", "linear", "dynamic", "yarn", "llama3", "longrope"}


def needs(config: dict[str, Any], auto_tokenizer: bool = True) -> str:
    """What a folder with this config.json needs of transformers, in sentences.

    `auto_tokenizer` says whether AutoTokenizer gives the ids of tokenizer.json.
    """
    if not auto_tokenizer:
        return (
            f"{needs(config)} `AutoTokenizer` of version {CURRENT} replaces the tokenizer of a "
            f"`{config['model_type']}` by its own, which gives other ids: load it with "
            "`PreTrainedTokenizerFast.from_pretrained`."
        )
    rope = config.get("rope_parameters") or {}
    kinds = {part.get("rope_type", "default") for part in rope.values() if isinstance(part, dict)}
    kinds |= {rope["rope_type"]} if "rope_type" in rope else set()
    kind = config.get("model_type")
    if kind in COMPARED and kinds <= COMPARED_ROTARY:
        return f"Loads in transformers {OLDER} and {CURRENT}, which give the same logits and token ids."
    reason = (
        f"`{kind}`" if kind not in COMPARED else f"rotary positions of the type {', '.join(sorted(kinds))}"
    )
    return (
        f"Needs transformers {CURRENT}: version {OLDER} wasn't compared with it for {reason}, and may give "
        "other logits without an error."
    )


def read_losses(table: Path) -> list[dict[str, str]]:
    """The rows of quantisation.csv."""
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def gguf_parts(run: str, reports: Sequence[dict[str, Any]], losses: Sequence[dict[str, str]]) -> list[str]:
    """The section about GGUF files; nothing if no file was made.

    Args:
        run: its name.
        reports: of write_gguf, one for each file.
        losses: rows of quantisation.csv.
    """
    if not reports:
        return []
    corpora = list(dict.fromkeys(row["corpus"] for row in losses))
    bits = {(row["kind"], row["corpus"]): row for row in losses}
    lines = [
        f"| file | MB | {' | '.join(f'bits per byte, {corpus}' for corpus in corpora)} | types of weights |",
        f"| --- | ---: | {'---: | ' * len(corpora)}--- |",
    ]
    for report in reports:
        cells = []
        for corpus in corpora:
            row = bits[report["kind"], corpus]
            score, before = float(row["bits_per_byte"]), float(row["bits_per_byte_of_model"])
            low, high = row["difference_ci_low"], row["difference_ci_high"]
            interval = f"; {float(low):+.4f} to {float(high):+.4f}" if low else ""
            cells.append(f"{score:.4f} ({score - before:+.4f}{interval})")
        types = ", ".join(f"{count} {kind}" for kind, count in report["types"].items())
        name = gguf_name(run, report["kind"])
        lines.append(f"| `{name}` | {report['bytes'] / 1e6:,.1f} | {' | '.join(cells)} | {types} |")
    counts = {row["corpus"]: count_text(int(row["documents"]), int(row["groups"])) for row in losses}
    counted = "; ".join(f"{corpus}: {count}" for corpus, count in counts.items())
    notes = list(dict.fromkeys(note for report in reports for note in report["notes"]))
    text = (
        "For llama.cpp, and for Ollama: `ollama create NAME -f Modelfile`. In parentheses: the difference "
        "from the weights in safetensors, on held-out text, computed in float32 with the weights as stored; "
        f"with its 95 % interval by a bootstrap over groups of documents ({counted}). "
        "Rows whose length isn't a multiple of 256 have Q5_0 instead of Q4_K and Q8_0 instead of Q6_K, as in "
        "llama.cpp."
    )
    return ["## GGUF", "\n".join(lines), text, *(f"{note}." for note in notes)]
