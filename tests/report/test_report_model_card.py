"""Model cards: metadata that the hub reads, scores as they are in scores.csv, and licences."""

import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import ModelCard
from report_experiment import build, write_tables
from report_tasks import TASKS, add_tasks

from cpt.config import Config, load
from cpt.config_sections import HubModel, RandomModel
from cpt.model.gguf_file import write_gguf
from cpt.model.tiny import load_random
from cpt.report.card_facts import licence_file, package_facts
from cpt.report.likelihoods import read_verdicts
from cpt.report.model_card import HUB_LICENSES, evaluation_results, license_fields, model_card
from release import release

SETTINGS = {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.005, "learning_rate": 1e-4, "precision": "bf16"}
SETTINGS |= {"schedule": "cosine", "gradient_clip": 1.0, "seed": 3}
TINY = RandomModel(source="random", hidden_size=32, layers=2, heads=4, context_length=256, seed=0)
REPORT = {"kind": "q8_0", "bytes": 1_500_000, "notes": ["llama.cpp rounds"]}
LOSSES = "kind,megabytes,corpus,bits_per_byte,bits_per_byte_of_model,difference_ci_low,difference_ci_high,"
LOSSES += "documents,groups\n"
LOSSES += "q8_0,1.5,domain,2.00123,2.0,0.0004,0.0021,74,60\nq8_0,1.5,general,3.5,3.50001,,,3,1\n"


@pytest.fixture
def summary(experiment: SimpleNamespace) -> dict:
    run_summary = json.loads((experiment.root / "runs" / "cpt-25K" / "run.json").read_text())
    stages = [{"mixture": "domain", "first_sequence": 0, "sequences": run_summary["sequences"]}]
    return {**run_summary, "settings": SETTINGS, "warmup_steps": 1, "stages": stages}


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
    load_random(TINY).save(model)
    (model / "training_state").mkdir()
    for name in (".snakemake_timestamp", "training_state/optimizer"):
        (model / name).write_text(name)
    gguf, report, losses = tmp_path / "cpt-25K-Q8_0.gguf", tmp_path / "q8_0.json", tmp_path / "losses.csv"
    report.write_text(json.dumps({"types": write_gguf(model, "q8_0", gguf, "cpt-25K")["types"], **REPORT}))
    losses.write_text(LOSSES)
    (tmp_path / "run.json").write_text(json.dumps(summary))
    config.write_text(yaml.safe_dump(configured(experiment).model_dump(mode="json", exclude_none=True)))
    root = experiment.root
    files = (config, root / "models" / "base.json", root / "scores.csv", [tmp_path / "run.json"])
    scored = {"lm_eval": "0.4.13", "task_versions": ["1.0"], "task": "arc_easy"}
    scored["settings"] = {"items": 40, "seed": 0, "add_bos_token": False, "precision": "float32"}
    (tmp_path / "arc_easy.json").write_text(json.dumps(scored))
    more = ([gguf], [report], losses, root / "answers.md", [tmp_path / "arc_easy.json"])
    release("cpt-25K", model, *files, tmp_path / "released", *more)
    files = {path.name for path in (tmp_path / "released").iterdir()}
    kept = {path.name for path in model.iterdir()} - {".snakemake_timestamp", "training_state"}
    assert files == kept | {"README.md", "Modelfile", "cpt-25K-Q8_0.gguf"}
    assert (tmp_path / "released" / gguf.name).samefile(gguf)
    assert (tmp_path / "released" / "Modelfile").read_text().startswith("FROM ./cpt-25K-Q8_0.gguf\n")
    assert (tmp_path / "released" / "model.safetensors").samefile(model / "model.safetensors")

    card = ModelCard.load(tmp_path / "released" / "README.md")
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert card.data.language == ["en"] and card.data.license == "unknown"
    rows = [row for row in experiment.scores if row["run"] == "cpt-25K" and row["task"] != "average"]
    results = {(r.dataset_type, r.dataset_config, r.metric_type): r for r in card.data.eval_results}
    assert len(results) == len(rows) == 7 + 4 + 2  # acc of each task, acc_norm of four, two corpora
    shown = next(row for row in rows if row["task"] == "arc_easy" and row["metric"] == "acc_norm")
    result = results["allenai/ai2_arc", "ARC-Easy", "acc_norm"]
    assert result.metric_value == round(shown["score"], 4)
    assert (result.dataset_name, result.dataset_split) == ("ARC Easy (40 of 2,376 items)", "test")
    subset = {"subset": "random", "items": 40, "items_of_full": 2376, "seed": 0}
    assert result.dataset_args == {"num_few_shot": 0, **subset}
    held_out = results["scientific_python", None, "bits_per_byte"]
    row = next(row for row in rows if row["task"] == "bits_per_byte.scientific_python")
    assert held_out.dataset_args == {"documents": row["n"], "groups": row["groups"]}
    assert (
        f"| scientific_python (domain) | {row['n']} | {row['groups']} | cpt-25K | {row['score']:.3f} |"
        in card.text
    )
    assert f"| scientific_python (domain) | {row['n']} | {row['groups']} | base | " in card.text
    assert "| **Average** of the shown metrics |" in card.text
    assert (
        f"| ARC Easy | acc_norm | 40 of 2,376 | {shown['base_score']:.4f} | {shown['score']:.4f} |"
        in card.text
    )
    assert "Loads in transformers 4.57 and 5, which give the same logits and token ids." in card.text
    bits = "2.0012 (+0.0012; +0.0004 to +0.0021) | 3.5000 (-0.0000)"
    row = f"| `cpt-25K-Q8_0.gguf` | 1.5 | {bits} | 15 Q8_0, 5 F32 |"
    assert "(domain: 74 documents of 60 groups; general: 3 documents of 1 group)" in card.text
    assert row in card.text and "\n\nllama.cpp rounds.\n" in card.text
    verdict = read_verdicts(root / "answers.md")["cpt-25K"]
    assert f"Log-probabilities of the answers, item by item: {verdict}" in card.text
    assert "Zero-shot, compared with the base model on the same items" in card.text
    assert "Only a random subset" in card.text and "25,600 tokens of continued pre-training" in card.text
    assert (
        "Scored with lm-eval 0.4.13 on a fixed random subset of at most 40 items of each task (seed 0), "
        "without BOS, in float32. Versions of the tasks: arc_easy 1.0." in card.text
    )
    assert "| gradient clipping | norm at most 1 |" in card.text
    assert "| seeds | training 3, order of the sequences 0 |" in card.text
    for heading in ("Intended use", "Limitations"):
        assert f"\n\n## {heading}\n\n" in card.text


