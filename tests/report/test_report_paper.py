"""The paper compiles from an experiment's files, with and without the optional ones."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typst
import yaml
from report_experiment import CLAIMS, FULL, PUBLISHED, REPOSITORY, build, write_tables
from report_tasks import TASKS, add_tasks

from cpt.errors import UserError
from cpt.report.likelihoods import read_verdicts
from cpt.report.scores import COLUMNS
from cpt.report.typesetting import lay_out, typeset
from paper import paper

RESULTS = ("scores", "comparisons", "letters", "answers", "touched", "claims", "runs")
NOTHING: tuple[dict, list] = ({"runs": [], "ledgers": []}, [])  # no runs, mixtures and figures


def required(root: Path) -> dict[str, Path]:
    """The files that every paper is made of, by their name beside the template."""
    return {
        "paper.typ": REPOSITORY / "paper" / "paper.typ",
        "references.bib": REPOSITORY / "paper" / "references.bib",
        "published.csv": PUBLISHED,
        "claims.yaml": CLAIMS,
        "config.yaml": root / "config.yaml",
        **{f"{name}.csv": root / f"{name}.csv" for name in RESULTS},
        "answers.md": root / "answers.md",
        "base.json": root / "models" / "base.json",
        "statistics.csv": root / "corpora" / "statistics.csv",
    }


def lists(root: Path) -> dict[str, list[Path]]:
    return {
        "runs": [root / "runs" / name / "run.json" for name in ("cpt-10K", "cpt-25K")],
        "ledgers": [root / "packed" / "domain" / "ledger.json"],
    }


def figures(folder: Path) -> list[Path]:
    """Pictures in place of all figures."""
    names = [*(f"figure{number}" for number in range(1, 7)), "answers", "exam"]
    files = [folder / f"{name}.svg" for name in names]
    for file in files:
        file.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>')
    return files


def texts(content: Any) -> str:
    """All text in typst content as `typst.query` returns it."""
    if isinstance(content, dict):
        return content.get("text", "") + "".join(texts(value) for value in content.values())
    if isinstance(content, list):
        return " ".join(texts(value) for value in content)
    return ""


# What a test or an interval is defined by; chance; how many runs, tasks, comparisons and claims there are;
# and the paper's sequences per step, which follow from its settings.
OF_THE_METHOD = {"95", "0.05", "80", "0.001", "0.2500", "0.3571", "1", "2", "3", "4", "7", "14", "21", "93"}
OF_THE_METHOD |= {"480"}
NAMES = r"\[ *\d+ *\]|(Table|Figure|Section)[\s\xa0]*\d+|MobileLLM-125M|SmolLM2-135M|xxh3_128"


def text_of(folder: Path) -> str:
    """All paragraphs, lists and figures, without the numbers of references, headings and captions."""
    source = str(folder / "paper.typ")
    parts = []
    for element in ("par", "list", "figure"):
        found = json.loads(typst.query(source, element, root=str(folder), ignore_system_fonts=True))
        parts += [texts(content) for content in found]
    return re.sub(NAMES, " ", " ".join(parts))


def leaves(value: Any) -> Iterator[float]:
    """All numbers in nested data, also those written as text and counts with a unit."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    for number in re.findall(r"\d(?:[\d_]*\d)?(?:\.\d+)?(?:e[-+]?\d+)?", str(value).replace(",", "")):
        yield float(number)


def shared_numbers(experiment: SimpleNamespace) -> set[str]:
    """Numbers of the paper and the config as the text may show them: rounded, as a share, in a unit."""
    content = [yaml.safe_load(CLAIMS.read_text()), experiment.config, list(FULL.values())]
    content.append(list(csv.reader(PUBLISHED.open())))
    with (experiment.root / "claims.csv").open() as file:
        content += [[row["stated"], row["stated_high"], row["recomputed"]] for row in csv.DictReader(file)]
    shown = set()
    for number in {number for part in content for number in leaves(part)}:
        for form in (number, 100 * number, number / 1e3, number / 1e6, number / 1e9):
            shown |= {f"{form:.{digits}f}" for digits in range(5)} | {f"{form:.3g}", f"{form:.2g}"}
    return shown


