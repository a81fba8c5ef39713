"""SentencePiece BPE models (Llama's, MobileLLM's) as tokenizer.json, with the same ids for any text.

transformers 5 converts them too, but ranks the merges of runs of spaces by piece id instead of score, so
that indented or padded text gets other ids. Here the merges are ranked by score, as SentencePiece does, and
the result is compared with SentencePiece itself.
"""

from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from cpt.errors import UserError

SPACE = "\u2581"  # stands for a space in pieces
PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    " leading space, trailing space ",
    "def f(x):\n    if x  >  1:\n\t\treturn   x ** 2          # ten spaces\n\n\n",
    "                                        forty spaces",
    "1234567890 3.14159 1,000,000 0x7F",
    "naïve café, Größe, 漢字かな交じり, русский текст, עברית, emoji 😀👩‍🔬",
    "a\u00a0b\u2009c\r\nd\x07e \u2581 f",
    "<s> </s> <unk> <0x0A>",
)


def tokenizer_of_pieces(path: Path) -> Tokenizer:
    """Read a SentencePiece BPE model with byte fallback (Kudo and Richardson 2018) as a fast tokenizer.

    Raises UserError if the file isn't such a model, or the ids of any of PROBES differ.
    """
    try:
        source = SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError):
        raise UserError(f"{path}: not a SentencePiece model") from None
    pieces = [source.id_to_piece(i) for i in range(source.get_piece_size())]
    special = [piece for i, piece in enumerate(pieces) if source.is_control(i) or source.is_unknown(i)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)},
            merges=_merges(source, pieces),
            unk_token=source.id_to_piece(source.unk_id()),
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in special])
    tokenizer.encode_special_tokens = True
    wrong = [text for text in PROBES if tokenizer.encode(text).ids != source.encode(text)]
    tokenizer.encode_special_tokens = False
    if wrong:
        raise UserError(
            f"{path}: a fast tokenizer made from it gives other ids than SentencePiece, for example for "
            f"{wrong[0][:40]!r}; put a tokenizer.json of the model's authors beside it"
        )
    return tokenizer


def _merges(source: SentencePieceProcessor, pieces: list[str]) -> list[tuple[str, str]]:
    """Pairs of pieces that make a piece, in the order in which SentencePiece would merge them.

    SentencePiece merges the neighbours whose union has the highest score; BPE merges by rank. Pairs with
    the same union have the same score, and only one of them can stand at a place.
    """
    usable = {
        piece: source.get_score(i)
        for i, piece in enumerate(pieces)
        if not (source.is_control(i) or source.is_unknown(i) or source.is_byte(i) or source.is_unused(i))
    }
    found = []
    for i, piece in enumerate(pieces):
        if piece not in usable:
            continue
        for cut in range(1, len(piece)):
            if piece[:cut] in usable and piece[cut:] in usable:
                found.append((-usable[piece], i, cut, (piece[:cut], piece[cut:])))
    return [pair for *_, pair in sorted(found)]