def test_card_has_scores_of_all_kinds(summary: dict, tmp_path: Path) -> None:
    """With worked examples, perplexities, a metric without a test; wikitext's bits aren't held-out text."""
    parts = build(tmp_path)
    add_tasks(tmp_path, parts, TASKS)
    scores = write_tables(tmp_path, parts, compare=False)
    config = configured(SimpleNamespace(**parts))
    card = ModelCard(model_card("cpt-25K", config, {}, scores, [summary]))
    by_key = {(result.dataset_type, result.metric_type): result for result in card.data.eval_results}
    assert by_key["gsm8k", "exact_match,strict-match"].dataset_args["num_few_shot"] == 5
    assert by_key["wikitext", "bits_per_byte"].dataset_name == "Wikitext (60 of 60 items)"
    lines = {
        line.split("|")[1].strip(): line.split("|")[-3:-1] for line in card.text.splitlines() if "|" in line
    }
    assert [cell.strip() for cell in lines["Wmt"]] == ["", ""]
    assert "to" in lines["Wikitext \N{DOWNWARDS ARROW}"][0]
    for text in (
        "Zero-shot but for worked examples before each question (gsm8k 5), compared",
        "Where items aren't right or wrong, p is that of random sign flips as well.",
        "Without p: the metric is computed from all items at once, and has no test.",
        "\N{DOWNWARDS ARROW}: lower is better.",
    ):
        assert text in card.text


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
        runs={"half": {"merge": {"base": 0.5, "cpt-25K": 1, "chat": -0.5}}},
        reference_models={"chat": {"source": "hub", "repo": "x/chat", "revision": "1", "license": "mit"}},
    )
    base = HubModel(source="hub", repo="facebook/MobileLLM-125M", revision="main")
    config = config.model_copy(update={"base": base})
    report = {"licence": "FAIR Noncommercial Research License; weights derived from it must carry it"}
    card = ModelCard(model_card("half", config, report, [], [summary]))
    assert card.data.base_model == ["facebook/MobileLLM-125M", "x/chat"] and "merge" in card.data.tags
    assert card.data.datasets == ["HuggingFaceFW/fineweb-edu"]
    assert card.data.language == ["de", "en"]
    assert (card.data.license, card.data.license_name) == ("other", "fair-noncommercial-research-license")
    assert (
        "| web | 75 % |" in card.text
        and "| odc-by |" in card.text
        and "| own files | not stated |" in card.text
    )
    assert "secret" not in str(card)
    assert (
        "0.5 times facebook/MobileLLM-125M + 1 times the run cpt-25K - 0.5 times x/chat. 25,600" in card.text
    )
    assert "it was not trained itself" in card.text and "They also derive from x/chat: mit." in card.text


