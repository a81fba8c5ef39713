"""Converts SentencePiece BPE models (Llama's, MobileLLM's) to tokenizer.json, with the same ids.

transformers 5 also converts them, but ranks the merges of runs of spaces by piece id instead of score, so
indented or padded text gets other ids. Here merges are ranked in SentencePiece's order. Models that can't be
expressed so are refused, and every result is compared with SentencePiece itself.
"""

import random
import re
from pathlib import Path

from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from cpt.errors import UserError

TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* \d+\n")  # a token in base64 and its rank
SPACE = "\u2581"  # stands for a space in pieces
PROBES = (
    "",
    "The quick brown fox jumps over the lazy dog.",
    " leading space, trailing space ",
    "def f(x):\n    if x  >  1:\n\t\treturn   x ** 2          # ten spaces\n\n\n",
    "1234567890 3.14159 1,000,000 0x7F",
    "naïve café, Größe, 漢字かな交じり, русский текст, עברית, emoji 😀👩‍🔬",
    "a\u00a0b\u2009c\r\nd\x00\x07e \u2581 f\u2581\u2581g \ufeff \u202e \U0010ffff",
    "<s> </s> <unk> <0x0A>",
)
RUNS = (" ", "\n", "\t", " \n", "-", "=", "a", "0")
LONGEST_RUN = 70
MIXTURES = 2000  # texts of random pieces, characters and white space
Piece = ModelProto.SentencePiece


def tokenizer_of_pieces(path: Path) -> Tokenizer:
    """Read a SentencePiece BPE model (Kudo and Richardson 2018) as a fast tokenizer.

    Raises UserError if the file is no such model, if it has a setting or piece that a tokenizer.json can't
    express exactly, or if the ids of any of about 2,600 texts differ from SentencePiece's.
    """
    try:
        content = path.read_bytes()
        if TIKTOKEN.match(content):
            raise UserError(
                f"{path}: a tiktoken file, not a SentencePiece model; make a tokenizer.json where the "
                "model's own tokenizer works: AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        source = SentencePieceProcessor(model_proto=content)
    except (RuntimeError, OSError):
        raise UserError(
            f"{path}: not a SentencePiece model; fetch it again, or put a tokenizer.json of the model's "
            "authors beside it"
        ) from None
    proto = ModelProto.FromString(content)
    if reasons := _unlike_llama(proto):
        raise UserError(
            f"{path}: {'; '.join(reasons)}. Only BPE models with Llama's settings can be read exactly; put a "
            "tokenizer.json of the model's authors beside it"
        )
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece.piece: i for i, piece in enumerate(proto.pieces)},
            merges=_merges(proto),
            unk_token=source.id_to_piece(source.unk_id()),
            fuse_unk=True,
            byte_fallback=proto.trainer_spec.byte_fallback,
        )
    )
    spaces, strip = [normalizers.Replace(" ", SPACE)], []
    if proto.normalizer_spec.add_dummy_prefix:
        spaces, strip = [normalizers.Prepend(SPACE), *spaces], [decoders.Strip(" ", 1, 0)]
    tokenizer.normalizer = normalizers.Sequence(spaces)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    special = [piece.piece for piece in proto.pieces if piece.type in (Piece.CONTROL, Piece.UNKNOWN)]
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in special])
    tokenizer.encode_special_tokens = True  # SentencePiece reads "<s>" in a text as text
    wrong = [text for text in _texts(proto) if tokenizer.encode(text).ids != source.encode(text)]
    tokenizer.encode_special_tokens = False
    if wrong:
        raise UserError(
            f"{path}: a fast tokenizer made from it gives other ids than SentencePiece, for example for "
            f"{min(wrong, key=len)[:40]!r}; put a tokenizer.json of the model's authors beside it"
        )
    return tokenizer


def _unlike_llama(proto: ModelProto) -> list[str]:
    """Returns, as phrases, why a model can't be expressed as BPE over the unchanged text."""
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    kinds = {piece.type for piece in proto.pieces}
    kind = TrainerSpec.ModelType.Name(trainer.model_type)
    obstacles = {
        f"model_type is {kind}": trainer.model_type != TrainerSpec.BPE,
        f"its normalization {normalizer.name!r} changes the text": normalizer.precompiled_charsmap,
        "remove_extra_whitespaces is true": normalizer.remove_extra_whitespaces,
        "escape_whitespaces is false": not normalizer.escape_whitespaces,
        "treat_whitespace_as_suffix is true": trainer.treat_whitespace_as_suffix,
        "it has user-defined symbols": Piece.USER_DEFINED in kinds,
        "it has unused pieces": Piece.UNUSED in kinds,
    }
    return [reason for reason, holds in obstacles.items() if holds]


def _merges(proto: ModelProto) -> list[tuple[str, str]]:
    """Returns pairs of pieces that make a piece, in the order in which SentencePiece would merge them.

    SentencePiece merges the neighbours whose union has the highest score, and the leftmost of equal ones; BPE
    merges by rank. Llama's runs of spaces all have the same score, so a run grows from its left end. Ranking
    the longest union first does the same.
    """
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == Piece.NORMAL}
    merges = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            if piece[:cut] in scores and piece[cut:] in scores:
                merges.append((-score, -len(piece), piece, cut))
    return [(piece[:cut], piece[cut:]) for *_, piece, cut in sorted(merges)]


def _texts(proto: ModelProto) -> list[str]:
    """Returns texts on which tokenizers often differ, the same for the same model."""
    draw = random.Random(0)
    pieces = [piece.piece.replace(SPACE, " ") for piece in proto.pieces]
    runs = [unit * length for unit in RUNS for length in range(1, LONGEST_RUN + 1)]

    def part() -> str:
        kind = draw.random()
        if kind < 0.6:
            return draw.choice(pieces)
        if kind < 0.8:
            return draw.choice((" ", "\n", "\t", SPACE)) * draw.choice((1, 2, 3, 4, 8, 15, 16, 17, 31))
        # No surrogates, which aren't text.
        return chr(
            draw.choice((draw.randrange(0x250), draw.randrange(0xD800), draw.randrange(0xE000, 0x20000)))
        )

    mixtures = ["".join(part() for _ in range(draw.randint(2, 30))) for _ in range(MIXTURES)]
    return [*PROBES, *runs, *mixtures]
