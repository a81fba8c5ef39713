"""Overlap of documents with evaluation items."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest

from cpt.config_sections import Decontaminate
from cpt.corpus.contamination import CLASS_SHIFT, Hit, Items, small_letters
from cpt.corpus.words import MARK, WORD, classes, words_of
from cpt.errors import UserError
from decontaminate import decontaminate

LONG = "Which of these animals, when frightened, will change its colour to hide from other animals nearby?"
SHORT = "A chameleon can change colour to hide itself"  # 8 words
TINY = "It changes its colour at will"  # 6 words


@pytest.fixture
def items(save_table, tmp_path):
    def make(entries, n=13) -> Items:
        tasks, numbers, texts = zip(*entries, strict=True)
        path = tmp_path / "benchmarks" / "items.parquet"
        save_table(path, {"task": list(tasks), "item": list(numbers), "text": list(texts)})
        return Items([path], n)

    return make


def test_a_file_without_items_is_refused(save_table, tmp_path):
    columns = {"task": pa.string(), "item": pa.int64(), "text": pa.string()}
    path = tmp_path / "items.parquet"
    save_table(path, {name: pa.array([], kind) for name, kind in columns.items()})
    whole = save_table(tmp_path / "whole.parquet", {"task": ["arc"], "item": [3], "text": [LONG]})
    with pytest.raises(
        UserError, match=rf"items\.parquet: holds no evaluation items; delete {tmp_path} and run"
    ):
        Items([whole, path], 13)


def test_case_and_punctuation_do_not_matter(items):
    index = items([("arc", 3, LONG), ("arc", 4, SHORT), ("piqa", 0, TINY)])
    disguised = LONG.upper().replace(",", " -- ").replace(" ", "\n")
    hits = index.hits(f"Before. {disguised} After.")
    assert hits == [Hit(0, "which of these animals when frightened will change its colour to hide from")]
    assert index.names[hits[0].item] == ("arc", 3)


def test_short_items_match_as_a_whole_or_not_at_all(items):
    index = items([("arc", 4, SHORT), ("piqa", 0, TINY)])
    assert index.hits(f"{TINY}. {TINY}!") == []
    assert [hit.item for hit in index.hits(f"We say: {SHORT.lower()}.")] == [0]
    assert index.hits(SHORT.removesuffix(" itself")) == []


def test_twelve_words_in_common_are_not_enough(items):
    index = items([("arc", 3, LONG)])
    assert index.hits(" ".join(LONG.split()[:12]) + " something else") == []
    assert len(index.hits(" ".join(LONG.split()[:13]))) == 1


def test_equal_items_are_both_hit(items):
    assert [hit.item for hit in items([("arc", 3, LONG), ("mmlu", 9, LONG)]).hits(LONG)] == [0, 1]


@pytest.mark.parametrize("letters", ["abc", "的一是", "ab的"])
@pytest.mark.parametrize(("part_words", "n"), [(2, 9), (13, 13), (2**21, 12), (2**21, 5)])
def test_against_a_plain_reference(items, monkeypatch, part_words, n, letters):
    monkeypatch.setattr("cpt.corpus.contamination.PART_WORDS", part_words)
    generator = random.Random(0)

    def text(size):
        return " ".join(generator.choice(letters) for _ in range(size))

    entries = [("t", number, text(generator.randint(3, n + 3))) for number in range(30)]
    index = items(entries, n)
    for _ in range(40):
        copied = generator.choice(entries)[2]
        document = words_of(f"{text(30)} {copied} {text(30)}")
        expected = []
        for number, (_, _, item) in enumerate(entries):
            own = words_of(item)
            length = min(n, len(own))
            grams = {tuple(own[i : i + length]) for i in range(len(own) - length + 1)}
            here = {tuple(document[i : i + length]) for i in range(len(document) - length + 1)}
            if length >= min(8, n) and grams & here:
                expected.append(number)
        assert [hit.item for hit in index.hits(" ".join(document))] == expected


def test_items_of_several_files_count_once(save_table, tmp_path):
    """The seven test sets and another task may share items, as mmlu and mmlu_stem do."""
    first = {"task": ["mmlu_x", "mmlu_y"], "item": [0, 0], "text": [LONG, TINY]}
    second = {"task": ["mmlu_x", "mmlu_x", "own"], "item": [0, 0, 5], "text": [LONG, SHORT, LONG]}
    paths = [
        save_table(tmp_path / name / "items.parquet", rows)
        for name, rows in zip("ab", (first, second), strict=True)
    ]
    index = Items(paths, 13)
    assert index.names == [("mmlu_x", 0), ("mmlu_y", 0), ("mmlu_x", 0), ("own", 5)]
    assert [hit.item for hit in index.hits(f"{LONG} {SHORT}")] == [0, 2, 3]
    assert index.counts() == {"mmlu_x": (2, 0), "mmlu_y": (1, 1), "own": (1, 0)}


CHINESE = "当汽车靠近时,警报声听起来会变高;汽车驶离后,声音又会变低。这种现象叫什么?多普勒效应。"
THAI = "เมื่อรถเข้ามาใกล้เสียงไซเรนจะสูงขึ้น และเมื่อรถแล่นออกไปเสียงจะต่ำลง"


@pytest.mark.parametrize("item", [CHINESE, THAI])
def test_items_in_scripts_without_spaces(items, item):
    index = items([("own", 3, item)])
    assert index.counts() == {"own": (1, 0)}
    before, after = "我们先来看一个例子", "接下来是别的内容"
    for document in (item, f"{before}{item}{after}", f"{before}。{item}\n{after}"):
        (hit,) = index.hits(document)
        assert hit.item == 0 and len(hit.ngram.split()) == 13
        assert hit.ngram.replace(" ", "") in "".join(words_of(document, punctuation=False))
    assert index.hits(f"{before}{item[:12]}{after}{item[-8:]}") == []


def test_equal_hashes_are_confirmed_by_text(items):
    index = items([("arc", 3, LONG)])
    index.texts[0] = b"other words under the same hashes " * 5
    assert index.hits(LONG) == []


def test_small_letters():
    table, kinds = small_letters(), classes()
    for code in range(0x110000):
        letter = chr(code)
        if letter in "\u03a3\u0130":  # a capital sigma, and the one whose small form is two characters
            assert table[code] == 1
            continue
        small = ord(letter.lower())
        kind = int(kinds[small])
        above = kind << int(CLASS_SHIFT) if kind >= MARK else 0
        assert table[code] == (small + above if kind == WORD or kind >= MARK else 0)


def test_letters_without_a_small_one_of_their_own(items):
    text = "ΟΔΥΣΣΕΥΣ και İSTANBUL, " + " ".join("ABCDEF")
    index = items([("arc", 3, text)], n=8)
    for document in (text, text.lower(), f"Before: {text.swapcase()}", f"{text} after"):
        assert [hit.ngram for hit in index.hits(document)] == ["οδυσσευς και i\u0307stanbul a b c d e"]


def test_missing_column(save_table, tmp_path):
    path = save_table(tmp_path / "items.parquet", {"task": ["x"], "text": ["y"]})
    with pytest.raises(UserError, match=r"items.parquet: lacks the column\(s\) item"):
        Items([path], 13)


@pytest.mark.parametrize("drop", [False, True])
def test_stage(save_table, tmp_path, drop):
    save_table(
        tmp_path / "benchmarks" / "items.parquet",
        {"task": ["arc", "piqa"], "item": [7, 0], "text": [LONG, SHORT]},
    )
    own = {"task": ["own", "own"], "item": [0, 1], "text": [CHINESE, TINY]}
    save_table(tmp_path / "tasks" / "own" / "items.parquet", own)
    filtered = save_table(
        tmp_path / "filtered.parquet",
        {
            **{"row": [0, 2, 5, 6], "id": ["a", "b", None, "d"], "url": [None] * 4},
            "text": [LONG, "clean", f"x {LONG}", f"好{CHINESE}"],
        },
    )
    (tmp_path / "unique").mkdir()
    np.save(tmp_path / "unique" / "00003.keep.npy", np.array([False, True, True, True]))
    settings, outputs = Decontaminate(ngram=13, drop=drop), (tmp_path / "out.npy", tmp_path / "report.json")
    folders = (tmp_path / "unique", tmp_path / "benchmarks")
    decontaminate("00003", filtered, *folders, settings, *outputs, tasks=[tmp_path / "tasks" / "own"])
    report = json.loads((tmp_path / "report.json").read_text())
    assert np.load(tmp_path / "out.npy").tolist() == [False, True, not drop, not drop]
    assert [report[key] for key in ("documents", "contaminated", "dropped")] == [3, 2, 2 * drop]
    assert [(hit["row"], hit["id"], hit["task"], hit["item"]) for hit in report["hits"]] == [
        (5, None, "arc", 7),
        (6, "d", "own", 0),
    ]
    assert report["items"] == {
        "arc": {"items": 1, "too_short": 0, "touched": 1},
        "piqa": {"items": 1, "too_short": 0, "touched": 0},
        "own": {"items": 2, "too_short": 1, "touched": 1},
    }
