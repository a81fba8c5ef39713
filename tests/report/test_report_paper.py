"""The paper compiles from an experiment's files, with and without the optional ones."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typst
import yaml
from paper_files import (
    RESULTS,
    figures,
    figures_of,
    lists,
    pages_of,
    required,
    text_of,
    texts,
)
from report_experiment import CLAIMS, FULL, PUBLISHED, REPOSITORY, build, write_tables

from cpt.report.labels import base_note
from cpt.report.typesetting import lay_out
from paper import paper

# Levels of tests and intervals; chance; the numbers of runs, tasks, comparisons and claims; and the paper's
# sequences per step, which follow from its settings.
METHOD_NUMBERS = {"95", "0.05", "80", "0.001", "0.2500", "0.3571", "1", "2", "3", "4", "7", "14", "21", "93"}
METHOD_NUMBERS |= {"480", "30"}


def leaves(value: Any) -> Iterator[float]:
    """All numbers in nested data, including those written as text and counts with a unit."""
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
        rows = list(csv.DictReader(file))
    paper_columns = (
        "where",
        "quote",
        "says",
        "assumes",
        "condition",
        "stated",
        "stated_high",
        "recomputed",
        "source_note",
    )
    content += [[row[column] for column in paper_columns] for row in rows]
    claims = [row for row in rows if row["kind"] != "inferred"]
    for column in ("source", "replication"):  # how many claims have each verdict
        content.append(list(Counter(row[column] for row in claims).values()))
    content.append([len(claims), sum(row["replication"] != "no claim" for row in claims)])
    shown = set()
    for number in {number for part in content for number in leaves(part)}:
        for form in (number, 100 * number, number / 1e3, number / 1e6, number / 1e9):
            shown |= {f"{form:.{digits}f}" for digits in range(5)} | {f"{form:.3g}", f"{form:.2g}"}
    return shown


def test_no_number_of_the_text_is_fixed(experiment: SimpleNamespace, tmp_path: Path) -> None:
    """Numbers that stay when all measurements change come from the paper, the config or the method."""
    numbers = []
    for number in (0, 7, 13, 21):
        root = tmp_path / f"other-{number}" if number else experiment.root
        if number:
            write_tables(root, build(root, other=number))
        folder = tmp_path / str(number)
        folder.mkdir()
        lay_out(folder, required(root), lists(root), [])
        numbers.append({text.replace(",", "") for text in re.findall(r"\d[\d,]*(?:\.\d+)?", text_of(folder))})
    fixed = set.intersection(*numbers) - shared_numbers(experiment) - METHOD_NUMBERS
    assert len(numbers[0]) > 200
    assert fixed == set()


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
    for change in ("+8.07 %", "+7.57 %", "+6.17 %", "+4.89 %", "+6.63 %", "\N{MINUS SIGN}2.05 %"):
        assert change in shown


def squeezed(text: str) -> str:
    """The text without spaces, quotes and apostrophes, which are separate elements in typst's content."""
    return re.sub(r"[\s'\"]", "", text)


