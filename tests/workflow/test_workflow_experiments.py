"""Every experiment at smoke size, from raw text to Table 1, and whether its settings took effect."""

import csv
import json
import re
from typing import Any

import pytest
import yaml
from project_copy import Project
from safetensors.torch import load_file
from small_experiments import (
    RESULTS,
    ROOT,
    TEXT,
    names,
    overlay,
    small_config,
    small_overlay,
    write_text,
)
from tests.test_config import merged

from cpt.config import Config
from cpt.config_robustness import grid_of


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Project:
    """A copy of the project with the text of all experiments in it."""
    project = Project(tmp_path_factory.mktemp("experiments") / "copy")
    write_text(project.folder / TEXT)
    return project


class Finished:
    """The results of an experiment."""

    def __init__(self, project: Project, name: str, config: Config):
        self.project, self.name, self.config = project, name, config
        self.folder = project.folder / RESULTS

    def rows(self, path: str) -> list[dict[str, str]]:
        """The rows of a table."""
        with open(self.folder / path, newline="") as file:
            return list(csv.DictReader(file))

    def json(self, path: str) -> Any:
        """A JSON file."""
        return json.loads((self.folder / path).read_text())

    def column(self, run: str, name: str) -> list[float]:
        """A column of a run's metrics, one number for each step."""
        return [float(row[name]) for row in self.rows(f"runs/{run}/metrics.csv")]

    def plan(self, run: str) -> dict[str, Any]:
        """A run's plan."""
        return self.json(f"runs/{run}/plan.json")

    def bits(self, run: str, corpus: str) -> float:
        """Bits per byte of held-out text."""
        return self.json(f"evaluations/{run}/bits_per_byte.{corpus}.json")["bits_per_byte"]

    def weights(self, run: str) -> dict[str, Any]:
        """A model's tensors."""
        return load_file(self.folder / "models" / run / "model.safetensors")

    def distance(self, run: str) -> float:
        """The squared distance of a run's weights from those of the base model."""
        base, weights = self.weights("base"), self.weights(run)
        return sum(float((weights[key].double() - base[key].double()).square().sum()) for key in base)

    def require_shares(self, mixture: str) -> None:
        """Assert that the mixture's corpora have the shares in the config."""
        ledger = self.json(f"packed/{mixture}/ledger.json")
        for corpus, share in self.config.mixtures[mixture].items():
            used = ledger["sources"][corpus]["sequences_used"]
            assert used > 0 and abs(used - share * ledger["sequences"]) <= 1

    def require_prefixes(self, runs: list[str]) -> None:
        """Assert that the runs see the same sequences in the same order, from the first one on."""
        stages = [self.plan(run)["stages"][0] for run in runs]
        assert len({stage["sequences_sha256"] for stage in stages}) == 1
        assert not any(stage["first_sequence"] for stage in stages)
        assert len({self.column(run, "loss")[0] for run in runs}) == 1


# ------------------------------------------------------------------------- what each experiment is about
def check_paper(finished: Finished) -> None:
    finished.require_prefixes(["cpt-400M", "cpt-1B"])
    assert 5 * finished.plan("cpt-400M")["tokens"] == 2 * finished.plan("cpt-1B")["tokens"]


def check_larger(finished: Finished) -> None:
    """Only the model differs from the paper's experiment."""
    paper, larger = merged(), merged(overlay("larger"))
    assert {key for key in paper if paper[key] != larger[key]} == {"name", "results", "base"}
    options = ("--configfile", "experiments/larger.yaml", "--quiet", "all")
    finished.project.snakemake("results/larger/plan.md", *options)
    page = (finished.project.folder / "results" / "larger" / "plan.md").read_text()
    assert "Base model: facebook/MobileLLM-350M" in page


def check_replay(finished: Finished) -> None:
    for mixture in ("replay-1", "replay-5", "replay-25"):
        finished.require_shares(mixture)
    assert finished.bits("replay-25", "fineweb") < finished.bits("cpt-400M", "fineweb")


