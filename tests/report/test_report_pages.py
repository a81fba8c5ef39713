"""Pages of Snakemake's report: CSV becomes tables, and text from the web runs no scripts."""

from pathlib import Path

from cpt.report.pages import html_of_markdown, table_of_csv
from page import page


def test_csv_becomes_a_table_that_can_be_saved() -> None:
    body = table_of_csv('run,score,says\nbase,0.250000,"<b>a, b</b>"\n', "scores.csv")
    assert '<th class="">run</th>\n<th class="number">score</th>' in body
    assert '<td>base</td><td class="number">0.25</td><td>&lt;b&gt;a, b&lt;/b&gt;</td>' in body
    assert '<a download="scores.csv" href="data:text/csv;base64,' in body


def test_markdown_of_dropped_documents_and_cards_is_only_shown() -> None:
    body = html_of_markdown(
        "---\nlicense: mit\n---\n\n# Card\n\n<script>alert(1)</script>\n\n| a |\n| --- |\n| 1 |\n"
    )
    assert "license" not in body and "<script>" not in body and "&lt;script&gt;" in body
    assert "<h1>Card</h1>" in body and "<td>1</td>" in body


def test_a_page_shows_a_file_or_the_card_of_a_released_model(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("run,score\nbase,0.25\n")
    page(tmp_path / "scores.csv", "Scores & more", "From ``scores.csv``.", tmp_path / "scores.html")
    whole = (tmp_path / "scores.html").read_text()
    assert "<h1>Scores &amp; more</h1>" in whole and "<code>scores.csv</code>" in whole
    assert '<td class="number">0.25</td>' in whole
    (tmp_path / "README.md").write_text("# Card\n")
    page(tmp_path, "cpt", "A model.", tmp_path / "card.html")
    assert "<h1>Card</h1>" in (tmp_path / "card.html").read_text()
