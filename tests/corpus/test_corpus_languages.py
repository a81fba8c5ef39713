# ruff: noqa: RUF001
"""The filters and token quality keep documents in any language, and drop those that repeat themselves."""

import random
import re
import unicodedata

import numpy as np
import pytest
from paragraphs import PARAGRAPHS, VOCABULARY
from plain_rules import rules_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cpt.config_sections import NearDuplicates, TokenQualityFilter
from cpt.corpus import words as module
from cpt.corpus.contamination import Items
from cpt.corpus.documentation import documents_of, source_files
from cpt.corpus.near_duplicates import band_hashes
from cpt.corpus.quality import quality_of
from cpt.corpus.repetition import count_lines
from cpt.corpus.tokenization import check_tokens
from cpt.corpus.words import classes, hash_words, letters_per_word, words_of
from cpt.corpus.writing import LATIN, SENTENCES, MinimumBytes, script_of

LANGUAGES = pytest.mark.parametrize("language", PARAGRAPHS)
UNSPACED = [name for name in PARAGRAPHS if name not in ("Korean", "Arabic", "Hindi")]


def made_document(generator: random.Random, paragraphs: int) -> str:
    """Paragraphs of four Chinese sentences each, of words drawn at random."""

    def sentence() -> str:
        clauses = ("".join(generator.choices(VOCABULARY, k=generator.randint(4, 7))) for _ in range(2))
        return "，".join(clauses) + "。"

    return "\n\n".join("".join(sentence() for _ in range(4)) for _ in range(paragraphs))


# ---------------------------------------------------------------------------------------------- filters
@LANGUAGES
def test_four_paragraphs_are_kept(filters, language):
    assert rules_of(filters).check(PARAGRAPHS[language]) is None


@pytest.mark.parametrize("paragraphs", [4, 8, 12, 16, 20])
def test_different_chinese_paragraphs_are_kept_however_many(filters, paragraphs):
    rules, generator = rules_of(filters), random.Random(paragraphs)
    drops = [rules.check(made_document(generator, paragraphs)) for _ in range(100)]
    assert [drop for drop in drops if drop] == []


@LANGUAGES
def test_what_repeats_itself_is_dropped(filters, language):
    rules, parts = rules_of(filters), PARAGRAPHS[language].split("\n\n")
    assert rules.check("\n\n".join(parts[:2] * 3)).rule == "duplicate_lines"
    # All lines differ here, so only the n-gram rules can drop the text.
    numbered = "\n".join(f"{number} {parts[0]} {number}" for number in range(6))
    assert re.fullmatch(r"(top|duplicate)_\d+_gram", rules.check(numbered).rule)


@pytest.mark.parametrize("language", UNSPACED)
def test_one_word_over_and_over_is_dropped(filters, language):
    word = re.sub(r"\W", "", PARAGRAPHS[language])[:6]
    drop = rules_of(filters).check("\n".join(f"{number}{word * 20}" for number in range(5)))
    assert "gram" in drop.rule


def test_a_line_is_short_by_its_width_not_its_characters(filters):
    chinese = PARAGRAPHS["Chinese"].replace("\n", "").split("。")[:-1]  # sentences of 19 to 30 characters
    assert all(len(line) >= 11 for line in chinese) and any(len(line) <= 30 for line in chinese)
    assert count_lines("\n".join(chinese), 30).short_lines == 0
    assert rules_of(filters).check("\n".join(chinese)) is None
    menu = "首页\n关于我们\n联系方式\n产品介绍\n下载中心"
    assert rules_of(filters).check(menu).rule == "short_lines"
    # Ten ideographs, 15 kana or syllables, 30 letters: all as wide as 30 letters.
    for letter, count in {"字": 10, "か": 15, "한": 15, "a": 30, "ก": 30, "я": 30, "é": 30}.items():
        assert count_lines(letter * count, 30).short_lines == 1
        assert count_lines(letter * (count + 1), 30).short_lines == 0


# ------------------------------------------------------------------------------------------------ words
@pytest.mark.parametrize("language", UNSPACED)
def test_words_have_the_usual_length_and_hold_all_letters(language):
    text = PARAGRAPHS[language]
    words = [word for word in words_of(text) if classes()[ord(word[0])] >= module.IDEOGRAPH]
    letters = sum(classes()[ord(letter)] >= module.IDEOGRAPH for letter in text)
    assert sum(classes()[ord(letter)] >= module.IDEOGRAPH for word in words for letter in word) == letters
    usual = {"Chinese": 2, "Japanese": 2.4}.get(language, 4)
    assert 0.6 < letters / len(words) / usual < 1.4


def test_a_passage_has_the_same_words_in_any_document():
    one, other = made_document(random.Random(0), 1), made_document(random.Random(1), 1)
    alone, between = words_of(one), words_of(f"{other[:37]}{one}{other}")
    assert "|".join(alone[2:-2]) in "|".join(between)


def name_of(letter: str) -> str:
    return unicodedata.name(letter, "").removeprefix("HALFWIDTH ")