def check_schedules(finished: Finished) -> None:
    cosine, infinite, stable, linear = (
        finished.column(f"{run}-400M", "learning_rate") for run in ("cpt", "infinite", "stable", "linear")
    )
    assert linear[1:] == pytest.approx([1e-4, *(1e-4 * (1 - step / 14) for step in range(14))])
    assert cosine[:2] == [5e-5, 1e-4] and cosine[1:] == sorted(cosine[1:], reverse=True)
    assert infinite.count(5e-5) > 4 and 5e-6 < infinite[-1] < 5e-5
    assert stable.count(1e-4) > 8 and 0 < stable[-1] < stable[-2] < 1e-4


def check_blend(finished: Finished) -> None:
    stages = finished.plan("blend")["stages"]
    assert [stage["mixture"] for stage in stages] == ["replay-25", "domain"]
    assert [stage["sequences"] for stage in stages] == [96, 32]  # 0.73 of 16 steps of 8 sequences: 12
    assert finished.json("runs/blend/run.json")["stages"] == stages
    assert finished.column("blend", "loss")[:12] == finished.column("replay-25", "loss")[:12]


def check_continue(finished: Finished) -> None:
    first, then = finished.plan("first-400M"), finished.plan("then-600M")
    assert (first["continues"], then["continues"]) == (None, "first-400M")
    assert then["stages"][0]["first_sequence"] == first["sequences"]
    assert (finished.folder / "models" / "first-400M" / "training_state" / "optimizer.safetensors").is_file()
    rates = finished.column("first-400M", "learning_rate") + finished.column("then-600M", "learning_rate")
    assert rates[7:37] == [5e-5] * 30 and 5e-6 < rates[-1] < rates[-2] < 5e-5


def check_branches(finished: Finished) -> None:
    trunk, kept = finished.plan("trunk"), {str(step * 2048): step for step in (8, 16, 24, 32)}
    assert trunk["kept"] == kept and trunk["steps"] == 40
    begins = {
        run: finished.plan(run)["stages"][0]["first_sequence"] for run in ("at-220M", "at-440M", "at-1060M")
    }
    assert begins == {"at-220M": 64, "at-440M": 128, "at-1060M": 320}
    for run in begins:
        rates = finished.column(run, "learning_rate")
        assert rates[0] == 1e-4 and rates == sorted(rates, reverse=True)
    states = [f"trunk/training_state/at-{tokens}" for tokens in (49152, 65536)]
    one, two, end, mean = (finished.weights(model) for model in (*states, "trunk", "last-3"))
    for name, tensor in mean.items():
        assert tensor.sub((one[name] + two[name] + end[name]) / 3).abs().max() < 1e-6
    choice = finished.json("merges/soup.greedy.json")
    alone = {tried["models"][0]: tried["loss"] for tried in choice["tried"] if len(tried["models"]) == 1}
    assert choice["chosen"][0] == min(alone, key=alone.get) and set(alone) == set(begins)
    assert list(finished.json("models/soup.json")["coefficients"]) == choice["chosen"]
    assert finished.bits("soup", "fineweb_edu") == pytest.approx(
        min(tried["loss"] for tried in choice["tried"])
    )
    notes = (finished.folder / "table1.md").read_text()
    assert f"(soup): {'the mean of ' if choice['chosen'][1:] else ''}{', '.join(choice['chosen'])}" in notes
    assert "(last-3): 0.333 trunk + 0.333 trunk@65536 + 0.333 trunk@49152, a sum of models" in notes


def check_interpolation(finished: Finished) -> None:
    base, run, middle = (finished.weights(model) for model in ("base", "cpt-1B", "at-50"))
    for name, tensor in middle.items():
        assert tensor.sub((base[name] + run[name]) / 2).abs().max() < 1e-6
    bits = [finished.bits(model, "fineweb_edu") for model in finished.config.runs]
    assert bits == sorted(bits, reverse=True) and len(set(bits)) == 5


