"""`null` removes a key: one that is there. A null for anything else is a slip of the pen."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.test_config import PAPER, ROOT, merged_by_snakemake

from cpt.config import load
from cpt.config_corpora import unused_text
from cpt.errors import UserError

OWN = yaml.safe_load((ROOT / "experiments" / "own.yaml").read_text())


def loaded(*overlays: Any) -> Any:
    """The config with overlays, as rules/common.smk loads it."""
    return load(merged_by_snakemake(*overlays), [PAPER, *overlays])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "runs: {cpt-400m: null}",
            "runs.cpt-400m: there is no 'cpt-400m' to remove; did you mean 'cpt-400M'?",
        ),
        ("runs: {cpt-400m: 'null'}", "runs.cpt-400m: there is no 'cpt-400m' to remove; did you mean"),
        ("corpora: {onw: null}", "corpora.onw: there is no 'onw' to remove; did you mean 'own'?"),
        ("mixtures: {domian: null}", "mixtures.domian: there is no 'domian' to remove; did you mean"),
        ("mixtures: {domain: {onw: null}}", "mixtures.domain.onw: there is no 'onw' to remove; did"),
        ("reference_models: {a: null}", "reference_models.a: there is no 'a' to remove; known: none"),
        ("packing: {seeds: {a: null}}", "packing.seeds.a: there is no 'a' to remove; known: none"),
        ("evaluate: {tasks: {mmul: null}}", "evaluate.tasks.mmul: there is no 'mmul' to remove; did"),
        ("evaluate: {groups: {generl: null}}", "evaluate.groups.generl: there is no 'generl' to remove"),
        ("train: {lerning_rate: }", "train.lerning_rate: unknown key; did you mean 'learning_rate'?"),
        ("train: {lerning_rate: 'null'}", "train.lerning_rate: unknown key; did you mean 'learning_rate'?"),
        ("base: {lable: null}", "base.lable: unknown key; did you mean 'label'?"),
        ("cpus: null", "cpus: unknown key; known: advise, base, "),
        ("runs: {cpt-own: {mixtur: null}}", "runs.cpt-own.mixtur: unknown key; did you mean 'mixture'?"),
        ("runs: {cpt-own: {train: {sede: null}}}", "runs.cpt-own.train.sede: unknown key; did you mean"),
        (
            "runs: {cpt-own: {train: {held_out: {evry: null}}}}",
            "runs.cpt-own.train.held_out.evry: unknown key; did you mean 'every'?",
        ),
        (
            "runs: {cpt-own: {tokens: 500,000, cpus: 2}}",
            "runs.cpt-own.0: unknown key; write numbers without commas, such as 500_000",
        ),
        ("runs: {cpt-own: {'000': ''}}", "runs.cpt-own.000: unknown key; write numbers without commas"),
        ("runs: {cpt-own: {train: {seed: 1,000}}}", "runs.cpt-own.train.0: unknown key; write numbers with"),
        ("mixtures: {domain: {own: 0,5}}", "mixtures.domain.5: there is no '5' to remove; write numbers"),
    ],
)
def test_a_null_for_what_is_not_there_is_refused(text, message):
    with pytest.raises(UserError) as caught:
        loaded(OWN, yaml.safe_load(text))
    assert f"\n  {message}" in str(caught.value)


@pytest.mark.parametrize(
    "overlays",
    [
        ["runs: {cpt-400M: null}", "runs: {cpt-400M: null}"],  # own.yaml has removed both already
        ["runs: {mine: {tokens: 100K, cpus: 2}}", "runs: {mine: null}"],
        ["mixtures: {domain: null, m: {own: 1}}", "mixtures: {domain: {fineweb_edu: null, own: 1}}"],
        ["base: {repo: null, hidden_size: null}"],  # of other sources
        ["train: {decay: null}", "runs: {cpt-own: {mixture: null, train: {decay: null}}}"],
        ["filters: {repetition: {top_ngram_character_share: {2: null, 11: null}}}"],
        ["filters: {repetition: {top_ngram_character_share: {'2': 'null'}}}", "general: 'null'"],
    ],
)
def test_a_null_for_what_is_there_or_may_be_is_fine(overlays):
    loaded(OWN, *map(yaml.safe_load, overlays))


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_experiment_removes_or_has_what_nothing_uses(path: Path):
    overlay = yaml.safe_load(path.read_text())
    assert unused_text(loaded(overlay), [overlay, {}]) == []


def test_text_that_nothing_uses_is_reported_if_the_last_file_has_it():
    extra = {
        "corpora": {"extra": {"source": "local", "files": "nowhere/*"}},
        "mixtures": {"other": {"own": 1}, "domain": {"own": 1}},
    }
    assert unused_text(loaded(OWN, extra), [OWN, extra, {}]) == [
        "corpora.extra: no mixture has it, and nothing else uses it; add it to one, or remove it",
        "mixtures.other: no run trains on it; set `mixture` of one to other, or remove it",
    ]
    later = {"name": "later"}
    assert unused_text(loaded(OWN, extra, later), [OWN, extra, later]) == []
    used = {"evaluate": {"exam": {"corpus": "extra"}}, "runs": {"cpt-own": {"mixture": "other"}}}
    assert unused_text(loaded(OWN, extra, used), [OWN, extra]) == [
        "mixtures.domain: no run trains on it; set `mixture` of one to domain, or remove it"
    ]
