from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.config_sections import Packing
from cpt.corpus.packing import Mixture, allow_open_files
from cpt.corpus.shards import corpus_files
from cpt.corpus.stream import TokenSource
from cpt.files import atomic, write_json
from cpt.provenance import provenance


def pack(
    mixture: str,
    shares: dict[str, float],
    shards: dict[str, int],
    tokens: Sequence[Path],
    ends: Sequence[Path],
    manifests: Sequence[Path],
    packing: Packing,
    packed: Path,
    contents: Path,
    masks: Sequence[Path] = (),
    subsample: float | None = None,
) -> None:
    """Pack the tokens of a mixture into shuffled sequences of one length (paper 3.2.4).

    Args:
        mixture: the mixture's name in the config.
        shares: share by corpus.
        shards: number of shards by corpus; lists of files have all shards in this order.
        tokens: token ids of the shards.
        ends: ends of the documents in them (.npy).
        manifests: counts and hashes (.json).
        packing: the config's `packing`, with the mixture's seed.
        packed: the folder to write.
        contents: what the folder holds, to write (JSON): the same bytes for the same sequences.
        masks: for shards with conversations, which tokens are the assistant's; named like the token files.
        subsample: share of each corpus's sequences that is packed; None: all.
    """
    allow_open_files(4 * len(tokens) + 100)
    mask_of = {mask.with_suffix(".tokens"): mask for mask in masks}
    files = corpus_files(shards, tokens, ends, manifests)
    sources = [
        TokenSource(corpus, *files[corpus], [mask_of[path] for path in files[corpus][0] if path in mask_of])
        for corpus, share in shares.items()
        if share > 0
    ]
    mixed = Mixture(sources, shares, packing, subsample or 1.0)
    with atomic(packed) as folder:
        folder.mkdir()
        mixed.write(folder, mixture)
        ledger = {
            "mixture": mixture,
            "shares": shares,
            "sequences": mixed.sequences,
            "sequence_length": packing.sequence_length,
            "strategy": packing.strategy,
            **({"subsample": subsample} if subsample else {}),
            **mixed.ledger(),
        }
        origin = provenance({"packing": packing, "mixture": shares}, {"packing": packing.seed})
        write_json(folder / "ledger.json", {**ledger, "provenance": origin})
    write_json(contents, ledger)


if __name__ == "__main__":
    run(pack)
