"""gigatoken gives the ids of Hugging Face tokenizers, or a warning says why it isn't used."""

import hashlib
import json
import logging
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stages import TOKENIZED, files
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from cpt.config_sections import Filters, HeldOut
from cpt.corpus import fast_tokens, tokens
from cpt.corpus.fast_tokens import FastEncoder, digit_cuts, first_difference, hostile_strings
from cpt.corpus.tokens import ModelTokenizer
from tokenize_documents import tokenize_documents

TEXT = [
    "the rain in the plain is the same rain again and again",
    "it's 2024, we'll see  x\n\n  y ½ é 日本",
    "a\n\n\nb    c",
    "== a == b == c == d",
]
LACKING = [chr(256 + 4), "õ", "ö", "÷"]  # GPT-2's letters for the bytes 0x04, 0xF5, 0xF6 and 0xF7


def byte_level(steps: list, alphabet: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + 60,
        special_tokens=["<|endoftext|>", "<|im_start|>"],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 5, trainer)
    return tokenizer


def smollm2_like() -> Tokenizer:
    """Single digits, and bytes without a token."""
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return byte_level(steps, sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(LACKING)))


def gpt2_like() -> Tokenizer:
    return byte_level(
        [pre_tokenizers.ByteLevel(add_prefix_space=False)], sorted(pre_tokenizers.ByteLevel.alphabet())
    )


