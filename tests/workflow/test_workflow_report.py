"""Snakemake's report of the finished smoke experiment, as a reviewer browses it."""

import csv
from pathlib import Path

import pytest
from browser import CHROMIUM, DRIVER, Browser
from project_copy import SMOKE

RESULTS = "results/smoke"
IN_ORDER = {
    "1 Paper": ["The paper"],
    "2 Tables": [
        "1 Scores by budget (Table 1)",
        "2 Differences between runs",
        "3 Bits per byte of held-out text",
        "4 Training runs",
        "5 All scores",
        "6 Letters answered",
        "7 Right and wrong answers",
    ],
    "3 Figures": [
        "Figure 1: training loss",
        "Figure 2: token efficiency",
        "Figure 3: forgetting",
        "Figure 4: differences from the base model",
        "Figure 5: letters answered",
        "Figure 6: data waterfall",
        "Right and wrong answers",
    ],
    "4 Data": [
        "1 What each stage leaves",
        "2 Each rule and mixture",
        "3 What was dropped, with examples",
        "4 Token-level quality",
        "5 Evaluation items in the training text",
    ],
    "5 Models": ["cpt-16K", "cpt-40K"],
}
HOME = "//nav//nav//a"  # the first of the breadcrumbs


@pytest.fixture(scope="module")
def report(project) -> Path:
    project.snakemake("report", *SMOKE)
    return project.folder / RESULTS / "report.html"


@pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="NOT TESTED: chromium and chromedriver aren't installed"
)
def test_reviewer_clicks_through_to_table_1_and_figure_2(project, report, tmp_path):
    with open(project.folder / RESULTS / "table1.csv", newline="") as file:
        scores = [row[2:10] for row in csv.reader(file)][1:]
    with Browser(tmp_path / "profile") as browser:
        browser("url", {"url": report.as_uri()})
        for category, labels in IN_ORDER.items():
            browser.click(f"//a[span='{category}']")
            browser.find(f"//tr[td='{labels[-1]}']")
            assert browser.text("//tbody").splitlines() == labels
            browser.click(HOME)

        browser.click("//a[span='2 Tables']")
        browser.click("//tr[td='1 Scores by budget (Table 1)']//a[1]")
        with browser.frame("//iframe"):
            lines = browser.text("//table[1]/tbody").replace("*", "").splitlines()
        shown = [line.split()[-8:] for line in lines]
        assert [cells for cells in shown if cells in scores] == scores

        browser.click(HOME)
        browser.click("//a[span='3 Figures']")
        browser.click("//tr[td='Figure 2: token efficiency']//a[1]")
        figure = "//img[contains(@src, 'filename=figure2.svg')]"
        width, height = browser.run("return [arguments[0].width, arguments[0].height]", figure)
        assert width > 1.3 * height > 200  # drawn, with the figure's shape
        browser.click("//tr[td='Figure 2: token efficiency']//a[2]")
        assert "Relative change of the mean score" in browser.text("//li[contains(., 'Relative change')]")
