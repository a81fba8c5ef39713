"""Held-out tokens: the first tokens of a corpus, their exact bytes, and windows over them."""

import csv
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt.config_sections import HeldOut as HeldOutSettings
from cpt.corpus.split import first_tokens, gathered, is_held_out, split_key
from cpt.corpus.tokens import ModelTokenizer
from cpt.errors import UserError
from cpt.token_windows import HeldOut, load_held_out
from held_out_overlap import held_out_overlap
from held_out_tokens import held_out_tokens

TEXTS = ["the rain again", "", "Größe: 漢字 and <|endoftext|> as text", "x" * 100, "never reached"]


@pytest.fixture
def held_out(tmp_path):
    path = tmp_path / "held_out.parquet"
    pq.write_table(pa.table({"url": ["a"] * len(TEXTS), "text": TEXTS}), path)
    return path


def pieces(tokens: HeldOut) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens.tokens, tokens.ends[:-1])]


def test_the_tokens_are_the_models_and_special_strings_stay_text(model_folder, held_out):
    tokenizer = ModelTokenizer(model_folder)
    tokens = first_tokens(held_out, tokenizer, 10_000)
    texts = [text for text in TEXTS if text]
    assert pieces(tokens) == [ids.tolist() for ids in tokenizer.encode(texts)]
    assert tokens.bytes.tolist() == [len(text.encode()) for text in texts]
    assert tokens.groups.tolist() == [0, 2, 3, 4]
    assert tokens.start_token == tokenizer.eos_token_id not in tokens.tokens.tolist()


def test_the_last_document_is_cut_at_a_character(model_folder, held_out, monkeypatch):
    monkeypatch.setattr("cpt.corpus.split.DOCUMENTS", 1)
    tokenizer = ModelTokenizer(model_folder)
    (first,) = tokenizer.encode(TEXTS[:1])
    for more in range(1, 12):
        tokens = first_tokens(held_out, tokenizer, len(first) + more)
        last = tokenizer.tokenizer.decode(pieces(tokens)[1], skip_special_tokens=False)
        assert TEXTS[2].startswith(last) and "\ufffd" not in last
        assert tokens.bytes.tolist() == [len(TEXTS[0]), len(last.encode())]
        assert abs(len(tokens.tokens) - len(first) - more) <= 3
    assert len(first_tokens(held_out, tokenizer, len(first)).ends) == 1


