"""All corpus stages on a small corpus, and their statistics table, which must add up."""

import csv
import json
from pathlib import Path

import pytest
from stages import run_all, stages_of

from cpt.corpus.drops import sections_of
from cpt.corpus.statistics import rows_of
from cpt.errors import UserError

PARAGRAPH = "The {0} of the {1} rests on what people {2} know about {3}, said the {4} visitor of {0}.\n"
WORDS = ["river", "castle", "quietly", "history", "second", "garden", "mill", "rarely", "music", "last"]


def document(number: int) -> str:
    return "".join(
        PARAGRAPH.format(*(f"{WORDS[(number * step + k) % 10]}{number + k * step}" for k in range(5)))
        for step in (1, 3, 7)
    )


@pytest.fixture
def jobs(save_table, model_folder, filters, tmp_path):
    """The finished stages of a small corpus."""
    texts = [document(n) for n in range(60)]
    texts[5] = texts[4]
    texts[7] = "too\nshort"
    texts[9] = None
    texts[14] = texts[13] + "Indeed.\n"
    items = {"task": ["t"], "item": [0], "text": [texts[11][:120]]}
    save_table(tmp_path / "sources" / "benchmarks" / "items.parquet", items)
    for shard in range(2):
        save_table(tmp_path / "corpora" / "c" / "raw" / f"{shard:05d}.parquet", {"text": texts[shard::2]})
    (tmp_path / "model").symlink_to(model_folder)
    # The sentences repeat many n-grams.
    filters["repetition"]["top_ngram_character_share"] = dict.fromkeys((2, 3, 4), 1.0)
    filters["repetition"]["duplicate_ngram_character_share"] = dict.fromkeys(range(5, 11), 1.0)
    stages = stages_of(tmp_path, filters, {"c": 2})
    del stages["download"]
    run_all(stages)
    return stages


def test_every_document_is_accounted_for(jobs, tmp_path):
    (statistics,) = jobs["corpus_statistics"]
    corpus = tmp_path / "corpora"
    with open(statistics.values["table"], newline="") as file:
        rows = list(csv.DictReader(file))
    table = {(row["stage"], row["rule"]): row for row in rows}
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    assert stages == [
        "raw",
        "filter",
        "duplicates",
        "near_duplicates",
        "contaminated",
        "token_quality",
        "held_out",
        "kept",
        "packing",
        "packed",
    ]
    assert int(table["raw", ""]["documents"]) == 60
    for key in [("filter", "empty"), ("filter", "minimum_lines")]:
        assert table[key]["documents"] == "1"
    for key in [("duplicates", ""), ("near_duplicates", "")]:
        assert table[key]["documents"] == "1"
    for key in [("contaminated", "found"), ("contaminated", "dropped")]:
        assert table[key]["documents"] == "1"
    assert int(table["held_out", ""]["documents"]) > 0
    parts = [row for row in rows[1:] if row["rule"] != "found" and not row["mixture"]]
    for unit in ("documents", "bytes"):
        assert sum(int(row[unit]) for row in parts) == int(rows[0][unit])
    texts = (document(n) for n in range(60) if n not in (5, 7, 9))
    others = len(document(4)) + len("too\nshort") + len(document(13)) + len("Indeed.\n") - len(document(14))
    assert int(rows[0]["bytes"]) == sum(map(len, texts)) + others
    assert int(table["duplicates", ""]["bytes"]) == len(document(4))
    assert int(table["near_duplicates", ""]["bytes"]) == len(document(13))
    assert {table["contaminated", rule]["bytes"] for rule in ("found", "dropped")} == {str(len(document(11)))}

    tokens = sum(json.loads(path.read_text())["tokens"] for path in (corpus / "c" / "tokens").glob("*.json"))
    kept = table["kept", ""]
    assert int(kept["tokens"]) == tokens
    assert int(table["packing", "tail"]["tokens"]) == tokens % 64
    assert table["packing", "unused"]["tokens"] == "0"
    assert int(table["packed", ""]["tokens"]) == tokens - tokens % 64
    assert {row["mixture"] for row in rows if row["stage"].startswith("pack")} == {"mixture"}
    counted = [row for row in rows if row["stage"] in ("token_quality", "held_out", "kept")]
    density = sum(int(row["tokens"]) for row in counted) / sum(int(row["bytes"]) for row in counted)
    for row in rows:
        assert bool(row["tokens"]) != bool(row["estimated_tokens"])
        if row["estimated_tokens"]:
            assert int(row["estimated_tokens"]) == pytest.approx(density * int(row["bytes"]), abs=0.51)
    with open(statistics.values["quality"], newline="") as file:
        bins = [int(row["documents"]) for row in csv.DictReader(file) if row["measure"] == "distinct_share"]
    assert sum(bins) == sum(int(row["documents"]) for row in counted)

    drops = corpus / "c" / "tokens" / "00000.drops.csv"
    *others, last = drops.read_text().splitlines()
    rule, documents, size, amount = last.split(",")
    for wrong, message in (
        (
            f"{rule},1{documents},{size},{amount}",
            "60 documents were read, but the stages' tables account for",
        ),
        (f"{rule},{documents},1{size},{amount}", "bytes were read, but"),
        (f"{rule},{documents},{size},1{amount}", "mixture/ledger.json: packed from"),
    ):
        drops.write_text("\n".join([*others, wrong]) + "\n")
        with pytest.raises(UserError, match=message):
            statistics()


