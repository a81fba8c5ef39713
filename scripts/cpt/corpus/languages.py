"""The language of a text, by the model that the package py3langid brings (139 languages, no download)."""

import numpy as np

BEGINNING = 4_000  # bytes of a text that are looked at


class Languages:
    """How probable it is that a text is in one of some languages (ISO 639 codes)."""

    def __init__(self, among: list[str]):
        # Not at the top: loading its model takes most of a second.
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self.among = set(among)
        self.identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def probability(self, text: np.ndarray) -> float:
        """The probability of all of the languages together, by the beginning of a text (UTF-8, uint8)."""
        beginning = bytes(text[:BEGINNING]).decode(errors="ignore")
        ranked = self.identifier.rank(beginning)
        return float(sum(share for language, share in ranked if language in self.among))
