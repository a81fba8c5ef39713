"""Sums of models in words, for the notes of Table 1."""

from cpt.files import write_json
from cpt.report.sums import sums_in_words

RUNS = {"base": 0, "run": 1000, "chat": 1000, "soup": 3000}


def test_a_sum_shows_its_coefficients_and_a_greedy_mean_what_was_chosen_by_which_text(tmp_path):
    facts = {"run": "soup", "chosen": ["b", "a"], "corpus": "law", "documents": 1200, "groups": 40}
    report = tmp_path / "soup.json"
    write_json(report, facts)
    merges = {"chat": {"run": 1.0, "base": -0.5, "x": 0.5}, "soup": dict.fromkeys("abc", 1 / 3)}
    assert sums_in_words(merges, [report], RUNS) == [
        "1K (chat): 1 run \N{MINUS SIGN} 0.5 base + 0.5 x, a sum of models, weight by weight.",
        "3K (soup): the mean of b, a, chosen among a, b, c by bits per byte on held-out text of law "
        "(1,200 documents, 40 groups), not by any test item.",
    ]
    write_json(report, facts | {"chosen": ["c"]})
    assert sums_in_words(merges, [report], RUNS)[1].startswith("3K (soup): c alone, chosen among a, b, c by")
    assert sums_in_words({}, [], RUNS) == []
