"""Corpora that are filtered by a classifier's score of their text, and their checks."""

from collections.abc import Mapping

from cpt.config_errors import require_known
from cpt.config_sections import EDU_SCORE, SIMILARITY, Classifier, Corpus


def similar_corpora(corpora: Mapping[str, Corpus], domain: str) -> dict[str, str]:
    """Returns, for each corpus filtered by similarity, the corpus that its documents should be similar to."""
    bounds = {name: getattr(corpus, "where", {}).get(SIMILARITY) for name, corpus in corpora.items()}
    return {name: each.to or domain for name, each in bounds.items() if each}


def check_similarity(corpora: Mapping[str, Corpus], domain: str) -> None:
    """Raise ValueError unless similarity is always to another corpus, of plain text."""
    for name, other in similar_corpora(corpora, domain).items():
        key = f"corpora.{name}.where.{SIMILARITY}.to"
        require_known(other, corpora, key, "corpora")
        if other == name:
            raise ValueError(
                f"{key}: {name} can't be filtered by similarity to itself; name another corpus there"
            )
        if corpora[other].conversations:
            raise ValueError(
                f"{key}: {other} holds conversations, whose words aren't read; name a corpus of text"
            )


def scored_corpora(corpora: Mapping[str, Corpus]) -> list[str]:
    """Returns the names of the corpora that are filtered by `edu_score`."""
    return [name for name, corpus in corpora.items() if EDU_SCORE in getattr(corpus, "where", {})]


def check_edu_score(corpora: Mapping[str, Corpus], classifier: Classifier | None) -> None:
    """Raise ValueError if a corpus is filtered by `edu_score` without a classifier that computes it."""
    if classifier is None and (names := scored_corpora(corpora)):
        raise ValueError(
            f"corpora.{names[0]}.where.{EDU_SCORE}: there is no classifier that gives the score; set "
            "`classifier`, as config.yaml does"
        )
