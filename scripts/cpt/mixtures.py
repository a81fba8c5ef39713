"""The default mixture of a run, and the digests that identify a packed mixture."""

from collections.abc import Collection

# Keys of a packed mixture's ledger.json; the second exists only with conversations.
PACKED_DIGESTS = ("sequences_sha256", "loss_mask_sha256")


def default_mixture(mixtures: Collection[str]) -> str:
    """Returns the mixture of a run that names none: the only mixture, or `domain` if there are several."""
    return next(iter(mixtures)) if len(mixtures) == 1 else "domain"
