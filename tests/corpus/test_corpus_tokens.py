"""Tokens: the tokenizer's own ids, one EOS after each document, quality rules, held-out split."""

import csv
import itertools
import json
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages import TOKENIZED, files
from tokenizers import Tokenizer, models, normalizers, trainers

from cpt.config_sections import Filters, HeldOut, TokenQualityFilter
from cpt.corpus import quality, tokens
from cpt.corpus.quality import BINS, QualityHistogram, distinct_tokens, longest_runs, quality_of
from cpt.corpus.split import is_held_out
from cpt.corpus.tokenization import check_tokens
from cpt.corpus.tokens import ModelTokenizer, encode_long
from cpt.errors import DamagedFileError, UserError
from cpt.progress import NOTICE
from cpt.report.token_quality import read_bins, read_script_bounds
from held_out import held_out
from tokenize_documents import tokenize_documents


def sentence_piece_like() -> Tokenizer:
    """BPE over the whole text with a prefix and byte fallback, as in Llama's tokenizer.json."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["the rain in the plain is the same  rain again and again"] * 5, trainer)
    return tokenizer


def long_text(generator: random.Random, size: int) -> str:
    parts = [
        "the ",
        "rain",
        " again",
        "\n",
        "  ",
        "été",
        "日本",
        "\U0001f600",
        "x" * 9,
        ", ",
        "<|endoftext|>",
    ]
    return "".join(generator.choice(parts) for _ in range(size))


@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece"])
def test_long_documents_get_the_same_tokens(byte_level, kind, monkeypatch):
    tokenizer = byte_level if kind == "byte_level" else sentence_piece_like()
    monkeypatch.setattr(tokens, "WINDOW", 600)
    monkeypatch.setattr(tokens, "OVERLAP", 160)
    monkeypatch.setattr(tokens, "MARGIN", 40)
    generator = random.Random(0)
    texts = [long_text(generator, 1500) for _ in range(20)]
    texts += [
        "a" * 5000,
        "ab" * 2500,
        " " * 3000 + "rain " * 900 + "\n" * 2000,
        texts[0] + "x" * 2500 + texts[1],
    ]
    for text in texts:
        assert (
            np.concatenate([*encode_long(tokenizer, text)]).tolist()
            == tokenizer.encode(text, add_special_tokens=False).ids
        )


def test_long_text_is_encoded_in_windows(byte_level, monkeypatch):
    monkeypatch.setattr(tokens, "WINDOW", 600)
    monkeypatch.setattr(tokens, "OVERLAP", 160)
    monkeypatch.setattr(tokens, "MARGIN", 40)
    sizes = []
    encode = tokens._encode
    monkeypatch.setattr(tokens, "_encode", lambda t, text: sizes.append(len(text)) or encode(t, text))
    text = "the rain in the plain, again " * 500
    list(encode_long(byte_level, text))
    assert max(sizes) == 600
    assert len(sizes) == -(-(len(text) - 600) // 440) + 1


def test_special_strings_stay_text(model_folder):
    tokenizer = ModelTokenizer(model_folder)
    (ids,) = tokenizer.encode(["rain <|endoftext|> rain"])
    assert 0 not in ids
    assert tokenizer.tokenizer.decode(ids.tolist()) == "rain <|endoftext|> rain"
    assert (tokenizer.dtype, tokenizer.unknown_id) == (np.uint16, None)


def test_dropout_in_a_tokenizers_file_is_switched_off(save_model, byte_level, tmp_path, caplog):
    definition = json.loads(byte_level.to_str())
    definition["model"]["dropout"] = 0.2
    folder = save_model(tmp_path / "m", Tokenizer.from_str(json.dumps(definition)))
    random_one = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "the rain in the plain is the same rain again and again"
    assert len({tuple(random_one.encode(text).ids) for _ in range(5)}) > 1
    with caplog.at_level(NOTICE):
        tokenizer = ModelTokenizer(folder)
    assert "BPE dropout of 0.2 is switched off" in caplog.text
    encodings = {tuple(ids.tolist()) for _ in range(5) for ids in tokenizer.encode([text])}
    assert encodings == {tuple(byte_level.encode(text).ids)}
    tokenizer.use_fast([text])
    assert {tuple(ids.tolist()) for ids in tokenizer.encode([text] * 5)} == encodings
    assert tokenizer.count(text) == len(next(iter(encodings)))


def test_batches_keep_order(model_folder, monkeypatch):
    monkeypatch.setattr(tokens, "BATCH_BYTES", 50)
    monkeypatch.setattr(tokens, "LONGEST", 100)
    texts = ["rain " * n for n in (3, 0, 40, 1, 9, 9, 21)]
    tokenizer = ModelTokenizer(model_folder)
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        assert ids.tolist() == tokenizer.tokenizer.encode(text, add_special_tokens=False).ids


def test_large_vocabulary_takes_four_bytes(save_model, byte_level, tmp_path):
    assert ModelTokenizer(save_model(tmp_path / "m", byte_level, vocab_size=65_537)).dtype == np.uint32


def test_another_models_tokenizer_is_refused(save_model, byte_level, tmp_path):
    tokenizer = ModelTokenizer(save_model(tmp_path / "m", byte_level, vocab_size=100))
    with pytest.raises(UserError, match="vocab_size is 100; the tokenizer isn't this model's: take"):
        list(tokenizer.encode(["rain"]))


@pytest.mark.parametrize("eos", [None, [0, 2], "x"])
def test_eos_must_be_one_number(save_model, byte_level, tmp_path, eos):
    with pytest.raises(UserError, match=r"config.json: eos_token_id must be one whole number, .* import"):
        ModelTokenizer(save_model(tmp_path / "m", byte_level, eos_token_id=eos))


def test_eos_must_be_in_the_vocabulary(save_model, byte_level, tmp_path):
    message = r"config\.json: eos_token_id 999 is outside the vocabulary of 300; import the base model again"
    with pytest.raises(UserError, match=message):
        ModelTokenizer(save_model(tmp_path / "m", byte_level, eos_token_id=999, vocab_size=300))


def test_unknown_token_is_found(save_model, tmp_path):
    assert ModelTokenizer(save_model(tmp_path / "m", sentence_piece_like())).unknown_id == 1


def flat(documents: list) -> tuple[np.ndarray, np.ndarray]:
    """The ids of all documents, and where each ends."""
    return (
        np.array([number for ids in documents for number in ids], np.uint16),
        np.cumsum([len(ids) for ids in documents]),
    )


def test_distinct_tokens_by_hand():
    # The fourth has two windows: one distinct token in 1,000, ten in 10.
    documents = [[], [1, 2, 1, 2], [], [0] * 1000 + [*range(10)], [7] * 2000, []]
    assert distinct_tokens(*flat(documents)).tolist() == [0, 2, 0, 11, 2, 0]


@given(st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=1, max_size=6), st.integers(1, 4))
def test_measures_of_many_documents_equal_those_of_each(documents, window):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(quality, "WINDOW_TOKENS", window)
        measures = quality_of(*flat(documents), np.array([3 * len(ids) for ids in documents]), 5)
    for ids, per_token, unknown, distinct, run in zip(documents, *measures, strict=True):
        windows = [ids[begin : begin + window] for begin in range(0, len(ids), window)]
        assert per_token == (3 if ids else np.inf)
        assert unknown == (ids.count(5) / len(ids) if ids else 0)
        assert distinct == (sum(len(set(part)) for part in windows) / len(ids) if ids else 0)
        assert run == max((len(list(same)) for _, same in itertools.groupby(ids)), default=0)


@pytest.mark.parametrize(
    ("ids", "size", "rule"),
    [
        (range(10), 10, "minimum_bytes_per_token"),
        (range(10), 121, "maximum_bytes_per_token"),
        ([], 3, "maximum_bytes_per_token"),
        ([7, 1, 2], 12, "unknown"),
        ([1] * 100, 400, "distinct"),
        ([*range(100), *[7] * 101, *range(100)], 1204, "longest_run"),
        ([*range(100), *[7] * 100, *range(100)], 1200, None),
        (range(10), 40, None),
    ],
)
def test_quality_rules(config_filters, ids, size, rule):
    others = [range(10, 20)] * 2
    documents = flat([others[0], ids, others[1]])
    measures = quality_of(*documents, np.array([40, size, 40]), 7 if rule == "unknown" else None)
    thresholds = {**config_filters["token_quality"], "minimum_bytes_per_token": 1.5}
    before, drop, after = check_tokens(measures, TokenQualityFilter(**thresholds), np.full(3, 1.5))
    assert before is None and after is None
    assert (drop.rule if drop else None) == rule


@given(st.lists(st.lists(st.integers(0, 2), max_size=30), min_size=1, max_size=5))
def test_longest_runs_equal_the_plain_count(documents):
    expected = [max((len(list(run)) for _, run in itertools.groupby(ids)), default=0) for ids in documents]
    assert longest_runs(*flat(documents)).tolist() == expected


def test_histograms_of_shards_add_up(tmp_path):
    qualities = [
        quality_of(*flat([ids]), np.array([size]), 9)
        for ids, size in [([1, 2, 3], 6), ([], 4), ([4] * 700, 700), ([9, 1], 20), ([5, 5, 5], 6)]
    ]
    parts = [QualityHistogram() for _ in range(3)]
    for number, measures in enumerate(qualities):
        parts[number % 2].add(measures)
        parts[2].add(measures)
    sums = QualityHistogram()
    for number, part in enumerate(parts[:2]):
        part.write(tmp_path / f"{number}.csv")
        sums.add_file(tmp_path / f"{number}.csv")
    assert sums.lines() == parts[2].lines()
    assert sums.lines() == [
        "bytes_per_token,1.0,1.1,1",
        "bytes_per_token,2.0,2.1,2",
        "bytes_per_token,10.0,10.1,1",
        "bytes_per_token,16.0,,1",  # the document without tokens
        "unknown_share,0.0,1e-05,4",
        "unknown_share,0.398,0.631,1",
        "distinct_share,0.0,0.01,2",
        "distinct_share,0.33,0.34,1",
        "distinct_share,1.0,,2",
        "longest_run,0,1,1",
        "longest_run,1,2,2",
        "longest_run,3,4,1",
        "longest_run,512,768,1",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.partition("\n")[2], r"0\.csv: not a complete table; delete it and run again"),
        (
            lambda text: text[: len(text) // 2],
            r"0\.csv: (not a complete table|ends too early); delete it and",
        ),
        (lambda text: text.replace("0.0,0.01", "0.005,0.01"), r"0\.csv: not a complete table; delete it"),
        (lambda text: text.rpartition("longest_run")[0], r"0\.csv: ends too early; delete it and run again"),
        (lambda text: "", r"0\.csv: not a complete table; delete it and run again"),
    ],
)
def test_a_damaged_histogram_is_refused(tmp_path, change, message):
    part, path = QualityHistogram(), tmp_path / "0.csv"
    part.add(quality_of(*flat([[1, 2, 3], [4] * 700]), np.array([6, 700]), 9))
    part.write(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(DamagedFileError, match=message):
        QualityHistogram().add_file(path)


def test_bounds_of_scripts_are_kept_beside_the_bins(tmp_path):
    one, other = QualityHistogram(), QualityHistogram()
    for histogram in (one, other):
        histogram.add(quality_of(*flat([[1, 2, 3]]), np.array([3]), None))
    one.judged = {("Korean", 1.05): 3, ("Thai", 1.2): 1}
    other.judged = {("Korean", 1.05): 2}
    sums = QualityHistogram()
    for number, histogram in enumerate((one, other)):
        histogram.write(tmp_path / f"{number}.csv")
        sums.add_file(tmp_path / f"{number}.csv")
    assert sums.judged == {("Korean", 1.05): 5, ("Thai", 1.2): 1}
    rows = ["minimum_bytes_per_token,1.05,Korean,5", "minimum_bytes_per_token,1.2,Thai,1"]
    assert sums.lines()[-2:] == rows
    (tmp_path / "all.csv").write_text(
        "corpus,measure,from,to,documents\n" + "".join(f"c,{line}\n" for line in sums.lines())
    )
    assert read_script_bounds(tmp_path / "all.csv") == {"Korean": 1.05, "Thai": 1.2}
    assert "minimum_bytes_per_token" not in read_bins(tmp_path / "all.csv")


def test_bins_are_in_ascending_order():
    assert all(list(edges) == sorted(set(edges)) and edges[0] == 0 for edges in BINS.values())


def test_held_out_share():
    held = [is_held_out(f"page {n}".encode(), 0.1)[0] for n in range(20_000)]
    assert 0.09 < np.mean(held) < 0.11
    assert is_held_out(b"x", 1.0)[0]
    assert not is_held_out(b"x", 0.0)[0]


@pytest.fixture
def tokenize(save_table, model_folder, tmp_path, filters):
    def call(documents, keep=None, share=0.0):
        columns = dict(zip(("id", "url", "text"), map(list, zip(*documents, strict=True)), strict=True))
        filtered = save_table(tmp_path / "f.parquet", {"row": list(range(len(documents))), **columns})
        np.save(tmp_path / "keep.npy", np.ones(len(documents), bool) if keep is None else np.array(keep))
        thresholds, split = (
            Filters.model_validate(filters).token_quality,
            HeldOut(share=share, group_by="url"),
        )
        paths = files(tmp_path / "00000", TOKENIZED)
        tokenize_documents(filtered, tmp_path / "keep.npy", model_folder, thresholds, split, **paths)
        return paths

    return call


def test_tokens_and_ends(tokenize, model_folder):
    texts = ["the rain", "again and again\n" * 3, "dropped before", "日本 \x04 \x00 é", "é" * 400]
    paths = tokenize([(f"d{i}", None, text) for i, text in enumerate(texts)], np.array([1, 1, 0, 1, 1], bool))
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    expected = [tokenizer.encode(texts[i]).ids + [0] for i in (0, 1, 3)]
    ids = np.fromfile(paths["tokens"], "<u2")
    assert ids.tolist() == [number for part in expected for number in part]
    ends = np.load(paths["ends"])
    assert ends.dtype == np.uint64
    assert ends.tolist() == np.cumsum([len(part) for part in expected]).tolist()
    manifest = json.loads(paths["manifest"].read_text())
    assert (manifest["documents"], manifest["tokens"]) == (3, len(ids))
    assert manifest["bytes"] == sum(len(texts[i].encode()) for i in (0, 1, 3))
    with open(paths["drops"]) as file:
        table = {row["rule"]: (int(row["documents"]), int(row["tokens"])) for row in csv.DictReader(file)}
    assert table["distinct"][0] == 1  # the same letter 400 times
    with open(paths["quality"]) as file:
        bins = [(row["measure"], int(row["documents"])) for row in csv.DictReader(file)]
    assert [sum(n for name, n in bins if name == measure) for measure in BINS] == [4] * 4
    assert table["kept"] == (3, len(ids))
    for column in (0, 1):
        assert 2 * table["read"][column] == sum(row[column] for row in table.values())


def test_held_out_pages_are_never_trained_on(tokenize, tmp_path):
    documents = [(f"d{i}", f"page {i // 3}" if i % 2 else None, f"rain number {i} again") for i in range(300)]
    paths = tokenize(documents, share=0.3)
    held = pq.read_table(paths["held_out"]).to_pylist()
    manifest = json.loads(paths["manifest"].read_text())
    assert manifest["held_out_documents"] == len(held) > 0
    assert manifest["documents"] == 300 - len(held)
    pages = {row["url"] for row in held if row["url"]}
    assert {name for name, url, _ in documents if url in pages} <= {row["id"] for row in held}
    held_out("c", [paths["held_out"]] * 2, tmp_path / "h.parquet")
    merged = pq.read_table(tmp_path / "h.parquet").to_pylist()
    assert len(merged) == 2 * len(held)
    places = {page: [row["url"] for row in merged].index(page) for page in pages}
    assert max(places.values()) < len({row["group"] for row in merged}) < len(merged)


def test_nothing_held_out_is_an_error(tokenize, tmp_path):
    paths = tokenize([("a", None, "the rain")])
    with pytest.raises(UserError, match=r"corpus news: no document was held out; raise held_out\.share"):
        held_out("news", [paths["held_out"]], tmp_path / "h.parquet")


def test_a_keep_list_of_another_file_is_refused(tokenize, tmp_path):
    with pytest.raises(UserError, match=r"doesn't fit the 1 documents of .*; delete it and run again"):
        tokenize([("a", None, "the rain")], [True, False])
    assert not (tmp_path / "00000.tokens").exists()
