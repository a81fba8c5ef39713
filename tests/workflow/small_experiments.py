"""Experiments at smoke size: text, model and budgets are small, an overlay's own question stays."""

from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from tests.test_config import merged

from cpt.config import Config, load
from cpt.config_values import parse_count

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "results/small"  # of all experiments: a job that two of them share runs once
TEXT = "text"  # the folder with the corpora's files
OWN_TEXT = "own"  # the overlay of a user's files; tests/workflow/test_workflow_own.py writes them
NOT_SMALL = ("demo", "smoke", OWN_TEXT)  # overlays that have tests of their own
TASKS = ("arc_easy", "piqa")  # one of each group of Figure 2
SEQUENCE_LENGTH = 256
SHRINK = 400_000_000 // 32_768  # divides the training tokens; the paper's smaller run has 16 steps
SMALL_BUDGET = 1_000_000  # tokens; budgets up to this are capped, not divided
MOST_TOKENS = 40_960  # the cap, in tokens
# Corpus settings that stay, and training settings that only set the size.
KEPT = ("text_column", "where", "license", "language", "conversations", "held_out_share")
SIZES = ("micro_batch", "accumulate", "global_batch", "engine", "offload", "precision")
SIZES += ("checkpoint_every", "held_out")

DOCUMENTS = 400
SCORES = (2.6, 2.8, 3.0, 3.2, 3.4, 3.6, 3.8, 4.2)  # FineWeb-Edu's column; one document of eight has 4 or more


def overlay(name: str) -> dict[str, Any]:
    """An overlay by its name; `paper` is config.yaml without any."""
    path = ROOT / "experiments" / f"{name}.yaml"
    return {} if name == "paper" else yaml.safe_load(path.read_text())


def names() -> list[str]:
    """The paper's experiment and all overlays; overlays with the same data are neighbours."""

    def data(name: str) -> tuple[list[str], str]:
        config = load(merged(overlay(name)))
        return config.used_corpora, str([config.corpora[corpus] for corpus in config.used_corpora])

    overlays = {path.stem for path in (ROOT / "experiments").glob("*.yaml")} - set(NOT_SMALL)
    return sorted({"paper", *overlays}, key=lambda name: (*data(name), name))


def _replacement(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new section, with a null for each key of the old one, so that a merge keeps none of them."""
    return {**dict.fromkeys(old), **new}


def _tokens(budget: Any) -> int:
    """A small budget, in whole steps."""
    step = SEQUENCE_LENGTH * overlay("smoke")["train"]["global_batch"]
    tokens = parse_count(budget)
    small = tokens / SHRINK if tokens > SMALL_BUDGET else min(tokens, MOST_TOKENS)
    return step * max(1, round(small / step))


def _kept(settings: dict[str, Any]) -> dict[str, Any]:
    """The states that a run keeps and the one it starts from, with small token counts."""
    states = {"keep_every": _tokens(settings["keep_every"])} if "keep_every" in settings else {}
    trunk, _, point = settings.get("start_from", "").partition("@")
    return states | ({"start_from": f"{trunk}@{_tokens(point)}"} if point else {})


def small_overlay(name: str) -> dict[str, Any]:
    """An overlay over an experiment's own: each corpus a file in `TEXT`, the smoke experiment's model."""
    smoke, config = overlay("smoke"), merged(overlay(name))
    corpora, runs = config["corpora"], config["runs"]
    return {
        "results": RESULTS,
        "base": _replacement(config["base"], smoke["base"]),
        "reference_models": {
            name: _replacement(source, {**smoke["base"], "seed": number})
            for number, (name, source) in enumerate(config.get("reference_models", {}).items(), start=1)
        },
        "corpora": {
            corpus: _replacement(settings, {key: settings[key] for key in KEPT if key in settings})
            | {"source": "local", "files": f"{TEXT}/{corpus}.parquet", "shards": 1}
            for corpus, settings in corpora.items()
            if settings
        },
        "held_out": smoke["held_out"],
        "filters": smoke["filters"],
        "packing": {"sequence_length": SEQUENCE_LENGTH},
        "train": {key: smoke["train"][key] for key in SIZES},
        "runs": {
            run: {"tokens": _tokens(settings["tokens"]), "gpus": None, "nodes": None, "cpus": 1}
            | _kept(settings)
            for run, settings in runs.items()
            if settings and "tokens" in settings
        },
        "evaluate": {
            "tasks": {task: None for task in config["evaluate"]["tasks"] if task not in TASKS},
            "groups": {
                group: [task for task in tasks if task in TASKS]
                for group, tasks in config["evaluate"]["groups"].items()
            },
            "items": 4,
            "exam": None,
            **{
                key: smoke["evaluate"][key]
                for key in ("benchmarks", "batch_tokens", "batch_size", "held_out_tokens")
            },
        },
    }


def small_config(name: str) -> Config:
    """The validated config of an experiment at smoke size."""
    return load(merged(overlay(name), small_overlay(name)))


def write_text(folder: Path) -> None:
    """Write a file for each corpus of all experiments: documents, or questions and answers, of made-up words
    in the corpus's own alphabet."""
    folder.mkdir()
    sources = {corpus: source for name in names() for corpus, source in small_config(name).corpora.items()}
    for corpus, source in sorted(sources.items()):
        chance = Random(corpus)
        letters = chance.sample(ascii_lowercase, 12)
        words = ["".join(chance.choices(letters, k=chance.randint(3, 8))) for _ in range(500)]
        documents = [
            {
                "id": f"{corpus}-{number}",
                "url": f"https://example.org/{corpus}/{number}",
                "text": "\n".join(" ".join(chance.choices(words, k=12)) for _ in range(4)),
                "score": SCORES[number % len(SCORES)],
            }
            for number in range(DOCUMENTS)
        ]
        if source.conversations:
            lines = [document["text"].splitlines() for document in documents]
            turns = [("user", 0), ("assistant", 1)]
            documents = [
                {"messages": [{"role": role, "content": text[line]} for role, line in turns]}
                for text in lines
            ]
        pq.write_table(pa.Table.from_pylist(documents), folder / f"{corpus}.parquet")