def test_a_document_of_a_hundred_megabytes_is_only_read_as_far_as_needed(model_folder, tmp_path):
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"text": ["the rain " * (100 * 2**20 // 9)]}), path)
    assert len(first_tokens(path, ModelTokenizer(model_folder), 1_000).tokens) == 1_000


def test_each_token_is_predicted_once_after_at_least_one_token():
    tokens = HeldOut(
        np.array([1, 2, 3, 4, 5, 6, 7, 8, 9], np.uint32), np.array([5, 7, 9]), np.array([5, 2, 2]), 0
    )
    cut = [window.tolist() for window in tokens.windows(2)]
    assert cut == [[0, 1, 2], [2, 3, 4], [4, 5], [0, 6, 7], [0, 8, 9]]
    assert tokens.owners(2) == [0, 0, 0, 1, 2]
    assert [window.tolist() for window in tokens.windows(100)] == [[0, 1, 2, 3, 4, 5], [0, 6, 7], [0, 8, 9]]


def test_the_stage_writes_the_same_bytes_each_time(model_folder, held_out, tmp_path):
    for name in ("a.npz", "b.npz"):
        held_out_tokens(held_out, model_folder, 20, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    written, expected = (
        load_held_out(tmp_path / "a.npz"),
        first_tokens(held_out, ModelTokenizer(model_folder), 20),
    )
    assert pieces(written) == pieces(expected) and written.bytes.tolist() == expected.bytes.tolist()
    assert written.groups.tolist() == expected.groups.tolist()


# ------------------------------------------------------------------------------------- sampled across groups
@pytest.fixture
def one_huge_group(save_table, tmp_path):
    """Shards of 40 held-out files with one document each, and a file with 500."""
    documents = [(n, f"single {n}", paragraph(n, 12)) for n in range(40)]
    documents += [(40, f"huge {n:03}", paragraph(1_000 + n, 12)) for n in range(500)]
    random.Random(1).shuffle(documents)
    keys = [is_held_out(f"file {group}".encode(), 1.0)[1] for group in range(41)]

    def shards(count: int) -> list[Path]:
        paths = []
        for number in range(count):
            mine = documents[number::count]
            columns = {
                "order": np.array([keys[group] for group, *_ in mine], np.uint64),
                "id": [name for _, name, _ in mine],
                "url": [f"file {group}" for group, *_ in mine],
                "text": [text for *_, text in mine],
            }
            paths.append(save_table(tmp_path / f"{count}-{number}.parquet", columns))
        return paths

    return shards


def test_any_prefix_has_one_document_of_each_group_first(one_huge_group):
    table = gathered(one_huge_group(3), "manuals")
    rows = table.to_pylist()
    assert len({row["group"] for row in rows[:41]}) == 41 and len(rows) == 540
    groups = [row["group"] for row in rows]
    assert groups[:41] == list(range(41)) and len(set(groups[41:])) == 1
    assert {row["url"] for row in rows[41:]} == {"file 40"}
    # Which document comes first depends neither on the order of the names nor on the shards.
    assert [row["id"] for row in rows[41:]] != sorted(row["id"] for row in rows[41:])
    for count in (1, 7):
        assert gathered(one_huge_group(count), "manuals").equals(table)


def test_no_document_takes_more_than_a_sixtieth_where_there_are_enough(model_folder, save_table, tmp_path):
    texts = [paragraph(n, 2_000 if n % 2 else 20) for n in range(100)]
    path = save_table(tmp_path / "held_out.parquet", {"group": np.arange(100), "text": texts})
    tokenizer = ModelTokenizer(model_folder)
    tokens = first_tokens(path, tokenizer, 1_500)
    assert max(tokens.predicted) <= 25 and tokens.predicted.sum() == pytest.approx(1_500, abs=3)
    assert tokens.group_count >= 60
    for text, ids, size in zip(texts, pieces(tokens), tokens.bytes, strict=False):
        assert tokenizer.tokenizer.decode(ids) == text.encode()[:size].decode()
    # With few documents, each gives more tokens, until there are enough.
    path = save_table(tmp_path / "few.parquet", {"text": texts[1:10:2]})
    tokens = first_tokens(path, tokenizer, 1_500)
    assert len(tokens.ends) == 4 and tokens.predicted.tolist()[:3] == [400, 400, 400]


def test_few_groups_are_a_warning(model_folder, save_table, tmp_path, caplog):
    for groups, warned in ((29, True), (30, False)):
        columns = {"group": np.arange(60) % groups, "text": [paragraph(n, 20) for n in range(60)]}
        path = save_table(tmp_path / "held_out.parquet", columns)
        caplog.clear()
        held_out_tokens(path, model_folder, 10_000, tmp_path / "a.npz")
        assert (f"60 documents of {groups} groups, and below 30 groups" in caplog.text) == warned


def test_bad_files_are_reported(model_folder, tmp_path):
    tokenizer, path = ModelTokenizer(model_folder), tmp_path / "held_out.parquet"
    pq.write_table(pa.table({"body": ["x"]}), path)
    with pytest.raises(
        UserError, match=r"held_out\.parquet: there is no column 'text'; its columns are body"
    ):
        first_tokens(path, tokenizer, 10)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    with pytest.raises(UserError, match=r"no text to score; raise held_out\.share"):
        first_tokens(path, tokenizer, 10)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a complete parquet file"):
        first_tokens(path, tokenizer, 10)
    with pytest.raises(UserError, match=r"held_out\.parquet: not held-out tokens \(.*\); delete it and run"):
        load_held_out(path)
    pq.write_table(pa.table({"text": ["The rain in the plain."]}), path)
    path, tokens = path.with_suffix(".npz"), first_tokens(path, tokenizer, 10)
    tokens.save(path)
    for size in (0, 3, 60, path.stat().st_size - 1):
        path.with_name("cut.npz").write_bytes(path.read_bytes()[:size])
        with pytest.raises(UserError, match=r"cut\.npz: not held-out tokens"):
            load_held_out(path.with_name("cut.npz"))


# ------------------------------------------------------------------------------------- overlap with training
def paragraph(seed: int, words: int = 60) -> str:
    chance = random.Random(seed)
    return " ".join("".join(chance.choices("abcdefghij", k=chance.randint(3, 8))) for _ in range(words))


def run_overlap(
    save_table, root: Path, corpora: dict[str, list[tuple[str, str]]], split: HeldOutSettings, **options
):
    """Run the stage on one shard of (url, text) per corpus; returns the table, report and kept urls."""
    files, keeps, kept = [], [], []
    for corpus, rows in corpora.items():
        columns = {
            "id": [url for url, _ in rows],
            "url": [url for url, _ in rows],
            "text": [t for _, t in rows],
        }
        columns["bytes"] = np.array([len(text.encode()) for _, text in rows], np.int64)
        files.append(save_table(root / f"{corpus}.parquet", columns))
        keeps.append(root / f"{corpus}.npy")
        np.save(keeps[-1], np.ones(len(rows), bool))
        kept.append(root / f"{corpus}.kept.npy")
    trained = options.get("trained", list(corpora))
    held_out_overlap(
        dict.fromkeys(corpora, 1),
        files,
        keeps,
        dict.fromkeys(corpora, split),
        options.get("measured", list(corpora)),
        trained,
        root / "overlap.csv",
        root / "overlap.json",
        kept if split.drop_overlap else (),
    )
    with open(root / "overlap.csv", newline="") as file:
        table = list(csv.DictReader(file))
    stays = {
        url
        for (_, rows), path in zip(corpora.items(), kept, strict=True)
        if path.exists()
        for (url, _), stay in zip(rows, np.load(path), strict=True)
        if stay
    }
    return table, json.loads((root / "overlap.json").read_text()), stays


def urls(share: float, held: bool, count: int) -> list[str]:
    """Addresses that are held out, or that aren't."""
    addresses = (f"https://x.org/{n}" for n in range(10_000))
    return list(itertools.islice((u for u in addresses if is_held_out(u.encode(), share)[0] == held), count))


def test_overlap_is_measured_by_document_and_over_all(save_table, tmp_path):
    split = HeldOutSettings(share=0.2, group_by="url")
    (whole, half, alone), training = urls(0.2, True, 3), urls(0.2, False, 4)
    first, second = paragraph(1), paragraph(2)
    rows = [
        (whole, first),
        (half, second),
        (alone, paragraph(3)),
        (training[0], f"{paragraph(4)} {first.upper()}, {paragraph(5)}"),
        (training[1], " ".join(second.split()[:30]) + " " + paragraph(6)),
        (training[2], " ".join(second.split()[20:40])),
        (training[3], paragraph(7)),
    ]
    table, report, _ = run_overlap(save_table, tmp_path, {"one": rows}, split)
    assert [row["url"] for row in table] == [whole, half, alone]
    assert [row["ngrams"] for row in table] == ["48"] * 3
    # The first 30 words hold 18 n-grams and words 20 to 40 hold 8, all different.
    assert [row["shared"] for row in table] == ["48", str(18 + 8), "0"]
    assert [row["closest"] for row in table] == [training[0], training[1], ""]
    assert [float(row["closest_share"]) for row in table] == [1, 18 / 48, 0]
    assert (report["ngrams"], report["shared"]) == (144, 74)
    assert report["corpora"] == {"one": {"documents": 3, "ngrams": 144, "shared": 74}}
    assert report["dropped"] == {"one": {"documents": 0, "bytes": 0}}


def test_overlapping_documents_are_removed_from_training(save_table, tmp_path):
    held, training = urls(0.2, True, 2), urls(0.2, False, 3)
    text = paragraph(1)
    most, little = " ".join(text.split()[:45]), " ".join(text.split()[:20]) + " " + paragraph(2)
    corpora = {
        "one": [(held[0], text), (training[0], most), (training[1], little)],
        "two": [(training[2], text)],
    }
    for limit, stay, shared in ((0.5, {held[0], training[1]}, 8), (0.1, {held[0]}, 0)):
        split = HeldOutSettings(share=0.2, group_by="url", drop_overlap=limit)
        _, report, stays = run_overlap(save_table, tmp_path / str(limit), corpora, split, measured=["one"])
        assert stays == stay
        # Removed documents no longer count as training text.
        assert report["corpora"] == {"one": {"documents": 1, "ngrams": 48, "shared": shared}}
        dropped = report["dropped"]
        assert dropped["two"] == {"documents": 1, "bytes": len(text)}
        assert dropped["one"]["documents"] == 3 - len(stay)
    # A corpus that isn't trained on is skipped.
    _, report, _ = run_overlap(save_table, tmp_path / "x", corpora, split, measured=["one"], trained=[])
    assert report["shared"] == 0


def test_long_documents_and_short_ones(save_table, tmp_path, monkeypatch):
    monkeypatch.setattr("cpt.corpus.overlap.PART_WORDS", 100)
    held, training = urls(0.2, True, 2), urls(0.2, False, 1)
    rows = [
        (held[0], paragraph(1, 90)),
        (held[1], "a few words"),
        (training[0], paragraph(2, 300) + " " + paragraph(1, 90)),
    ]
    table, report, _ = run_overlap(
        save_table, tmp_path, {"one": rows}, HeldOutSettings(share=0.2, group_by="url")
    )
    by_url = {row["url"]: row for row in table}
    assert by_url[held[1]]["ngrams"] == "0" and report["ngrams"] == 78
    assert 0.9 * 78 - 12 <= report["shared"] <= 78  # n-grams that span two parts aren't found


def test_documents_of_a_folder_stay_together():
    text = np.frombuffer(b"text", np.uint8)

    def key(how: str, url: str) -> bytes:
        return bytes(split_key(how, np.frombuffer(url.encode(), np.uint8), text))

    assert key("folder", "manuals/a/one.html") == key("folder", "manuals/a/two.html") == b"manuals/a/"
    assert key("folder", "manuals/b/one.html") == b"manuals/b/"
    assert key("folder", "alone.md") == key("url", "alone.md") == b"alone.md"
    assert key("text", "alone.md") == key("folder", "") == key("url", "") == b"text"
