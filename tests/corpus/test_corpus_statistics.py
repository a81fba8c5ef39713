"""The whole wing on a small corpus, and the table that must add up."""

import csv
import json

import pytest

PARAGRAPH = "The {0} of the {1} rests on what people {2} know about {3}, said the {4} visitor of {0}.\n"
WORDS = ["river", "castle", "quietly", "history", "second", "garden", "mill", "rarely", "music", "last"]


def document(number: int) -> str:
    return "".join(
        PARAGRAPH.format(*(f"{WORDS[(number * step + k) % 10]}{number + k * step}" for k in range(5)))
        for step in (1, 3, 7)
    )


@pytest.fixture
def corpus(script, save_table, model_folder, filters, tmp_path):
    root = tmp_path / "corpora"
    texts = [document(n) for n in range(60)]
    texts[5] = texts[4]
    texts[7] = "too\nshort"
    texts[9] = None
    save_table(tmp_path / "b" / "items.parquet", {"task": ["t"], "item": [0], "text": [texts[11][:120]]})
    for shard in range(2):
        name = f"{shard:05d}"
        raw = save_table(root / "c" / "raw" / f"{name}.parquet", {"text": texts[shard::2]})
        run(
            script,
            "filter_documents",
            normalize="none",
            input=raw,
            text_column="text",
            settings={**filters, "repetition": {**filters["repetition"], **LENIENT}},
            output=root / "c" / "filtered" / f"{name}.parquet",
            drops=root / "c" / "filtered" / f"{name}.drops.csv",
            examples=root / "c" / "filtered" / f"{name}.examples.jsonl",
        )
    deduplicate = {"hash": "xxh3_128", "normalize": "none", "partitions": 4}
    table = root / "duplicates.csv"
    run(script, "deduplicate", corpora={"c": 2}, root=root, settings=deduplicate, table=table)
    for shard in range(2):
        name = f"{shard:05d}"
        decontaminated = root / "c" / "decontaminated" / f"{name}.keep.npy"
        run(
            script,
            "decontaminate",
            input=root / "c" / "filtered" / f"{name}.parquet",
            keep=root / "c" / "deduplicated" / f"{name}.keep.npy",
            benchmarks=tmp_path / "b",
            settings={"ngram": 13, "drop": True},
            output=decontaminated,
            report=root / "c" / "decontaminated" / f"{name}.json",
        )
        stem = root / "c" / "tokens" / name
        run(
            script,
            "tokenize_documents",
            input=root / "c" / "filtered" / f"{name}.parquet",
            keep=decontaminated,
            model=model_folder,
            settings={
                "token_quality": filters["token_quality"],
                "held_out": {"share": 0.2, "group_by": "text"},
            },
            tokens=f"{stem}.tokens",
            ends=f"{stem}.ends.npy",
            held_out=f"{stem}.held_out.parquet",
            manifest=f"{stem}.json",
            drops=f"{stem}.drops.csv",
            examples=f"{stem}.examples.jsonl",
        )
    return root


# The sentences are all alike but for their words.
LENIENT = {
    "top_ngram_character_share": {"2": 1.0},
    "duplicate_ngram_character_share": {"10": 1.0},
}


def run(script, name, **arguments) -> None:
    done = script(name, **arguments)
    assert done.returncode == 0, done.stderr


def test_every_document_is_accounted_for(script, corpus, tmp_path):
    run(script, "corpus_statistics", corpora={"c": 2}, root=corpus, output=tmp_path / "s.csv")
    with open(tmp_path / "s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table = {(row["stage"], row["rule"]): row for row in rows}
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    assert stages == ["raw", "filter", "duplicates", "contaminated", "token_quality", "held_out", "kept"]
    assert int(table["raw", ""]["documents"]) == 60
    for key in [("filter", "empty"), ("filter", "minimum_lines"), ("duplicates", "")]:
        assert table[key]["documents"] == "1"
    for key in [("contaminated", "found"), ("contaminated", "dropped")]:
        assert table[key]["documents"] == "1"
    assert int(table["held_out", ""]["documents"]) > 0
    gone = sum(int(row["documents"]) for row in rows[1:] if row["rule"] != "found")
    assert gone == 60
    tokens = sum(json.loads(path.read_text())["tokens"] for path in (corpus / "c" / "tokens").glob("*.json"))
    assert int(table["kept", ""]["tokens"]) == tokens
    assert table["kept", ""]["bytes"] != ""

    (corpus / "duplicates.csv").write_text("corpus,shard,documents,duplicates\nc,00000,30,9\n")
    done = script("corpus_statistics", corpora={"c": 2}, root=corpus, output=tmp_path / "s.csv")
    assert done.returncode == 1
    assert "60 documents were read, but the stages' tables account for 68" in done.stderr
