"""Which mixture a run trains on that names none."""

from collections.abc import Collection


def default_mixture(mixtures: Collection[str]) -> str:
    """The only mixture there is, or `domain`."""
    return next(iter(mixtures)) if len(mixtures) == 1 else "domain"