def test_card_names_the_text_of_the_runs_that_a_run_started_from(
    experiment: SimpleNamespace, summary: dict
) -> None:
    begun = {"tokens": 4096, "mixture": "first", "switch": {"mixture": "late", "at": 0.5}}
    runs = {"begun": begun, "then": {"tokens": 25_600, "start_from": "begun"}}
    config = configured(
        experiment,
        corpora={name: {"source": "local", "files": "*.md", "language": name} for name in ("de", "fr")},
        mixtures={"first": {"de": 1.0}, "late": {"fr": 1.0}},
        runs={**runs, "half": {"merge": {"base": 0.5, "then": 0.5}}},
    )
    for name in ("then", "half"):
        summaries = [{**summary, "run": "then"}]
        summaries = [{**summary, "run": "begun", "tokens": 4096}, *summaries] if name == "half" else summaries
        card = ModelCard(model_card(name, config, {}, [], summaries))
        assert card.data.language == ["de", "en", "fr"]
        assert "| de (run begun) (stage first) | 100 % |" in card.text
        assert "| fr (run begun) (stage late) | 100 % |" in card.text
        assert "| scientific_python (run then) | 100 % |" in card.text
        assert "29,696 tokens of continued pre-training" in card.text
        assert ("### begun\n\n| | |" in card.text) == (name == "half")
        start = "the last 25,600 of them from the model of the run begun on."
        assert (start in card.text) == (name == "then")


def test_cloze_is_a_metric_of_the_data_set_that_it_scores() -> None:
    """The hub merges results of the same data set, configuration and split under the first one's name."""
    row = {"items_of_full": 14042, "n": 14042, "score": 0.25, "shots": 0, "groups": None}
    rows = [{**row, "task": "mmlu", "metric": "acc"}, {**row, "task": "own", "metric": "acc"}]
    rows += [{**row, "task": "mmlu_continuation", "metric": metric} for metric in ("acc", "acc_norm")]
    letters, own, *cloze = evaluation_results(rows, {"mmlu": "MMLU"}, 0)
    assert (own.dataset_type, own.dataset_config, own.dataset_split) == ("own", None, None)
    assert {result.unique_identifier for result in cloze} == {letters.unique_identifier}
    assert (letters.dataset_type, letters.dataset_config) == ("cais/mmlu", "all")
    assert letters.dataset_args == {"num_few_shot": 0}  # all items
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


def test_card_says_what_the_base_model_is(experiment: SimpleNamespace, summary: dict) -> None:
    config = configured(experiment, release={"code": "https://example.org/workflow"})
    origin = {"git_commit": "abc", "versions": {"torch": "2", "numpy": "3"}}
    report = {"weights_were": ["F32", "Q4_1", "Q8_0"], "chat_templates": ["default"], "licence": "apache-2.0"}
    card = ModelCard(model_card("cpt-25K", config, report, [], [{**summary, "provenance": origin}]))
    for text in (
        "The base model, HuggingFaceTB/SmolLM2-135M-Instruct, is dequantised from a 4-bit GGUF file of an "
        "instruction-tuned model. Its weights were stored as Q4_1, Q8_0, so they differ",
        "no tuning to follow instructions came after this training",
        "Differences are from the base model's dequantised weights",
        "| code | commit `abc` of https://example.org/workflow |",
        "Its text isn't beside this card: put it there as `LICENSE`",
    ):
        assert text in card.text
    plain = ModelCard(
        model_card("cpt-25K", config, {"weights_were": ["F16"]}, [], [summary], (), "", (), "L")
    )
    assert "dequantised" not in plain.text and "has no chat template" in plain.text
    assert "Its text is in the file `L` beside this card." not in plain.text  # without a licence


def test_packages_have_the_licences_that_their_metadata_state(
    experiment: SimpleNamespace, summary: dict
) -> None:
    assert package_facts("sklearn") == (f"scikit-learn {version('scikit-learn')}", "BSD-3-Clause")
    assert package_facts("matplotlib")[1] == "Python Software Foundation License"
    assert package_facts("no_such_package") == ("no_such_package (not installed here)", "not stated")
    assert package_facts("python")[1] == "PSF-2.0"
    card = model_card("cpt-25K", configured(experiment), {}, [], [summary])
    assert f"| matplotlib {version('matplotlib')} | Python Software Foundation License |" in card
    assert "BSD kind" not in card and f"documentation of numpy {version('numpy')}, " in card


def test_licence_is_the_base_models_file_or_apaches_text(tmp_path: Path) -> None:
    assert licence_file("mit", tmp_path) is None and not list(tmp_path.iterdir())
    assert licence_file("apache-2.0", tmp_path) == "LICENSE"
    assert "Version 2.0, January 2004" in (tmp_path / "LICENSE").read_text()
    (tmp_path / "LICENSE").rename(tmp_path / "License.md")
    assert licence_file("mit", tmp_path) == "License.md"
