"""Model cards: metadata that the hub reads, scores as they are in scores.csv, and licences."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import ModelCard

from cpt.config import Config, load
from cpt.config_sections import HubModel
from cpt.report.model_card import HUB_LICENSES, evaluation_results, license_fields, model_card
from release import release

SETTINGS = {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.005, "learning_rate": 1e-4, "precision": "bf16"}
SETTINGS |= {"schedule": "cosine"}


@pytest.fixture
def summary(experiment: SimpleNamespace) -> dict:
    found = json.loads((experiment.root / "runs" / "cpt-25K" / "run.json").read_text())
    stages = [{"mixture": "domain", "first_sequence": 0, "sequences": found["sequences"]}]
    return {**found, "settings": SETTINGS, "warmup_steps": 1, "stages": stages}


def configured(experiment: SimpleNamespace, **sections: dict) -> Config:
    """The experiment's config with further entries in some sections."""
    config = {
        key: {**value, **sections.get(key, {})} if isinstance(value, dict) else value
        for key, value in experiment.config.items()
    }
    config["runs"] = {
        name: {**run, "cpus": 1} if "tokens" in run else run for name, run in config["runs"].items()
    }
    return load(config)


def test_released_folder_is_the_model_and_a_card_that_the_hub_reads(
    experiment: SimpleNamespace, summary: dict, tmp_path: Path
) -> None:
    model, config = tmp_path / "model", tmp_path / "config.yaml"
    (model / "training_state").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", ".snakemake_timestamp", "training_state/optimizer"):
        (model / name).write_text(name)
    (tmp_path / "run.json").write_text(json.dumps(summary))
    config.write_text(yaml.safe_dump(configured(experiment).model_dump(mode="json", exclude_none=True)))
    root = experiment.root
    files = (config, root / "models" / "base.json", root / "scores.csv", tmp_path / "run.json")
    release("cpt-25K", model, *files, tmp_path / "released")
    files = {path.name for path in (tmp_path / "released").iterdir()}
    assert files == {"config.json", "model.safetensors", "README.md"}
    assert (tmp_path / "released" / "model.safetensors").samefile(model / "model.safetensors")

    card = ModelCard.load(tmp_path / "released" / "README.md")
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert card.data.language == ["en"] and card.data.license == "unknown"
    rows = [row for row in experiment.scores if row["run"] == "cpt-25K" and row["task"] != "average"]
    in_card = {(r.dataset_type, r.dataset_config, r.metric_type): r for r in card.data.eval_results}
    assert len(in_card) == len(rows) == 7 + 4 + 2  # acc of each task, acc_norm of four, two corpora
    shown = next(row for row in rows if row["task"] == "arc_easy" and row["metric"] == "acc_norm")
    result = in_card["allenai/ai2_arc", "ARC-Easy", "acc_norm"]
    assert result.metric_value == round(shown["score"], 4)
    assert (result.dataset_name, result.dataset_split) == ("ARC Easy (40 of 2,376 items)", "test")
    assert "| **Average** of the shown metrics |" in card.text
    assert (
        f"| ARC Easy | acc_norm | 40 of 2,376 | {shown['base_score']:.4f} | {shown['score']:.4f} |"
        in card.text
    )
    assert "Only a random subset" in card.text and "25,600 tokens of continued pre-training" in card.text


def test_card_of_the_papers_model_names_repositories_and_licences(
    experiment: SimpleNamespace, summary: dict
) -> None:
    web = {"source": "hub", "repo": "HuggingFaceFW/fineweb-edu", "revision": "87f0", "files": "*.parquet"}
    web |= {"shards": 1, "license": "odc-by", "language": "en"}
    mine = {"source": "local", "files": "/home/me/secret/*.txt", "language": "de"}
    config = configured(
        experiment,
        corpora={"web": web, "mine": mine},
        mixtures={"domain": {"web": 0.75, "mine": 0.25}},
        runs={"half": {"interpolate": {"run": "cpt-25K", "ratio": 0.5}}},
    )
    base = HubModel(source="hub", repo="facebook/MobileLLM-125M", revision="main")
    config = config.model_copy(update={"base": base})
    report = {"licence": "FAIR Noncommercial Research License; weights derived from it must carry it"}
    card = ModelCard(model_card("half", config, report, [], summary))
    assert (card.data.base_model, card.data.datasets) == (
        "facebook/MobileLLM-125M",
        ["HuggingFaceFW/fineweb-edu"],
    )
    assert card.data.language == ["de", "en"]
    assert (card.data.license, card.data.license_name) == ("other", "fair-noncommercial-research-license")
    assert (
        "| web | 75 % |" in card.text
        and "| odc-by |" in card.text
        and "| own files | not stated |" in card.text
    )
    assert "secret" not in str(card)
    assert "It was not trained itself" in card.text


def test_card_names_the_text_of_the_runs_that_a_run_started_from(
    experiment: SimpleNamespace, summary: dict
) -> None:
    begun = {"tokens": 4096, "mixture": "first", "switch": {"mixture": "late", "at": 0.5}}
    runs = {"begun": begun, "then": {"tokens": 25_600, "start_from": "begun"}}
    config = configured(
        experiment,
        corpora={name: {"source": "local", "files": "*.md", "language": name} for name in ("de", "fr")},
        mixtures={"first": {"de": 1.0}, "late": {"fr": 1.0}},
        runs={**runs, "half": {"interpolate": {"run": "then", "ratio": 0.5}}},
    )
    for name in ("then", "half"):
        card = ModelCard(model_card(name, config, {}, [], summary))
        assert card.data.language == ["de", "en", "fr"]
        assert "| de (run begun) (stage first) | 100 % |" in card.text
        assert "| fr (run begun) (stage late) | 100 % |" in card.text
        assert "| scientific_python (run then) | 100 % |" in card.text
        assert "after 29,696 tokens of continued pre-training" in card.text
        start = "the last 25,600 of them from the model of the run begun on."
        assert (start in card.text) == (name == "then")


def test_cloze_is_a_metric_of_the_data_set_that_it_scores() -> None:
    """The hub merges what has the same data set, configuration and split, below the first one's name."""
    row = {"items_of_full": 14042, "n": 14042, "score": 0.25}
    rows = [{**row, "task": "mmlu", "metric": "acc"}, {**row, "task": "own", "metric": "acc"}]
    rows += [{**row, "task": "mmlu_continuation", "metric": metric} for metric in ("acc", "acc_norm")]
    letters, own, *cloze = evaluation_results(rows, {"mmlu": "MMLU"})
    assert (own.dataset_type, own.dataset_config, own.dataset_split) == ("own", None, None)
    assert {result.unique_identifier for result in cloze} == {letters.unique_identifier}
    assert (letters.dataset_type, letters.dataset_config) == ("cais/mmlu", "all")
    assert [result.metric_name for result in (letters, *cloze)] == [
        "accuracy",
        "accuracy (cloze)",
        "accuracy, log-likelihoods divided by length (cloze)",
    ]


@pytest.mark.parametrize(
    ("stated", "fields"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        (None, {"license": "unknown"}),
        (
            "Our licence",
            {"license": "other", "license_name": "our-licence", "license_link": "https://huggingface.co/a/b"},
        ),
    ],
)
def test_licence_is_an_identifier_of_the_hub(stated: str | None, fields: dict) -> None:
    assert license_fields(stated, "a/b") == fields
    assert fields["license"] in HUB_LICENSES