def check_merge(finished: Finished) -> None:
    base, run, instruct, chat = (
        finished.weights(name) for name in ("base", "cpt-400M", "instruct", "chat-50")
    )
    for name, tensor in chat.items():
        expected = run[name].double() + 0.5 * instruct[name].double() - 0.5 * base[name].double()
        assert tensor.sub(expected.float()).abs().max() < 1e-6
    report = finished.json("models/chat-50.json")
    assert report["coefficients"] == {"cpt-400M": 1, "instruct": 0.5, "base": -0.5}


def check_finetune(finished: Finished) -> None:
    """Fine-tuning lowers the loss on held-out answers, and starts where the run before it ended."""
    assert finished.plan("chat")["stages"][0]["mixture"] == "chat"
    assert finished.bits("cpt-then-chat", "chat") < finished.bits("cpt-41K", "chat")
    assert finished.bits("chat", "chat") < finished.bits("base", "chat")


def check_chat_replay(finished: Finished) -> None:
    for mixture in ("chat-2", "chat-10"):
        finished.require_shares(mixture)
    assert finished.bits("chat-10-41K", "chat") < finished.bits("cpt-41K", "chat")


def check_selective(finished: Finished) -> None:
    assert finished.plan("reference")["stages"][0]["mixture"] == "best"
    reference = finished.json("reference_losses/domain/reference/sequences/reference.json")
    assert reference["sequences_sha256"] == finished.plan("selective")["stages"][0]["sequences_sha256"]
    losses, selected = (finished.column("selective", name) for name in ("loss", "selected_loss"))
    assert all(loss != selected_loss for loss, selected_loss in zip(losses, selected, strict=True))
    assert not any(row["selected_loss"] for row in finished.rows("runs/cpt-400M/metrics.csv"))


def check_l2(finished: Finished) -> None:
    runs = ["cpt-400M", "l2-1e-4", "l2-1e-3", "l2-1e-2"]
    coefficients = [finished.json(f"runs/{run}/run.json")["settings"]["l2_to_start"] for run in runs]
    assert coefficients == [0, 1e-4, 1e-3, 1e-2]
    distances = [finished.distance(run) for run in runs]
    assert len(set(distances)) == 4 and distances[-1] == min(distances)


def check_quality(finished: Finished) -> None:
    source = finished.json("packed/domain/ledger.json")["sources"]["fineweb_edu"]
    assert 0 < source["documents"] <= 50  # those with a score of 4 or more
    assert source["sequences_available"] < finished.plan("best-400M")["sequences"]  # more than one epoch
    dropped = {
        row["rule"]: row["documents"] for row in finished.rows("corpora/fineweb_edu/filtered/00000.drops.csv")
    }
    assert dropped["where_score"] == "350"


def check_seeds(finished: Finished) -> None:
    rows = finished.rows("seeds.csv")
    assert {(row["run"], row["runs"]) for row in rows} == {("cpt-400M", "3")}
    mixtures = ["domain", "domain-2", "domain-3"]
    assert [finished.json(f"packed/{mixture}/ledger.json")["seed"] for mixture in mixtures] == [0, 1, 2]
    runs = ["cpt-400M", "second-400M", "third-400M"]
    assert len({finished.column(run, "loss")[0] for run in runs}) == 3


def check_robustness(finished: Finished) -> None:
    record = finished.json("preregistration.json")
    assert record["runs_with_results"] == []
    assert sorted(record["plan"]["runs"]) == sorted(finished.config.trained_runs)
    assert (finished.folder / "figures" / "robustness.svg").stat().st_size > 1000
    losses = {run: finished.column(run, "loss")[-1] for run in finished.config.trained_runs}
    assert len(set(losses.values())) == 9  # both the order and the learning rate have an effect