def test_no_number_of_the_text_is_fixed(experiment: SimpleNamespace, tmp_path: Path) -> None:
    """Numbers that stay where everything measured changes are the paper's, the config's or the method's."""
    found = []
    for number in (0, 7, 13, 21):
        root = tmp_path / f"other-{number}" if number else experiment.root
        if number:
            write_tables(root, build(root, other=number))
        folder = tmp_path / str(number)
        folder.mkdir()
        lay_out(folder, required(root), lists(root), [])
        found.append({text.replace(",", "") for text in re.findall(r"\d[\d,]*(?:\.\d+)?", text_of(folder))})
    fixed = set.intersection(*found) - shared_numbers(experiment) - OF_THE_METHOD
    assert len(found[0]) > 200
    assert fixed == set()


def figures_of(folder: Path) -> str:
    found = typst.query(str(folder / "paper.typ"), "figure", root=str(folder), ignore_system_fonts=True)
    return texts(json.loads(found))


def pages_of(folder: Path) -> int:
    source = str(folder / "paper.typ")
    pages = typst.compile(source, root=str(folder), format="svg", ignore_system_fonts=True)
    return len(pages) if isinstance(pages, list) else 1


def test_paper_shows_the_numbers_of_the_results(experiment: SimpleNamespace, tmp_path: Path) -> None:
    root, folder = experiment.root, tmp_path / "paper"
    folder.mkdir()
    lay_out(folder, required(root), lists(root), figures(tmp_path))
    assert pages_of(folder) > 2
    shown = figures_of(folder)
    rows = [row for row in experiment.scores if row["shown"]]
    for row in rows:
        assert f"{row['score']:.4f}" in shown
    for run in experiment.runs:
        scores = [row["score"] for row in rows if row["run"] == run]
        assert f"{sum(scores) / 7:.4f}" in shown
    for row in experiment.scores:
        if row["metric"] == "bits_per_byte":
            assert f"{row['score']:.4f}" in shown
    for text in (
        "0.4355",
        "0.4394",
        "0.4405",
        "5,230",
        "461,500",
        "70.6",
        "10,240",
        "25,600",
        "SmolLM2-135M",
    ):
        assert text in shown
    for change in (
        "+8.1 %",
        "+7.6 %",
        "+6.2 %",
        "+4.9 %",
        "+6.6 %",
        "\N{MINUS SIGN}2.0 %",
        "\N{MINUS SIGN}2.8 %",
    ):
        assert change in shown


def test_pdf_is_equal_byte_for_byte(experiment: SimpleNamespace, tmp_path: Path) -> None:
    root = experiment.root
    for name in ("a.pdf", "b.pdf"):
        paper(
            template=REPOSITORY / "paper" / "paper.typ",
            references=REPOSITORY / "paper" / "references.bib",
            published=PUBLISHED,
            config=root / "config.yaml",
            **{result: root / f"{result}.csv" for result in RESULTS if result != "runs"},
            answers_text=root / "answers.md",
            claims_source=CLAIMS,
            runs_table=root / "runs.csv",
            base=root / "models" / "base.json",
            statistics=root / "corpora" / "statistics.csv",
            pdf=tmp_path / name,
            packed=[root / "packed" / "domain"],
            summaries=[root / "runs" / run / "run.json" for run in ("cpt-10K", "cpt-25K")],
            figures=figures(tmp_path),
        )
    first = (tmp_path / "a.pdf").read_bytes()
    assert first.startswith(b"%PDF")
    assert len(first) > 50_000
    assert first == (tmp_path / "b.pdf").read_bytes()


def changed(experiment: SimpleNamespace, folder: Path, keep: Any, **config: Any) -> dict[str, Path]:
    """The required files with some rows of scores.csv and some keys of the config changed."""
    files = {name: Path(shutil.copy(path, folder / name)) for name, path in required(experiment.root).items()}
    lines = files["scores.csv"].read_text().splitlines()
    files["scores.csv"].write_text("\n".join([lines[0], *filter(keep, lines[1:])]) + "\n")
    merged = yaml.safe_load(files["config.yaml"].read_text())
    files["config.yaml"].write_text(yaml.safe_dump({**merged, **config}, sort_keys=False))
    return files