def test_the_scripts_without_spaces_are_those_with_these_names():
    """Unicode's names are an independent check: the ranges of code points weren't made from them."""
    ideographs = ("CJK UNIFIED", "CJK COMPATIBILITY IDEO", "TANGUT", "NUSHU", "KHITAN", "YI SYLLABLE")
    kana = ("HIRAGANA", "KATAKANA", "BOPOMOFO", "HENTAIGANA", "VERTICAL KANA")
    usual = dict.fromkeys(ideographs, 2) | dict.fromkeys(kana, 3)
    scripts = "THAI LAO TIBETAN MYANMAR KHMER BALINESE JAVANESE AHOM"
    usual |= dict.fromkeys([*scripts.split(), "TAI LE", "NEW TAI LUE", "TAI THAM", "TAI VIET"], 4)
    for code in range(0x110000):
        letter = chr(code)
        if unicodedata.category(letter) in ("Lo", "Lm") and not 0x3200 <= code < 0x3400:
            name = name_of(letter) or "TANGUT"  # the only letters without a name in Python
            script = next((prefix for prefix in usual if name.startswith(prefix)), None)
            kind = classes()[code]
            assert script is None or letters_per_word(kind) == usual[script], name
            exceptions = ("IDEOGRAPHIC", "HANGZHOU", "OLD CHINESE", "CJK", "KATAKANA-HIRAGANA", "MASU")
            assert script or kind == module.WORD or name.startswith(exceptions), name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी में लिखी किताबें।", ["हिन्दी", "में", "लिखी", "किताबें", "।"]),
        ("مُحَمَّدٌ كَتَبَ،", ["مُحَمَّدٌ", "كَتَبَ", "،"]),
        ("e\u0301te\u0301 na\u0308chste", ["e\u0301te\u0301", "na\u0308chste"]),
        ("می\u200cخواهم \u200fשלום\u200e", ["می\u200cخواهم", "\u200f", "שלום\u200e"]),
        ("in\u00adter\u00adest", ["in\u00adter\u00adest"]),
        ("２０２４年Ｐｙｔｈｏｎ３，第5版", ["２０２４", "年", "Ｐｙｔｈｏｎ３", "，", "第", "5", "版"]),
        ("Linux，Windows。", ["Linux", "，", "Windows", "。"]),
        ("ก็ ไม่", ["ก็", "ไม่"]),
        ("葛\U000e0100 か\u3099", ["葛\U000e0100", "か\u3099"]),
        ("👍🏽 👩\u200d💻 ❤\ufe0f", ["👍", "🏽", "👩", "\u200d", "💻", "❤", "\ufe0f"]),
        ("한국어 문장입니다.", ["한국어", "문장입니다", "."]),
        ("don't x̂+ŷ 3.14", ["don't", "x̂+ŷ", "3.14"]),
    ],
)
def test_words_by_hand(text, words):
    assert words_of(text) == words
    assert np.diff(hash_words(text)[1]).tolist() == [len(word) for word in words]


def test_invisible_characters_do_not_hide_a_word_without_punctuation():
    plain = ["می‌خواهم".replace("\u200c", ""), "ភាសាខ្មែរ", "interest", "שלום"]
    hidden = ["می\u200cخواهم", "ភាសា\u200bខ្មែរ", "in\u00adter\u00adest", "\u200fשל\u200dום\u2069"]
    for one, other in zip(plain, hidden, strict=True):
        assert words_of(one, punctuation=False) == words_of(other, punctuation=False)
        assert hash_words(one, False)[0].tolist() == hash_words(other, False)[0].tolist()


# --------------------------------------------------------------------- near-duplicates and contamination
NEAR = NearDuplicates(ngram=5, bands=14, rows=8, seed=0)


def match(one: str, other: str) -> bool:
    hashes = np.array(list(band_hashes([one, other], NEAR)))
    return bool(((hashes[0] == hashes[1]) & (hashes[0] != 0)).any())


@pytest.mark.parametrize("language", ["Chinese", "Japanese"])
def test_short_paragraphs_with_another_ending_are_near_duplicates(language):
    endings = {"Chinese": ["随风飘远。", "渐渐消失。"], "Japanese": ["楽しみます。", "続けます。"]}[language]
    paragraphs = PARAGRAPHS[language].split("\n\n")
    matches = [match(text, text[: -len(end)] + end) for text in paragraphs for end in endings]
    assert all(65 <= len(text) <= 90 for text in paragraphs)
    assert match(paragraphs[0], paragraphs[0][: -len(endings[0])] + endings[0])
    assert sum(matches) >= 0.75 * len(matches)  # bands and rows have a probability curve, not a threshold
    assert not any(match(paragraphs[0], other) for other in paragraphs[1:])


