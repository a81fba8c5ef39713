"""Lists of files over corpora and their shards: the order in which all rules hand them over."""

from collections.abc import Sequence
from typing import TypeVar

from cpt.files import one_for_each

Item = TypeVar("Item")


def names_of(corpora: dict[str, int]) -> list[tuple[str, str]]:
    """All (corpus, shard) of a mapping corpus: number of shards, in its order."""
    return [(corpus, f"{number:05d}") for corpus, count in corpora.items() for number in range(count)]


def corpus_files(corpora: dict[str, int], *lists: Sequence[Item]) -> dict[str, list[list[Item]]]:
    """Lists over corpora and shards, divided: for each corpus, the entries of its shards in each list."""
    divided: dict[str, list[list[Item]]] = {corpus: [[] for _ in lists] for corpus in corpora}
    for number, entries in enumerate(lists):
        for (corpus, _), entry in one_for_each(names_of(corpora), entries):
            divided[corpus][number].append(entry)
    return divided