def llama_like() -> Tokenizer:
    """BPE over the whole text with a prefix and byte fallback."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 5, trainer)
    # Llama's file marks only its control tokens as special; the trainer marks the bytes too.
    definition = json.loads(tokenizer.to_str())
    definition["added_tokens"] = definition["added_tokens"][:2]
    return Tokenizer.from_str(json.dumps(definition))


KINDS = {"gpt2": gpt2_like, "smollm2": smollm2_like, "llama": llama_like}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, save_model, tmp_path_factory) -> tuple[ModelTokenizer, ModelTokenizer]:
    """The same tokenizer twice: with gigatoken and without."""
    folder = save_model(tmp_path_factory.mktemp("m") / request.param, KINDS[request.param]())
    fast, slow = ModelTokenizer(folder), ModelTokenizer(folder)
    assert fast.use_fast(TEXT)
    assert fast.encoder.startswith("gigatoken ")
    assert slow.encoder.startswith("tokenizers ")
    return fast, slow


def left_by(tokenizer: ModelTokenizer, texts: list[str]) -> list[bool]:
    """Which texts gigatoken leaves to Hugging Face tokenizers."""
    return tokenizer.fast.encode([text.encode() for text in texts])[2].tolist()


def equal(pair, texts) -> bool:
    fast, slow = (list(tokenizer.encode(texts)) for tokenizer in pair)
    assert all(ids.dtype == np.dtype("<u2") for ids in fast)
    return [ids.tolist() for ids in fast] == [ids.tolist() for ids in slow]


def test_hostile_strings(pair):
    texts = hostile_strings(["<|endoftext|>", "</s>"])
    assert len(texts) > 500
    assert texts == hostile_strings(["<|endoftext|>", "</s>"])
    assert equal(pair, texts)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.text(
            st.one_of(
                st.sampled_from(" \n\t\r19²½३a's.\u3000\x04\x1c"), st.characters(exclude_categories=["Cs"])
            )
        )
    )
)
def test_any_text(pair, texts):
    assert equal(pair, texts)


def test_special_strings_stay_text(pair):
    for tokenizer in pair:
        (ids,) = tokenizer.encode(["rain <|endoftext|></s> rain"])
        assert 0 not in ids
        assert len(ids) > 15  # characters and bytes, not control tokens


def test_bytes_without_a_token_are_left_to_hugging_face(save_model, tmp_path):
    fast = ModelTokenizer(save_model(tmp_path / "m", smollm2_like()))
    assert fast.use_fast(TEXT)
    # Without its byte 0x04, "=\x04=" is "==", which has a token of its own.
    texts = ["==", "=\x04=", "", "\x04"]
    assert left_by(fast, texts) == [False, True, False, True]
    first, second, *rest = fast.encode(texts)
    assert len(first) == 1
    assert first.tolist() == second.tolist()
    assert [len(ids) for ids in rest] == [0, 0]


def test_long_runs_are_left_to_hugging_face(pair, monkeypatch):
    monkeypatch.setattr(fast_tokens, "LONGEST_RUN", 50)
    texts = ["a" * 51, "a" * 50, "a " * 50, "rain " + "b" * 60 + " rain"]
    assert left_by(pair[0], texts) == [True, False, False, True]
    assert equal(pair, texts)


def test_gigatokens_memory_is_renewed(pair, monkeypatch):
    monkeypatch.setattr(fast_tokens, "RENEWED_AFTER", 100)
    loaded = []
    fast = pair[0].fast
    load = fast._load
    monkeypatch.setattr(fast, "_load", lambda: loaded.append(1) or load())
    monkeypatch.setattr(tokens, "BATCH_BYTES", 30)
    assert equal(pair, ["the rain number 7 again  12"] * 20)
    assert 4 <= len(loaded) <= 6


def refused(save_model, folder, tokenizer, caplog, sample=TEXT) -> str:
    model = ModelTokenizer(save_model(folder, tokenizer))
    with caplog.at_level(logging.WARNING):
        assert not model.use_fast(sample)
    assert model.encoder.startswith("tokenizers ")
    assert [ids.tolist() for ids in model.encode(TEXT)] == [
        tokenizer.encode(text, add_special_tokens=False).ids for text in TEXT
    ]
    (record,) = caplog.records
    assert "encoding with Hugging Face tokenizers, as gigatoken " in record.getMessage()
    return record.getMessage()


def test_unknown_kinds_fall_back(save_model, tmp_path, caplog):
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *((letter, -1.0) for letter in " theraing")], 0))
    assert "doesn't know models of type Unigram" in refused(save_model, tmp_path / "m", tokenizer, caplog)


def test_refusals_fall_back(save_model, tmp_path, caplog):
    tokenizer = gpt2_like()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    message = refused(save_model, tmp_path / "m", tokenizer, caplog)
    assert "refuses this tokenizer or text: Unsupported pre_tokenizer" in message


def test_merged_digits_fall_back(save_model, tmp_path, caplog):
    definition = json.loads(smollm2_like().to_str())
    definition["model"]["vocab"]["20"] = len(definition["model"]["vocab"])
    definition["model"]["merges"].append(["2", "0"])
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    assert "merges of digits" in refused(save_model, tmp_path / "m", tokenizer, caplog)


def test_other_ids_fall_back(save_model, tmp_path, caplog, monkeypatch):
    """A document of the sample can reveal a wrong id, as the hostile strings can."""
    encode = FastEncoder.encode

    def wrong(self, texts):
        ids, ends, left = encode(self, texts)
        ids = ids.copy()
        for number in (n for n, text in enumerate(texts) if b"the same rain" in text):
            ids[ends[number - 1] : ends[number]] += 1
        return ids, ends, left

    monkeypatch.setattr(FastEncoder, "encode", wrong)
    message = refused(save_model, tmp_path / "m", gpt2_like(), caplog)
    assert f"gives other ids for 1 of {len(hostile_strings(['', ''])) + len(TEXT)} texts" in message
    assert "'the rain in the plain is the same rain" in message


def test_a_panic_falls_back(save_model, tmp_path, caplog, monkeypatch):
    class Panic(BaseException):
        pass

    def panic(self, pieces):
        raise Panic("index out of bounds")

    monkeypatch.setattr(FastEncoder, "_ids", panic)
    assert "index out of bounds" in refused(save_model, tmp_path / "m", gpt2_like(), caplog)


def test_a_failure_after_the_proof_falls_back(save_model, tmp_path, caplog, monkeypatch):
    tokenizer = gpt2_like()
    model = ModelTokenizer(save_model(tmp_path / "m", tokenizer))
    assert model.use_fast(TEXT)

    def fail(self, pieces):
        raise RuntimeError("no more")

    monkeypatch.setattr(FastEncoder, "_ids", fail)
    encoded = [ids.tolist() for ids in model.encode(TEXT)]
    assert encoded == [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXT]
    assert "going on with Hugging Face tokenizers" in caplog.text
    assert "no more" in caplog.text
    assert model.encoder.startswith("tokenizers ")


def test_without_gigatoken(save_model, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    assert "can't be imported" in refused(save_model, tmp_path / "m", gpt2_like(), caplog)


def test_an_interrupt_is_not_treated_as_a_refusal(monkeypatch):
    def interrupt(self, pieces):
        raise KeyboardInterrupt

    monkeypatch.setattr(FastEncoder, "_ids", interrupt)
    with pytest.raises(KeyboardInterrupt):
        FastEncoder(json.loads(gpt2_like().to_str())).encode([b"a"])


def test_an_encoder_that_leaves_everything_is_no_use():
    class Useless(FastEncoder):
        def __init__(self):
            pass

        def encode(self, texts):
            return np.empty(0, np.uint32), np.zeros(len(texts), np.int64), np.ones(len(texts), bool)

    reference = [np.zeros(1, np.uint16)] * 2
    assert first_difference(Useless(), lambda texts: reference, ["a", "b"]) is not None


def test_definition_without_padding_is_refused():
    """Why the definition is padded: gigatoken requires a token for every byte."""
    import gigatoken

    definition = json.loads(smollm2_like().to_str())
    definition["pre_tokenizer"] = definition["pre_tokenizer"]["pretokenizers"][1]
    with pytest.raises(RuntimeError, match="no single-byte vocab entry"):
        gigatoken.Tokenizer.from_json(json.dumps(definition))


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_write_the_same_bytes(save_model, save_table, filters, tmp_path, caplog, kind):
    model = save_model(tmp_path / "model", KINDS[kind]())
    texts = [text for text in hostile_strings(["<|endoftext|>", "</s>"]) if text] + TEXT
    columns = {"row": list(range(len(texts))), "id": [f"d{i}" for i in range(len(texts))], "text": texts}
    filtered = save_table(tmp_path / "f.parquet", {**columns, "url": [None] * len(texts)})
    np.save(tmp_path / "keep.npy", np.ones(len(texts), bool))
    thresholds, split = Filters.model_validate(filters).token_quality, HeldOut(share=0.1, group_by="url")
    sums = {}
    for encoder in ("fastest", "tokenizers"):
        paths = files(tmp_path / encoder / "0", TOKENIZED)
        keep = tmp_path / "keep.npy"
        tokenize_documents(filtered, keep, model, thresholds, split, **paths, encoder=encoder)
        assert "gigatoken" not in caplog.text
        manifest = json.loads(paths["manifest"].read_text())
        assert ("gigatoken" in manifest.pop("provenance")["encoder"]) == (encoder == "fastest")
        paths["manifest"].write_text(json.dumps(manifest))
        sums[encoder] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths.values()]
    assert sums["fastest"] == sums["tokenizers"]


SPACES = [chr(code) for code in range(0x110000) if chr(code).isspace() and not 0x1C <= code <= 0x1F]


def test_cuts_are_where_the_definition_puts_them():
    """After two white spaces before a digit, within a text; around numbers outside ASCII."""
    pairs = [first + second for first in [*SPACES, "a", "–", "π"] for second in [*SPACES, "é"]]  # noqa: RUF001
    texts = [f"x{pair}7" for pair in pairs] + ["7", " ", " 7", "a ", "\u00a0", "\u00a07", "", "²½x", "٣"]
    starts, expected, begin = [], set(), 0
    for text in texts:
        starts.append(begin)
        for number, letter in enumerate(text):
            here = begin + len(text[:number].encode())
            if number > 1 and letter in "0123456789" and {text[number - 1], text[number - 2]} <= set(SPACES):
                expected.add(here)
            if letter in "²½٣":
                expected |= {here, here + len(letter.encode())}
        begin += len(text.encode())
    content = np.frombuffer("".join(texts).encode(), np.uint8)
    assert set(digit_cuts(content, np.array(starts)).tolist()) == expected