@pytest.fixture(scope="module")
def read_paper(experiment: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> str:
    """All text of the demo's paper, squeezed."""
    folder, pictures = tmp_path_factory.mktemp("read"), tmp_path_factory.mktemp("pictures")
    lay_out(folder, required(experiment.root), lists(experiment.root), figures(pictures))
    return squeezed(text_of(folder))


def test_no_semicolon_is_lost(read_paper: str) -> None:
    """typst reads a semicolon after `#name` or `#f(x)` as the end of the expression, and doesn't print it."""
    source = (REPOSITORY / "paper" / "paper.typ").read_text()
    assert re.findall(r"#[A-Za-z][\w.-]*(?:\((?:[^()]|\([^()]*\))*\))?;", source) == []
    assert re.search(r"%;\d+documents?,\d+groups?\)", read_paper)
    assert re.search(r"95%CI[^)]+to[^)]+;p[0-9.]+\)", read_paper)
    assert re.search(r"Adifferenceof[0-9.]+wouldbefoundwith80%power", read_paper)


def test_the_paper_says_that_the_base_model_is_dequantised(
    experiment: SimpleNamespace, tmp_path: Path
) -> None:
    """The sentence depends on the report of the import."""
    phrase = "dequantised from a 4-bit GGUF file of an instruction-tuned model"
    for number, (kinds, times) in enumerate({("F32", "Q4_1"): 4, ("F32", "BF16"): 0}.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = required(experiment.root)
        report = json.loads(files["base.json"].read_text()) | {"weights_were": kinds}
        files["base.json"] = folder / "report.json"
        files["base.json"].write_text(json.dumps(report))
        lay_out(folder, files, lists(experiment.root), [])
        assert text_of(folder).count(phrase) == times  # method, caption of Table 1, settings, limits


@pytest.mark.parametrize(
    ("base", "report", "note"),
    [
        ({"repo": "facebook/MobileLLM-125M"}, {"weights_were": [], "chat_templates": []}, ""),
        (
            {"label": "a/b-Instruct"},
            {"weights_were": ["Q8_0", "F32"]},
            "dequantised from an 8-bit GGUF file of",
        ),
        (
            {"repo": "a/b"},
            {"weights_were": ["IQ3_S", "Q6_K"]},
            "dequantised from a 3-bit GGUF file of the model",
        ),
        ({"repo": "google/gemma-3-1b-it"}, {}, "an instruction-tuned model"),
        ({"repo": "a/bitter"}, {"chat_templates": ["default"]}, "a model with a chat template"),
    ],
)
def test_note_on_the_base_model(base: dict[str, str], report: dict[str, Any], note: str) -> None:
    sentence = base_note(base, report)
    assert sentence == note or (note.startswith("dequantised") and sentence.startswith(note))


def test_figures_are_numbered_like_their_files(experiment: SimpleNamespace, tmp_path: Path) -> None:
    """Even if some are missing; Table 1 is table1.csv."""
    folder = tmp_path / "out"
    folder.mkdir()
    lay_out(folder, required(experiment.root), lists(experiment.root), figures(tmp_path)[2:4])
    source = (folder / "paper.typ").read_text()
    (folder / "paper.typ").write_text(
        source + '\n#context [#metadata(query(figure).map(each => (each.kind, each.has("label"), '
        "numbering(each.numbering, ..each.counter.at(each.location()))))) <all>]"
    )
    entries = json.loads(
        typst.query(str(folder / "paper.typ"), "<all>", root=str(folder), ignore_system_fonts=True)
    )[0]["value"]
    assert [number for kind, _, number in entries if "image" in str(kind)] == ["3", "4"]
    tables = [number for kind, _, number in entries if "table" in str(kind)]
    assert tables == [str(number) for number in range(1, len(tables) + 1)]


def test_claims_take_half_a_page_and_an_appendix(read_paper: str) -> None:
    for phrase in (
        "The study's numbers contradict",
        "Consistent in one reading and not in another",
        "56.2 %",
        "another experiment",
        "Inferred: general are WinoGrande",
        "GPU-hours of the 1B run",
    ):
        assert squeezed(phrase) in read_paper
    begin, end = (
        read_paper.index(squeezed(phrase)) for phrase in ("in two columns", "follow from the settings or")
    )
    assert end - begin < 2600  # characters without spaces


def test_another_experiment_has_no_claims(experiment: SimpleNamespace, tmp_path: Path) -> None:
    files = required(experiment.root)
    del files["claims.csv"], files["claims.yaml"]
    folder = tmp_path / "out"
    folder.mkdir()
    lay_out(folder, files, lists(experiment.root), figures(tmp_path))
    text = squeezed(text_of(folder))
    headings = json.loads(
        typst.query(str(folder / "paper.typ"), "heading", root=str(folder), ignore_system_fonts=True)
    )
    assert texts(headings[0]["body"]) == "Better at the domain? What was lost?"
    for phrase in ("Better at the domain", "General text was lost", "Benchmarks"):
        assert squeezed(phrase) in text
    for phrase in ("original study", "Published", "Faroz", "0.4355", "Replication"):
        assert squeezed(phrase) not in text


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
