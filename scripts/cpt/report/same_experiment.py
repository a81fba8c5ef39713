"""Is this the paper's experiment? Only then is a number of ours held against one of its."""

from typing import Any

from cpt.mixtures import default_mixture
from cpt.report.labels import count_label, model_name
from cpt.report.rows import Row


def obstacle(
    config: dict[str, Any],
    paper: dict[str, Any],
    names: dict[str, str],
    scores: list[Row],
    runs: dict[str, Row],
    wanted: list[str],
    hardware: bool,
) -> str:
    """Why `wanted` (runs of the paper) aren't measured by the runs that stand for them; empty if they are.

    Looked at: base model, items, and of trained runs budget, text, settings, sequences per step; for
    `hardware` the device, its number and the engine as well. `config` is the merged one, `paper` that part of
    claims.yaml.
    """
    if config["base"].get("repo") != paper["base"]:
        return f"another base model: {model_name(config['base'])}"
    shown = [row for row in scores if row["shown"]]
    if any(row["n"] != paper["items"].get(row["task"], row["n"]) for row in shown):
        return "a subset of the items"
    for run in wanted:
        stated = paper["runs"][run]
        if stated["tokens"] and (reason := _other_run(config, paper, names, runs, run, hardware)):
            return reason
    return ""


def _other_run(
    config: dict[str, Any],
    paper: dict[str, Any],
    names: dict[str, str],
    runs: dict[str, Row],
    run: str,
    hardware: bool,
) -> str:
    stated, name = paper["runs"][run], names.get(run)
    row = runs.get(name or "")
    settings = config["runs"].get(name)
    if row is None or (settings["tokens"] != stated["tokens"] and not settings.get("start_from")):
        return f"no run of {count_label(stated['tokens'])} tokens"
    shares = config["mixtures"][settings.get("mixture") or default_mixture(config["mixtures"])]
    text = {config["corpora"][corpus].get("repo") for corpus, share in shares.items() if share}
    if text != {paper["corpus"]} or settings.get("switch") or settings.get("start_from"):
        return f"{name} is trained on other text, or not from the base model"
    train = {**config["train"], **settings.get("train", {})}
    for key, value in paper["train"].items():
        if train[key] != value:
            return f"{name} has another {key.replace('_', ' ')}: {train[key]}"
    for key in ("document_masking", "selection", "l2_to_start"):
        if train.get(key):
            return f"{name} trains with {key.replace('_', ' ')}"
    if row["sequence_length"] != paper["sequence_length"]:
        return f"{name} has sequences of {row['sequence_length']} tokens"
    if row["sequences_per_step"] != paper["micro_batch"] * paper["accumulate"] * stated["processes"]:
        return f"{name} has {row['sequences_per_step']} sequences per step"
    if hardware and (
        paper["device"] not in row["device"]
        or row["processes"] != stated["processes"]
        or row["engine"] != paper["engine"]
    ):
        return f"{name} ran on {row['processes']} x {row['device']} with {row['engine']}"
    return ""
