"""Identifies the language of a text with py3langid's own model (139 languages, no download)."""

import numpy as np

BEGINNING = 4_000  # bytes of a text that are classified


class Languages:
    """The probability that a text is in one of the languages `among` (ISO 639 codes)."""

    def __init__(self, among: list[str]):
        # Imported here, since the model takes most of a second to load.
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self.among = set(among)
        self.identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def probability(self, text: np.ndarray) -> float:
        """The sum of the languages' probabilities for the beginning of a text (UTF-8, uint8)."""
        beginning = bytes(text[:BEGINNING]).decode(errors="ignore")
        ranked = self.identifier.rank(beginning)
        return float(sum(share for language, share in ranked if language in self.among))
