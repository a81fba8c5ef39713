"""Single values of the config: paths, and values that YAML reads as something else."""

import math
from datetime import date

import pytest
import yaml
from tests.test_config import merged, problem

from cpt.config import load


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~/mine", "{home}/mine"),
        ("results/own/", "results/own"),
        ("./results//own", "results/own"),
        ("/data/./own", "/data/own"),
    ],
)
def test_the_folder_of_results_has_one_form(given, meant, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(merged({"results": given})).results == meant.format(home=tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("s3://x", "results: s3://x is an address; name a folder on this disk, such as results/own"),
        (
            "results/{x}",
            "results: results/{x} has braces, which Snakemake reads as wildcards; leave them out",
        ),
        ("", "results: expected a path without blanks at its ends or line breaks, but '' was given"),
        (" ", "results: expected a path without blanks at its ends or line breaks, but ' ' was given"),
        ("results/own ", "results: expected a path without blanks at its ends or line breaks"),
        ("a\nb", "results: expected a path without blanks at its ends or line breaks"),
        (".", "results: . can't hold outputs alone; name a folder of its own, such as results/own"),
        ("../..", "results: ../.. can't hold outputs alone; name a folder of its own"),
        ("~nobody-here/x", "results: ~nobody-here/x: there is no such user; write the path of the folder"),
        (__file__, f"results: {__file__} is no folder; name one, such as results/own, or move the file"),
        (f"{__file__}/x", f"results: {__file__} is no folder; name one"),
        (5, "results: input should be a valid string, but 5 was given; put it in quotes"),
    ],
)
def test_what_can_be_no_folder_of_results(given, message):
    assert message in problem({"results": given})


def test_other_paths_may_begin_at_home_too(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load(
        merged(
            {
                "base": {"source": "local", "path": "~/base", "repo": None, "revision": None},
                "classifier": {"source": "local", "path": "~/scores", "repo": None, "revision": None},
                "corpora": {"own": {"source": "local", "files": ["~/a/*.md", "https://x.org/~a/b.md"]}},
                "chat": {"prompts": "~/prompts.txt"},
                "evaluate": {"include_path": "~/tasks"},
                "release": {"compare_to": "~/first"},
            }
        )
    )
    home = str(tmp_path)
    assert (config.base.path, config.classifier.path) == (f"{home}/base", f"{home}/scores")
    assert config.corpora["own"].files == [f"{home}/a/*.md", "https://x.org/~a/b.md"]
    assert (config.chat.prompts, config.evaluate.include_path) == (f"{home}/prompts.txt", f"{home}/tasks")
    assert config.release.compare_to == f"{home}/first"
    for files in ("", ["a", " b"]):
        corpus = {"corpora": {"own": {"source": "local", "files": files}}}
        assert "expected a path without blanks at its ends or line breaks" in problem(corpus)


def test_a_corpus_has_files():
    message = problem({"corpora": {"own": {"source": "local", "files": []}}})
    assert "corpora.own.files: empty; name files or patterns, such as data/own/**/*" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {micro_batch: yes}", "train.micro_batch: input should be a valid integer or 'auto', but 't"),
        ("train: {zero_stage: on}", "train.zero_stage: input should be 0, 1, 2 or 3, but 'true' was given"),
        ("train: {seed: yes}", "train.seed: input should be a valid integer, but 'true' was given"),
        ("runs: {cpt-1B: {train: {warmup: no}}}", "runs.cpt-1B.train.warmup: input should be a valid number"),
        ("mixtures: {domain: {fineweb_edu: yes}}", "mixtures.domain.fineweb_edu: input should be a valid nu"),
        ("train: {learning_rate: .inf}", "train.learning_rate: input should be a finite number, but inf was"),
        ("train: {weight_decay: .inf}", "train.weight_decay: input should be a finite number"),
        ("runs: {cpt-1B: {train: {epsilon: .inf}}}", "runs.cpt-1B.train.epsilon: input should be a finite"),
        ("evaluate: {items: 0}", "evaluate.items: input should be greater than 0, but 0 was given"),
        ("evaluate: {tasks: {mmlu: {items: 0}}}", "evaluate.tasks.mmlu.items: input should be greater than"),
        ("held_out: {share: 1}", "held_out.share: 1 keeps all of fineweb_edu out of training, but run cpt-4"),
        (
            "corpora: {fineweb_edu: {held_out_share: 1}}",
            "corpora.fineweb_edu.held_out_share: 1 keeps all of fineweb_edu out of training, but run cpt-400M"
            " trains on it; lower the share, or take fineweb_edu out of mixtures.domain",
        ),
        ("packing: {seed: 36893488147419103232}", "packing.seed: expected a seed below 2**63, but 368934881"),
        ("packing: {seeds: {domain: -1}}", "packing.seeds.domain: input should be greater than or equal to"),
        ("train: {seed: 9223372036854775808}", "train.seed: expected a seed below 2**63"),
        (
            "runs: {cpt-1B: {tokens: 99999999999999999999T}}",
            "runs.cpt-1B.tokens: expected a count of at most 1_000_000T, but '99999999999999999999T' was",
        ),
        ("runs: {cpt-1B: {tokens: 100k}}", "2_000, but '100k' was given; write 100K"),
        ("runs: {cpt-1B: {tokens: '500,000'}}", "2_000, but '500,000' was given; write 500_000"),
    ],
)
def test_values_that_mean_something_else_to_yaml_or_python(text, message):
    assert message in problem(yaml.safe_load(text))


def test_a_decimal_comma_is_not_read_as_one_between_thousands():
    assert problem({"runs": {"cpt-1B": {"tokens": "1,5B"}}}).endswith("but '1,5B' was given")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: {revision: 0.9}", "base.revision: input should be a valid string, but 0.9 was given; put it"),
        ("corpora: {fineweb_edu: {language: no}}", "language: input should be a valid string, but False was"),
        ("name: 2026-11-30", "name: input should be a valid string, but 2026-11-30 was given; put it in quo"),
        ("runs: {2026-11-30: {tokens: 100M, gpus: 1}}", "runs.2026-11-30: input should be a valid string, b"),
        ("runs: {400: {tokens: 100M, gpus: 1}}", "but 400 was given; put it in quotes"),
        (
            "runs: {my run: {tokens: 100M, gpus: 1}}",
            "runs.my run: expected a name of letters, digits, . _ - that begins with a letter or digit, but "
            "'my run' was given",
        ),
        (
            "evaluate: {revisions: {a/b: main}}",
            "evaluate.revisions.a/b: expected 40 hex digits (0-9, a-f), b",
        ),
    ],
)
def test_texts_that_yaml_reads_as_something_else_or_have_other_characters(text, message):
    assert message in problem(yaml.safe_load(text))


def test_a_release_may_be_called_by_a_date():
    day = date(2026, 11, 30)
    for release in ({"name": day}, "2026-11-30", day):
        assert load(merged({"release": release})).release.name == "2026-11-30"
    assert load(merged({"release": {"compare_to": day}})).release.compare_to == "2026-11-30"


def test_numbers_that_are_not_finite_are_refused_in_lists_and_mappings_too():
    assert "mixtures.domain.fineweb_edu: input should be a finite number" in problem(
        {"mixtures": {"domain": {"fineweb_edu": math.inf}}}
    )
    corpus = {"where": {"score": {"maximum": math.inf}}}
    message = problem({"corpora": {"fineweb_edu": corpus}})
    assert "corpora.fineweb_edu.where.score.maximum: input should be a finite number" in message
