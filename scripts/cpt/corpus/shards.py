"""Lists of files over corpora and their shards, in the order in which all rules pass them."""

from collections.abc import Sequence
from typing import TypeVar

from cpt.files import one_for_each

Item = TypeVar("Item")


def names_of(corpora: dict[str, int]) -> list[tuple[str, str]]:
    """All (corpus, shard) of `corpora` {corpus: number of shards}, in its order."""
    return [(corpus, f"{number:05d}") for corpus, count in corpora.items() for number in range(count)]


def corpus_files(corpora: dict[str, int], *lists: Sequence[Item]) -> dict[str, list[list[Item]]]:
    """Splits lists over corpora and shards by corpus: {corpus: [entries of its shards, for each list]}."""
    divided: dict[str, list[list[Item]]] = {corpus: [[] for _ in lists] for corpus in corpora}
    for number, entries in enumerate(lists):
        for (corpus, _), entry in one_for_each(names_of(corpora), entries):
            divided[corpus][number].append(entry)
    return divided