def test_masked_and_overlapping_documents_have_their_own_rows(tmp_path):
    filtered, tokens = tmp_path / "a" / "drops.csv", tmp_path / "a" / "tokens.csv"
    filtered.parent.mkdir()
    filtered.write_text("rule,documents,bytes\nread,10,100\nempty,1,0\nmasked_emails,3,-7\nkept,9,100\n")
    tokens.write_text(
        "rule,documents,bytes,tokens\nread,7,80,40\nunknown,0,0,0\nheld_out,1,10,5\nkept,6,70,35\n"
    )
    (tmp_path / "duplicates.csv").write_text("corpus,shard,documents,duplicates,bytes\nc,00000,9,0,0\n")
    report = {"contaminated": 0, "contaminated_bytes": 0, "dropped": 0}
    (tmp_path / "found.json").write_text(json.dumps(report))
    lists = ([filtered], [tmp_path / "found.json"], [tokens], [tmp_path / "duplicates.csv"], [])
    taken_out = {"dropped": {"c": {"documents": 2, "bytes": 20}}}
    rows = {(row.stage, row.rule): row for row in rows_of("c", *lists, taken_out)}
    assert rows["overlap", ""][4:6] == (2, 20) and rows["masked", "emails"][4:6] == (3, -7)
    assert rows["raw", ""].documents == 10 and ("filter", "masked_emails") not in rows
    with pytest.raises(UserError, match="10 documents were read, but"):
        list(rows_of("c", *lists))


def test_the_report_ends_with_the_overlap_and_names_the_worst(jobs, tmp_path):
    (report,) = jobs["drop_report"]
    overlap = {
        "held_out_documents": 2,
        "ngram": 13,
        "ngrams": 200,
        "shared": 50,
        "dropped": {"c": {"documents": 0}},
    }
    report.values["overlap"].write_text(json.dumps(overlap))
    header = "corpus,id,url,ngrams,shared,share,closest,closest_share\n"
    report.values["overlap_table"].write_text(header + "c,page 1,u,100,50,0.5000,page 9,0.4000\n")
    report()
    page = report.values["page"].read_text()
    assert "## Held-out text that is in training text: 25.0 %" in page
    assert "- `page 1` (c): 50 %, of which 40 % in `page 9`" in page
    warnings = report.values["warnings"].read_text().splitlines()
    assert warnings[-1] == (
        "held-out text: 25.0 % of its 13-grams are in training text as well, most of page 1 (50 %)"
    )


def test_drop_report_shows_examples_in_the_order_of_the_shards(tmp_path):
    (tmp_path / "c" / "decontaminated").mkdir(parents=True)
    (tmp_path / "c" / "tokens").mkdir()
    (tmp_path / "c" / "filtered").mkdir()
    hits = [
        {"row": row, "id": None, "task": "t", "item": row + i, "ngram": "a b"}
        for row in (0, 4)
        for i in (0, 1)
    ]
    for shard, count in (("00000", 7), ("00001", 9)):
        folder = tmp_path / "c" / "filtered"
        entry = {"rule": "top_2_gram", "value": 0.25, "threshold": 0.2, "url": None}
        entries = [{**entry, "id": f"{shard}`{n}", "text": f"## rain\n\n{'x' * 400}"} for n in range(count)]
        (folder / f"{shard}.examples.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
        (folder / f"{shard}.drops.csv").write_text(
            "rule,documents,bytes\nread,30,9\ntop_2_gram,20,9\nempty,0,0\nkept,10,0\n"
        )
        tokens = tmp_path / "c" / "tokens" / f"{shard}.examples.jsonl"
        value = {
            **entry,
            "rule": "maximum_bytes_per_token",
            "value": None,
            "threshold": 12,
            "id": shard,
            "text": "",
        }
        tokens.write_text(json.dumps(value) + "\n")
        tokens.with_name(f"{shard}.drops.csv").write_text(
            "rule,documents,bytes,tokens\nread,30,9,9\nmaximum_bytes_per_token,1,0,1\nheld_out,1,1,1\nkept,8,8,8\n"
        )
        counts = {"t": {"items": 9, "too_short": 4}, "own": {"items": 9, "too_short": 5}}
        report = {"contaminated": 2, "dropped": 0, "hits": hits, "items": counts}
        (tmp_path / "c" / "decontaminated" / f"{shard}.json").write_text(json.dumps(report))
    stems = [tmp_path / "c" / folder / "0000" for folder in ("filtered", "decontaminated", "tokens")]
    lists = [
        [Path(f"{stems[stage]}{shard}{ending}") for shard in (0, 1)]
        for stage, ending in (
            (0, ".drops.csv"),
            (0, ".examples.jsonl"),
            (1, ".json"),
            (2, ".drops.csv"),
            (2, ".examples.jsonl"),
        )
    ]
    shown = "\n".join(sections_of("c", *lists))
    assert "## c: 60 documents read" in shown
    assert "### `top_2_gram`: 40 documents (66.67 %)" in shown
    assert "empty" not in shown and "held_out" not in shown
    entries = [line for line in shown.splitlines() if line.endswith("value 0.25, threshold 0.2")]
    names = [*(f"00000 {n}" for n in range(7)), *(f"00001 {n}" for n in range(3))]
    assert entries == [f"- `{name}`: value 0.25, threshold 0.2" for name in names]
    assert shown.count(f"\n      ## rain {'x' * 191}\n") == 10
    assert "### `contaminated`: 4 documents (6.67 %) found, 0 dropped\n\n- `no id`: t, item 0\n" in shown
    assert [line for line in shown.splitlines() if "no id" in line] == [
        f"- `no id`: t, item {n}" for n in (0, 4)
    ] * 2
    assert "\nMost items of `own` are too short to be looked for.\n" in shown
    assert "- `00001`: value infinite, threshold 12\n" in shown