def check_scaling(finished: Finished) -> None:
    runs = finished.config.trained_runs
    finished.require_prefixes(runs)
    steps = [finished.plan(run)["steps"] for run in runs]
    assert steps == [2, 4, 8, 16, 40]
    bits = [finished.bits(run, "fineweb_edu") for run in ("base", *runs)]
    assert bits == sorted(bits, reverse=True)


def check_domains(finished: Finished) -> None:
    for mixture in ("domain", "mathematics", "both"):
        finished.require_shares(mixture)
    own, other = (
        [finished.bits(f"{run}-400M", corpus) for run in ("cpt", "both", "mathematics")]
        for corpus in ("fineweb_edu", "open_web_math")
    )
    assert own == sorted(own) and other == sorted(other, reverse=True)


def check_openstax(finished: Finished) -> None:
    orders = {}
    for run in ("domain-1", "domain-2", "replay-1", "replay-2"):
        finished.require_shares(run)
        (stage,) = finished.plan(run)["stages"]
        assert stage["mixture"] == run
        orders[run] = stage["sequences_sha256"]
    assert len(set(orders.values())) == 4
    registered = finished.json("preregistration.json")
    assert registered["runs_with_results"] == [] and "snakemake advise" in registered["plan"]["prediction"]


# ------------------------------------------------------------------------------------------------ tests
def run(project: Project, name: str, *overlays: str) -> Finished:
    """Run a small experiment to its tables, and check what holds for every experiment."""
    config = small_config(name)
    (project.folder / "small.yaml").write_text(yaml.safe_dump(small_overlay(name)))
    targets = ["table1.csv", "data.csv", "figures/figure3.svg", *(["seeds.csv"] if config.replicates else [])]
    targets += ["figures/robustness.svg"] if grid_of(config) else []
    project.snakemake(
        *(f"{RESULTS}/{target}" for target in targets),
        "--configfile",
        *overlays,
        "small.yaml",
        "--cores",
        "1",
        "--rerun-incomplete",
        "--quiet",
        "all",
    )
    finished = Finished(project, name, config)
    assert yaml.safe_load((finished.folder / "config.yaml").read_text())["name"] == config.name
    table = {row["run"]: int(row["tokens"]) for row in finished.rows("table1.csv")}
    assert table == config.budgets and list(table.values()) == sorted(table.values())
    assert (finished.folder / "figures" / "figure3.svg").read_bytes().startswith(b"<?xml")
    for trained in config.trained_runs:
        summary = finished.json(f"runs/{trained}/run.json")
        tokens = summary["tokens"] + summary["padding_tokens"]  # padding follows conversations
        assert tokens == finished.plan(trained)["tokens"] == config.runs[trained].tokens
        assert summary["steps"] == len(finished.column(trained, "loss"))
    return finished


@pytest.mark.experiments
@pytest.mark.parametrize("name", names())
def test_experiment_runs_from_raw_text_to_table_1(small, name):
    overlays = () if name == "paper" else (f"experiments/{name}.yaml",)
    globals()[f"check_{name.replace('-', '_')}"](run(small, name, *overlays))


@pytest.mark.experiments
@pytest.mark.timeout(7200)
def test_demo_gives_the_table_that_the_readme_shows(tmp_path):
    project = Project(tmp_path / "copy")
    printed = project.make("demo", timeout=7200)
    shown = re.search(r"\| CPT tokens \| MMLU.*?\n\n", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    table = (project.folder / "results/demo/table1.md").read_text()
    rows = [line for line in shown.splitlines() if not line.startswith("| ---")]
    assert len(rows) > 8 and all(row in table for row in rows), table
    assert (project.folder / "results/demo/paper.pdf").exists() and "Traceback" not in printed


def test_each_experiment_has_a_small_config_and_a_check():
    assert all(small_config(name).results == RESULTS for name in names())
    assert {f"check_{name.replace('-', '_')}" for name in names()} == {
        name for name in globals() if name.startswith("check_")
    }
