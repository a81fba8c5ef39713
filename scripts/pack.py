"""Pack the tokens of a mixture into shuffled sequences of one length (paper 3.2.4)."""

import argparse
import hashlib
import resource
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpt.arrays import ArrayWriter
from cpt.command import command_parser, json_value, run
from cpt.corpus.packing import Account, Order, blocks, mixed
from cpt.corpus.strategies import STRATEGIES
from cpt.corpus.stream import TokenSource, require_same_tokenizer
from cpt.errors import UserError
from cpt.files import atomic, write_json
from cpt.progress import Progress
from cpt.provenance import provenance


def allow_open_files(count: int) -> None:
    """Raise this process's limit of open files to `count`, if it may: a mapped file counts as open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(arguments: argparse.Namespace) -> None:
    settings, name = arguments.settings, arguments.name
    length, seed = settings["sequence_length"], settings["seed"]
    shares = {corpus: share for corpus, share in arguments.mixture.items() if share > 0}
    allow_open_files(3 * sum(arguments.shards[corpus] for corpus in shares) + 100)
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
    pattern, total = mixed(shares, dict(zip(shares, available, strict=True)))
    orders = [Order(strategy, seed) for strategy in strategies]
    accounts = [Account(strategy) for strategy in strategies]
    digest = hashlib.sha256()
    with atomic(arguments.output) as folder:
        folder.mkdir()
        with ExitStack() as files:
            file = files.enter_context(open(folder / "sequences.bin", "wb"))
            boundaries, offsets, lengths = (
                ArrayWriter(files.enter_context(open(folder / f"{array}.npy", "wb")), dtype)
                for array, dtype in [
                    ("boundaries", np.uint32),
                    ("boundary_offsets", np.uint64),
                    ("lengths", np.uint32),
                ]
            )
            progress = files.enter_context(Progress(name, total, "sequences"))
            offsets.add(np.zeros(1, np.uint64))
            for block in blocks(strategies, orders, pattern, total):
                file.write(block.sequences)
                digest.update(block.sequences)
                offsets.add(np.uint64(boundaries.count) + np.cumsum(block.counts).astype(np.uint64))
                boundaries.add(block.starts)
                lengths.add(block.lengths)
                for number, account in enumerate(accounts):
                    account.add(block.lengths[block.sources == number])
                progress.advance(len(block.sequences))
            for array in (boundaries, offsets, lengths):
                array.finish()
        tokens = sum(account.packed + account.repeated for account in accounts)
        ledger = {
            "mixture": name,
            "shares": arguments.mixture,
            "sequences": total,
            "sequence_length": length,
            "strategy": settings["strategy"],
            "tokens": tokens,
            "padding_tokens": total * length - tokens,
            **sources[0].tokenizer,
            "seed": seed,
            "sources": {
                source.corpus: account.entry(order)
                for source, account, order in zip(sources, accounts, orders, strict=True)
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
