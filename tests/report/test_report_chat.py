"""Answers side by side: escaped, with length and ending, in 80 columns; counts with their tests."""

import json
import math

import pytest
from markdown_it import MarkdownIt
from report_experiment import write_losses
from scipy.stats import binomtest

from chat import chat
from chat_scores import chat_scores
from cpt.errors import UserError
from cpt.report.chat import chat_markdown, chat_page, chat_terminal, read_answers, visible
from cpt.report.rows import read_rows

HOSTILE = "</td><script>alert(1)</script> & \x1b[2J\x07 \u202egnp ```\n```` # head\n| a |"


def row(prompt="Why?", answer="Because.", tokens=3, stopped=True, template=True, **more):
    return {
        "place": "p.txt, line 1",
        "prompt": prompt,
        "answer": answer,
        "tokens": tokens,
        "stopped": stopped,
        "template": template,
        **more,
    }


@pytest.fixture
def answers():
    return {
        "base": [row(), row(HOSTILE, "short")],
        "cpt-1": [row(answer=HOSTILE), row(HOSTILE, "word " * 40, 200, False)],
        "cpt-2": [row(template=False), row(HOSTILE, "漢字" * 30, 200, False, template=False)],
        "merged": [row(), row(HOSTILE, "")],
    }


def test_the_page_escapes_what_people_and_models_write(answers):
    page = chat_page(answers, "Answers of <x>", 200)
    assert "<script" not in page and page.count("&lt;script&gt;") == 1 + 1
    assert "\x1b" not in page and "\\x1b[2J" in page and "\u202e" not in page
    assert "Answers of &lt;x&gt;" in page


def test_the_page_says_what_stopped_and_who_has_no_template(answers):
    page = chat_page(answers, "Answers", 200)
    assert "3 tokens, stopped" in page and page.count("cut at 200 tokens") == 2
    assert "1 of 2 stopped (9 to 91 %)" in page and "2 of 2 stopped (34 to 100 %)" in page
    assert "No chat template: cpt-2. The prompts went in as plain text, to be continued." in page
    assert "No chat template" not in chat_page({"base": answers["base"]}, "Answers", 200)


def test_markdown_keeps_what_was_written_in_fences(answers):
    html = MarkdownIt("js-default").render(chat_markdown(answers, "Answers", 200))
    assert html.count("<h1>") == 1 and html.count("<h2>") == 2 and "<table>" not in html
    assert html.count("<pre>") == 2 * (1 + len(answers))


def test_a_terminal_shows_three_runs_side_by_side_in_80_columns(answers):
    text = chat_terminal(answers)
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text and "\\x1b[2J" in text
    heads = [line for line in text.splitlines() if "cpt-1" in line and "cpt-2" in line]
    assert len(heads) == 2 and all("base" in line and "merged" not in line for line in heads)
    assert text.count("cut at 200 tokens") == 2 and "merged: 2 of 2 stopped" in text


def test_letters_of_any_script_stay_and_controls_are_shown():
    assert visible("é漢🙂\n\tx\x00\u2066\ud800") == "é漢🙂\n\tx\\x00\\u2066\\ud800"


def write(folder, answers):
    files = [folder / f"{run}.jsonl" for run in answers]
    for file, rows in zip(files, answers.values(), strict=True):
        file.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows))
    return files


def test_answers_to_other_prompts_are_not_compared(tmp_path, answers):
    answers["cpt-2"][0]["prompt"] = "What?"
    with pytest.raises(UserError, match=r"cpt-2\.jsonl: the prompts aren't those that base answered; delete"):
        read_answers(write(tmp_path, answers), list(answers))


def test_the_stage_writes_page_and_markdown(tmp_path, answers):
    files = write(tmp_path, answers)
    chat(files, tmp_path / "chat.html", tmp_path / "chat.md", list(answers), "Answers", 200)
    assert (tmp_path / "chat.html").read_text() == chat_page(answers, "Answers", 200)
    assert (tmp_path / "chat.md").read_text() == chat_markdown(answers, "Answers", 200)


def test_counts_are_tested_against_the_base_model(tmp_path):
    base = [row(prompt=str(n), stopped=n < 18, followed=n < 10, tokens=10) for n in range(20)]
    other = [row(prompt=str(n), stopped=n < 6, followed=n % 2 == 0, tokens=30) for n in range(20)]
    third = [row(prompt=str(n), stopped=n < 18, followed=n < 10, tokens=10) for n in range(20)]
    runs = {"base": base, "cpt": other, "same": third}
    bits = []
    for run in runs:
        for corpus in ("law", "news"):
            bits.append(tmp_path / f"{run}.{corpus}.csv")
            nats = [10 * math.log(2) * (len(bits) / 10 + shift) for shift in (-0.01, 0, 0.01)]
            write_losses(bits[-1], range(3), [10] * 3, nats)
    tokens = {"base": 0, "cpt": 5, "same": 9}
    chat_scores(write(tmp_path, runs), bits, tmp_path / "chat_scores.csv", tokens, ["law", "news"])
    first, second, last = read_rows(tmp_path / "chat_scores.csv", ("run", "bits_per_byte_news"))
    assert (first["stopped"], first["stopped_share"], first["stopped_p"]) == ("18", "0.900000", "")
    assert (second["stopped"], second["followed"], second["n"]) == ("6", "10", "20")
    assert float(second["mean_answer_tokens"]) == 30 and second["bits_per_byte_news"] == "0.400000"
    assert (second["documents_news"], second["groups_news"]) == ("3", "3")
    assert second["relative_change_news"] == "100.000000" and first["relative_change_low_news"] == ""
    assert float(second["bits_per_byte_low_news"]) == pytest.approx(0.39, abs=0.002)
    interval = binomtest(6, 20).proportion_ci(method="wilson")
    assert float(second["stopped_low"]) == pytest.approx(interval.low, abs=1e-6)
    assert float(second["stopped_p"]) == pytest.approx(2 * 0.5**12, rel=1e-4)  # 12 lost, none gained
    assert float(second["stopped_p_holm"]) == pytest.approx(4 * 2 * 0.5**12, rel=1e-4)
    assert float(second["stopped_difference"]) == -0.6 and float(second["followed_p"]) == 1
    assert float(last["stopped_p"]) == 1 and float(last["stopped_difference"]) == 0
