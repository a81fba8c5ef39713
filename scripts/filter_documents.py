import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cpt.command import run
from cpt.config_sections import TEXT_KEYS, DocumentFilters, Where
from cpt.corpus.documents import (
    FILTERED_SCHEMA,
    open_parquet,
    parquet_writer,
    raw_columns,
    read_batches,
    require_columns,
)
from cpt.corpus.filters import DocumentFilter, load_scores
from cpt.files import atomic
from cpt.progress import Progress


def filter_documents(
    raw: Path,
    text_column: str,
    where: Where,
    filters: DocumentFilters,
    normalize: Literal["none", "whitespace"],
    documents: Path,
    drops: Path,
    examples: Path,
    conversations: bool = False,
    similarity: Sequence[Path] = (),
    scores: Sequence[Path] = (),
) -> None:
    """Drop documents that are out of a corpus's bounds, too short, or repeat themselves (paper 3.2.1).

    Args:
        raw: the raw shard (.parquet).
        text_column: the column that holds the text.
        where: the corpus's bounds on columns of numbers, its languages and similarity.
        filters: the config's `filters` that need no tokenizer.
        normalize: the config's `deduplicate.normalize`.
        documents: kept documents (.parquet), to write.
        drops: counts per rule (.csv), to write.
        examples: dropped documents to read (.jsonl), to write.
        conversations: whether they are conversations, to which rules of length and repetition don't apply.
        similarity: the classifier (.npy), if `where` has `similarity`.
        scores: score of each document (.npy), if `where` has `edu_score`.
    """
    file = open_parquet(raw)
    text_column, numbers = raw_columns(
        file.schema_arrow, text_column, [column for column in where if column not in TEXT_KEYS]
    )
    require_columns(raw, file.schema_arrow, text_column, numbers)
    document_filter = DocumentFilter(
        text_column,
        where,
        filters,
        normalize,
        numbers,
        conversations,
        similarity=next(iter(similarity), None),
        scores=load_scores(scores[0], file.metadata.num_rows) if scores else None,
    )
    with (
        atomic(documents) as temporary,
        parquet_writer(temporary, FILTERED_SCHEMA) as output,
        Progress(f"filtering {raw}", file.metadata.num_rows, "documents") as progress,
    ):
        for batch in read_batches(raw, document_filter.columns):
            output.write_batch(document_filter.kept(batch))
            progress.advance(document_filter.table.read - progress.done)
    for kind, count in document_filter.masked.items():
        logging.info(
            "masked %s %s in %s documents",
            f"{count:,}",
            kind,
            document_filter.table.counts[f"masked_{kind}"][0],
        )
    document_filter.table.write(drops, examples)


if __name__ == "__main__":
    run(filter_documents)
