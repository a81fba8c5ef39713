"""Held-out tokens: the first so many of a corpus, with exactly their bytes, and windows over them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt.corpus.split import first_tokens
from cpt.corpus.tokens import ModelTokenizer
from cpt.errors import UserError
from cpt.token_windows import HeldOut, load_held_out
from held_out_tokens import held_out_tokens

TEXTS = ["the rain again", "", "Größe: 漢字 and <|endoftext|> as text", "x" * 100, "never reached"]


@pytest.fixture
def held_out(tmp_path):
    path = tmp_path / "held_out.parquet"
    pq.write_table(pa.table({"url": ["a"] * len(TEXTS), "text": TEXTS}), path)
    return path


def pieces(found: HeldOut) -> list[list[int]]:
    return [part.tolist() for part in np.split(found.tokens, found.ends[:-1])]


def test_the_tokens_are_the_models_and_special_strings_stay_text(model_folder, held_out):
    tokenizer = ModelTokenizer(model_folder)
    found = first_tokens(held_out, tokenizer, 10_000)
    texts = [text for text in TEXTS if text]
    assert pieces(found) == [ids.tolist() for ids in tokenizer.encode(texts)]
    assert found.bytes == sum(len(text.encode()) for text in texts)
    assert found.start_token == tokenizer.eos_token_id not in found.tokens.tolist()


def test_the_last_document_is_cut_at_a_character(model_folder, held_out):
    tokenizer = ModelTokenizer(model_folder)
    (first,) = tokenizer.encode(TEXTS[:1])
    for more in range(1, 12):
        found = first_tokens(held_out, tokenizer, len(first) + more)
        last = tokenizer.tokenizer.decode(pieces(found)[1], skip_special_tokens=False)
        assert TEXTS[2].startswith(last) and "\ufffd" not in last
        assert found.bytes == len((TEXTS[0] + last).encode())
        assert abs(len(found.tokens) - len(first) - more) <= 3
    assert len(first_tokens(held_out, tokenizer, len(first)).ends) == 1


def test_a_document_of_a_hundred_megabytes_is_only_read_as_far_as_needed(model_folder, tmp_path):
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"text": ["the rain " * (100 * 2**20 // 9)]}), path)
    assert len(first_tokens(path, ModelTokenizer(model_folder), 1_000).tokens) == 1_000


def test_each_token_is_predicted_once_after_at_least_one_token():
    found = HeldOut(np.array([1, 2, 3, 4, 5, 6, 7, 8, 9], np.uint32), np.array([5, 7, 9]), 9, 0)
    cut = [window.tolist() for window in found.windows(2)]
    assert cut == [[0, 1, 2], [2, 3, 4], [4, 5], [0, 6, 7], [0, 8, 9]]
    assert [window.tolist() for window in found.windows(100)] == [[0, 1, 2, 3, 4, 5], [0, 6, 7], [0, 8, 9]]


def test_the_stage_writes_the_same_bytes_each_time(model_folder, held_out, tmp_path):
    for name in ("a.npz", "b.npz"):
        held_out_tokens(held_out, model_folder, 20, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found, expected = (
        load_held_out(tmp_path / "a.npz"),
        first_tokens(held_out, ModelTokenizer(model_folder), 20),
    )
    assert pieces(found) == pieces(expected) and found.bytes == expected.bytes


def test_bad_files_are_told(model_folder, tmp_path):
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