@pytest.mark.parametrize("language", UNSPACED)
def test_items_are_found_inside_longer_texts(language, save_table, tmp_path):
    paragraphs = PARAGRAPHS[language].split("\n\n")
    table = {"task": ["own"], "item": [0], "text": ["\n".join(paragraphs[1:3])]}
    items = Items([save_table(tmp_path / "items.parquet", table)], 13)
    assert items.hits(PARAGRAPHS[language])
    assert items.hits(
        paragraphs[0].rstrip("。။") + "\n".join(paragraphs[1:3]) + paragraphs[3]
    )  # in the middle of a run
    assert items.hits("\n\n".join([paragraphs[0], paragraphs[3]])) == []


# ---------------------------------------------------------------------------------------- token quality
@pytest.fixture(scope="module")
def english_tokenizer() -> Tokenizer:
    """A byte-level BPE of English and a little text in other languages, which get 1 to 2 bytes per token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    texts = [document.text for file in source_files(["json", "re"], "x") for document in documents_of(file)]
    others = [part for text in PARAGRAPHS.values() for part in text.split("\n\n")[:2]]
    tokenizer.train_from_iterator(texts + others, trainer)
    return tokenizer


def token_rule(tokenizer: Tokenizer, text: str, thresholds: dict) -> tuple[str | None, float]:
    """The token-quality rule that a text breaks, and the minimum of bytes per token for it."""

    def count(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    ids = tokenizer.encode(text).ids
    data = np.frombuffer(text.encode(), np.uint8)
    measures = quality_of(np.array(ids), np.array([len(ids)]), np.array([len(data)]), None)
    minimum = MinimumBytes(thresholds["minimum_bytes_per_token"], count)
    minimums = minimum.of(measures.bytes_per_token, [data])
    (drop,) = check_tokens(measures, TokenQualityFilter(**thresholds), minimums)
    return drop.rule if drop else None, minimums[0]


@LANGUAGES
def test_token_quality_keeps_any_language(config_filters, english_tokenizer, language):
    thresholds = {**config_filters["token_quality"], "minimum_bytes_per_token": 1.5}
    text = PARAGRAPHS[language]
    rule, bound = token_rule(english_tokenizer, text, thresholds)
    assert rule is None
    rate = len(text.encode()) / len(english_tokenizer.encode(text).ids)
    assert bound < 1.5 or rate >= 1.5


def test_a_script_that_the_tokenizer_cuts_into_bytes_is_kept(config_filters):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(sorted(alphabet))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    thresholds = {**config_filters["token_quality"], "minimum_bytes_per_token": 1.5}
    for language in ("Lao", "Thai", "Khmer", "Burmese", "Korean"):
        text = "\n\n".join([PARAGRAPHS[language]] * 3)  # windows of 1,000 tokens are full
        assert token_rule(tokenizer, text, thresholds) == (None, 1.0)
    assert token_rule(tokenizer, "ກ" * 400, thresholds)[0] == "distinct"
    assert token_rule(tokenizer, PARAGRAPHS["Korean"].encode().decode("latin1"), thresholds)[0] is not None


GARBAGE = random.Random(0)


@pytest.mark.parametrize(
    "text",
    [
        "".join(GARBAGE.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=3000)),
        GARBAGE.randbytes(2000).hex(),
        GARBAGE.randbytes(3000).decode("latin1"),
        PARAGRAPHS["Korean"].encode().decode("latin1"),
        "".join(chr(GARBAGE.randrange(0x4E00, 0x9FFF)) for _ in range(2000)),
        "".join(chr(GARBAGE.randrange(0x20, 0xD7FF)) for _ in range(2000)),
    ],
    ids=["base64", "hex", "bytes", "korean as latin1", "ideographs", "any characters"],
)
def test_token_quality_still_drops_garbage(config_filters, english_tokenizer, text):
    thresholds = {**config_filters["token_quality"], "minimum_bytes_per_token": 1.5}
    assert token_rule(english_tokenizer, text, thresholds)[0] == "minimum_bytes_per_token"


def test_the_bound_of_latin_text_is_the_configs(config_filters, english_tokenizer):
    count = lambda text: len(english_tokenizer.encode(text).ids)  # noqa: E731
    for minimum in (0.5, 1.0, 1.5):
        bounds = MinimumBytes(minimum, count)
        assert bounds.bound(LATIN) == minimum
        assert all(min(1, minimum) <= bounds.bound(script) <= minimum for script in SENTENCES)
    minimum_bytes = MinimumBytes(1.5, count)
    texts = [PARAGRAPHS["Korean"].encode(), b"x" * 9, b"", PARAGRAPHS["Korean"].encode()]
    bounds = minimum_bytes.of(np.array([1.2, 1.2, np.inf, 1.6]), texts)
    assert bounds[0] < 1.5 and bounds[1:].tolist() == [1.5] * 3
    assert minimum_bytes.documents == {("Korean", bounds[0]): 1}


def test_scripts_are_recognized():
    for script, sentence in SENTENCES.items():
        assert script_of(sentence.encode()) == script
        assert script_of(f"{sentence} 12.5 <b>x</b>".encode()) == script
    assert script_of("Größe und 漢字".encode()) == script_of(b"") == script_of(b"1234 !") == LATIN
    assert script_of(b"\xff\xfe" + "한국어".encode()) == "Korean"
