"""Pack the tokens of a mixture into shuffled sequences of one length (paper 3.2.4)."""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from cpt.arrays import save_array
from cpt.command import command_parser, json_value, run
from cpt.corpus.packing import account, blocks, mixed
from cpt.corpus.strategies import STRATEGIES
from cpt.corpus.stream import TokenSource, require_same_tokenizer
from cpt.errors import UserError
from cpt.files import atomic, write_json
from cpt.progress import Progress
from cpt.provenance import provenance


def main(arguments: argparse.Namespace) -> None:
    settings, name = arguments.settings, arguments.name
    length, seed = settings["sequence_length"], settings["seed"]
    shares = {corpus: share for corpus, share in arguments.mixture.items() if share > 0}
    sources = [TokenSource(arguments.root, corpus, arguments.shards[corpus]) for corpus in shares]
    for source in sources:
        require_same_tokenizer(
            sources[0].tokenizer, source.tokenizer, arguments.root / source.corpus / "tokens"
        )
    strategies = [STRATEGIES[settings["strategy"]](source, length) for source in sources]
    for source, strategy in zip(sources, strategies, strict=True):
        if not strategy.sequences:
            raise UserError(
                f"corpus {source.corpus}: its {source.tokens} tokens don't fill one sequence; "
                f"lower packing.sequence_length ({length}) or give it more text"
            )
    epochs = settings["maximum_epochs"]
    available = [epochs * strategy.sequences for strategy in strategies]
    chosen = mixed(shares, dict(zip(shares, available, strict=True)))
    digest = hashlib.sha256()
    starts, counts = [np.empty(0, np.uint32)], [np.zeros(1, np.int64)]
    lengths = [np.empty(0, np.uint32)]
    with atomic(arguments.output) as folder:
        folder.mkdir()
        with (
            open(folder / "sequences.bin", "wb") as file,
            Progress(name, len(chosen), "sequences") as progress,
        ):
            for sequences, inside, number, filled in blocks(strategies, chosen, seed):
                file.write(sequences)
                digest.update(sequences)
                starts.append(inside)
                counts.append(number)
                lengths.append(filled)
                progress.advance(len(sequences))
        tokens = np.concatenate(lengths)
        arrays = {
            "boundaries": np.concatenate(starts),
            "boundary_offsets": np.cumsum(np.concatenate(counts)).astype(np.uint64),
            "lengths": tokens,
        }
        for array, values in arrays.items():
            with open(folder / f"{array}.npy", "wb") as file:
                save_array(file, values)
        ledger = {
            "mixture": name,
            "shares": arguments.mixture,
            "sequences": len(chosen),
            "sequence_length": length,
            "strategy": settings["strategy"],
            "tokens": int(tokens.sum()),
            "padding_tokens": tokens.size * length - int(tokens.sum()),
            **sources[0].tokenizer,
            "seed": seed,
            "sources": {
                source.corpus: account(strategies[number], tokens[chosen == number], seed)
                for number, source in enumerate(sources)
            },
            "sequences_sha256": digest.hexdigest(),
            "provenance": provenance(
                {"packing": settings, "mixture": arguments.mixture}, arguments.code, {"packing": seed}
            ),
        }
        write_json(folder / "ledger.json", ledger)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--mixture", type=json_value, required=True, help="{corpus: share}")
    parser.add_argument("--name", required=True, help="the mixture's name in the config")
    parser.add_argument("--shards", type=json_value, required=True, help="{corpus: number of shards}")
    parser.add_argument("--root", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--settings", type=json_value, required=True, help="the config's `packing`")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write")
    run(main, parser)
