"""Names and counts as people read them in tables and figures."""

import re
from typing import Any

MINUS = "\N{MINUS SIGN}"
UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def count_label(count: float) -> str:
    """A count with three significant digits and a decimal unit: 400M, 10.2K, 1B, 512."""
    for unit, letter in UNITS:
        if count >= 0.9995 * unit:
            return f"{count / unit:.3g}{letter}"
    return f"{count:.0f}"


def run_labels(runs: dict[str, int]) -> dict[str, str]:
    """The token budget of each run, `0 (base)` for none; adds the run's name if budgets repeat."""
    budgets = list(runs.values())
    labels = {}
    for run, tokens in runs.items():
        label = count_label(tokens)
        labels[run] = label if tokens and budgets.count(tokens) == 1 else f"{label} ({run})"
    return labels


def model_name(base: dict[str, Any]) -> str:
    """The base model's name: `label` in the config's `base` section, or what its source says."""
    if base.get("label"):
        return base["label"]
    names = {
        "hub": lambda: base["repo"],
        "package": lambda: f"{base['package']} {base['version']}",
        "local": lambda: base["path"],
        "random": lambda: f"random Llama ({base['layers']} layers, width {base['hidden_size']})",
    }
    return names[base["source"]]()


def base_note(base: dict[str, Any], report: dict[str, Any]) -> str:
    """A note on the base model for readers of scores; empty if there is nothing to note.

    Args:
        base: the `base` section of the config.
        report: models/base.json: `weights_were` has the types of the tensors in a GGUF file, `chat_templates`
            the names of those that the tokenizer has.
    """
    bits = [re.match(r"(?:I?Q|TQ|MXFP|NVFP)(\d)", kind) for kind in report.get("weights_were", [])]
    quantised = min((int(match[1]) for match in bits if match), default=None)
    kind = ""
    names = [base.get(key) or "" for key in ("label", "repo", "path")] + [report.get("name") or ""]
    if re.search(r"(?i)(?<![a-z])(instruct|chat|it)(?![a-z])", " ".join(names)):
        kind = "an instruction-tuned model"
    elif report.get("chat_templates"):
        kind = "a model with a chat template"
    if quantised:
        article = "an" if quantised == 8 else "a"
        return f"dequantised from {article} {quantised}-bit GGUF file of {kind or 'the model'}"
    return kind
