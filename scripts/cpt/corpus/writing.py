# ruff: noqa: RUF001
"""Finds the script of a document, and the least bytes per token that its script allows.

Bytes per token depend on the script and the tokenizer: one made for English cuts Korean into single bytes.
No text has fewer than about one byte per token. So the measure is what a tokenizer saves beyond that,
compared with what it saves on ordinary text of the same script, `SENTENCES`.
"""

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

SHARE = 1 / 3  # of the savings on ordinary text; what saves less isn't text (docs/filter-checks.md)
LOOKED_AT = 100_000  # characters of a document that decide its script
LATIN = "Latin"
# Blocks of Unicode, first and last code point of each. Chinese and Japanese are one group.
BLOCKS: dict[str, tuple[tuple[int, int], ...]] = {
    LATIN: ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF)),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F),),
    "Armenian": ((0x530, 0x58F),),
    "Hebrew": ((0x590, 0x5FF),),
    "Arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFE)),
    "Devanagari": ((0x900, 0x97F),),
    "Bengali": ((0x980, 0x9FF),),
    "Gurmukhi": ((0xA00, 0xA7F),),
    "Gujarati": ((0xA80, 0xAFF),),
    "Tamil": ((0xB80, 0xBFF),),
    "Telugu": ((0xC00, 0xC7F),),
    "Kannada": ((0xC80, 0xCFF),),
    "Malayalam": ((0xD00, 0xD7F),),
    "Thai": ((0xE00, 0xE7F),),
    "Lao": ((0xE80, 0xEFF),),
    "Tibetan": ((0xF00, 0xFFF),),
    "Burmese": ((0x1000, 0x109F),),
    "Georgian": ((0x10A0, 0x10FF),),
    "Ethiopic": ((0x1200, 0x139F),),
    "Khmer": ((0x1780, 0x17FF),),
    "Chinese and Japanese": ((0x3041, 0x312F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0x20000, 0x323AF)),
    "Korean": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7A3)),
}
# The beginning of Article 1 of the Universal Declaration of Human Rights. A script that isn't here has a
# bound of one byte per token.
SENTENCES = {
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "Cyrillic": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "Armenian": "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։",
    "Hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "Arabic": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
    "Devanagari": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "Bengali": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "Gurmukhi": "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ, ਸ਼ਾਨ ਅਤੇ ਹੱਕਾਂ ਦੇ ਪੱਖੋਂ ਜਨਮ ਤੋਂ ਹੀ ਆਜ਼ਾਦ ਹੈ।",
    "Gujarati": "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે.",
    "Tamil": "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "Telugu": "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు.",
    "Kannada": "ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಜನಿಸಿದ್ದಾರೆ. ಹಾಗೂ ಘನತೆ ಮತ್ತು ಹಕ್ಕುಗಳಲ್ಲಿ ಸಮಾನರಾಗಿದ್ದಾರೆ.",
    "Malayalam": "മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും സ്വാതന്ത്ര്യത്തോടുംകൂടി ജനിച്ചിട്ടുള്ളവരാണ്.",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "Lao": "ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ, ສິດທິ, ເສລີພາບແລະຄວາມສະເໝີພາບເທົ່າທຽມກັນ.",
    "Tibetan": "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང་། ཐོབ་ཐངགི་རང་དབང་འདྲ་མཉམ་དུ་ཡོད་ལ།",
    "Burmese": "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း၊ မွေးဖွားလာသူများ ဖြစ်သည်။",
    "Georgian": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "Ethiopic": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "Khmer": "មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងភាពស្មើៗគ្នាក្នុងសិទ្ធិនិងសេចក្ដីថ្លៃថ្នូរ។",
    "Chinese and Japanese": "人人生而自由，在尊严和权利上一律平等。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}


@cache
def _scripts() -> np.ndarray:
    """Each code point's position in `BLOCKS`, or len(BLOCKS) if it is in none: uint8 [0x110000]."""
    table = np.full(0x110000, len(BLOCKS), np.uint8)
    for number, blocks in enumerate(BLOCKS.values()):
        for first, last in blocks:
            table[first : last + 1] = number
    return table


def script_of(text: bytes | np.ndarray) -> str:
    """The script of at least half of the letters at a text's beginning (UTF-8); Latin if there is none."""
    beginning = bytes(text[: 4 * LOOKED_AT]).decode(errors="ignore")[:LOOKED_AT]
    codes = np.frombuffer(beginning.encode("utf-32-le"), "<u4")
    counts = np.bincount(_scripts()[codes], minlength=len(BLOCKS) + 1)[:-1]
    most = int(counts.argmax())
    return list(BLOCKS)[most] if 2 * counts[most] >= counts.sum() > 0 else LATIN


class MinimumBytes:
    """The least bytes per token of a document: `minimum` in Latin script, at most that in others.

    `count` returns the number of tokens of a text. Attribute: `documents`, the number of documents checked
    against the bound of a script other than Latin: {(script, bound): documents}.
    """

    def __init__(self, minimum: float, count: Callable[[str], int]):
        self.minimum, self.count = minimum, count
        self.bounds = {LATIN: minimum}
        self.documents: dict[tuple[str, float], int] = {}

    def bound(self, script: str) -> float:
        """The bound of a script: one byte per token plus `SHARE` of what the tokenizer saves beyond that."""
        if script not in self.bounds:
            sentence = SENTENCES.get(script, "")
            tokens = self.count(sentence) if sentence else 0
            saved = max(0.0, len(sentence.encode()) / tokens - 1) if tokens else 0.0
            self.bounds[script] = min(self.minimum, round(1 + SHARE * saved, 3))
        return self.bounds[script]

    def of(self, per_token: np.ndarray, texts: Iterable[bytes | np.ndarray]) -> np.ndarray:
        """The bound of each document (float64), from its bytes per token and its text (UTF-8).

        Only documents under `minimum` get another bound: the others are over every bound.
        """
        bounds = np.full(len(per_token), self.minimum)
        for number, (value, text) in enumerate(zip(per_token.tolist(), texts, strict=True)):
            if value < self.minimum and (script := script_of(text)) != LATIN:
                bounds[number] = self.bound(script)
                key = script, self.bound(script)
                self.documents[key] = self.documents.get(key, 0) + 1
        return bounds
