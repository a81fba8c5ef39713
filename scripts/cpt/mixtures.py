"""Which mixture a run trains on that names none, and what tells packed mixtures apart."""

from collections.abc import Collection

# In a packed mixture's ledger.json; the second only where it has conversations.
PACKED_DIGESTS = ("sequences_sha256", "loss_mask_sha256")


def default_mixture(mixtures: Collection[str]) -> str:
    """The only mixture there is, or `domain`."""
    return next(iter(mixtures)) if len(mixtures) == 1 else "domain"
