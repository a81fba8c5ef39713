"""Names and counts as people read them in tables and figures."""

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
    """The token budget of each run, `0 (base)` for none; the run's name is added where budgets repeat."""
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