def test_other_experiments_compile(experiment: SimpleNamespace, tmp_path: Path) -> None:
    """Two tasks, no general group, no bits per byte, budgets that repeat, a run with its own settings."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    evaluate = {
        **experiment.config["evaluate"],
        "tasks": {name: experiment.tasks[name] for name in ("piqa", "arc_easy")},
        "groups": {"educational": ["arc_easy"]},
    }
    runs = {
        "base": {},
        "cpt-10K": {"tokens": "10K", "cpus": 2},
        "cpt-25K": {
            **{"tokens": 10_240, "cpus": 2, "train": {"learning_rate": 0.001}},
            **{"switch": {"mixture": "late", "at": 0.75}, "start_from": "cpt-10K"},
        },
    }
    domain, general = experiment.corpora
    mixtures = {"domain": {domain: 1.0}, "late": {domain: 0.4, general: 0.6}}
    files = changed(
        experiment,
        tmp_path / "in",
        lambda line: any(f",{task}," in line for task in ("piqa", "arc_easy", "average")),
        evaluate=evaluate,
        runs=runs,
        mixtures=mixtures,
    )
    files["scores.csv"].write_text(files["scores.csv"].read_text().replace("25600", "10240"))
    lay_out(tmp_path / "out", files, *NOTHING)
    shown = figures_of(tmp_path / "out")
    assert "10.2K (cpt-25K)" in shown
    assert "learning rate 0.001" in shown
    assert f"{domain} 85 % , {general} 15 %" in " ".join(shown.split())
    assert "H.Swag" not in shown
    assert "those of the runs that a run starts from" in " ".join(shown.split())


def test_tasks_of_all_kinds_compile(tmp_path: Path) -> None:
    """With another average, worked examples, cut items, perplexities, and what has no test."""
    made = build(tmp_path)
    add_tasks(tmp_path, made, TASKS)
    write_tables(tmp_path, made)
    (tmp_path / "out").mkdir()
    lay_out(tmp_path / "out", required(tmp_path), lists(tmp_path), figures(tmp_path))
    text = " ".join(text_of(tmp_path / "out").split())
    for said in (
        "Lambada_openai ↓",
        "5 for Gsm8k",
        "4 items of Gsm8k",
        "the test is by random sign flips",
        "Metrics that are computed from all items at once have no test.",
        "of tasks with choices",
        "share 13 words in a row with a document of the training text",
        "of PIQA",
        "chance, the base model without and with the document in its context",
    ):
        assert said in text, said
    with (tmp_path / "answers.csv").open() as file:
        tasks = {row["task"] for row in csv.DictReader(file)}
    assert tasks == {*FULL, "choice", "average"} - {"mmlu_continuation"}
    for sentences in read_verdicts(tmp_path / "answers.md").values():
        assert " ".join(sentences.split()[:6]) in text


def test_only_perplexities_compile(tmp_path: Path) -> None:
    made = build(tmp_path)
    made["table_tasks"], made["metrics"] = {}, {}
    made["config"]["evaluate"] |= {"tasks": {}, "groups": {}}
    add_tasks(tmp_path, made, ["wikitext", "wmt"])
    write_tables(tmp_path, made)
    (tmp_path / "out").mkdir()
    lay_out(tmp_path / "out", required(tmp_path), lists(tmp_path), [])
    text = text_of(tmp_path / "out")
    assert "unweighted mean" not in text and "Wikitext ↓" in text


def test_an_experiment_without_training_compiles(experiment: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    files = changed(experiment, tmp_path / "in", lambda line: line.startswith("base,"), runs={"base": {}})
    lay_out(tmp_path / "out", files, *NOTHING)
    assert pages_of(tmp_path / "out") > 1


def test_error_names_the_template_and_the_place(experiment: SimpleNamespace, tmp_path: Path) -> None:
    broken = tmp_path / "scores.csv"
    broken.write_text(",".join(COLUMNS[:5]) + "\nbase,0,piqa,acc,40\n")
    files = {**required(experiment.root), "scores.csv": broken}
    with pytest.raises(UserError, match=r"(?s)paper\.typ: typst can't compile it:.*shown.*paper\.typ:\d+"):
        typeset(tmp_path / "paper.pdf", files, *NOTHING)
    assert not (tmp_path / "paper.pdf").exists()
