import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

from cpt.command import run
from cpt.corpus.document_list import Line, ShardFiles, lines_of, warning
from cpt.files import write_text


def document_list(
    corpus: str,
    raw: Sequence[Path],
    manifests: Sequence[Path],
    filtered: Sequence[Path],
    dropped: Sequence[Path],
    unique: Path,
    contamination: Sequence[Path],
    token_dropped: Sequence[Path],
    held_out: Sequence[Path],
    table: Path,
    warnings: Path,
    near: Path | None = None,
    apart: Sequence[Path] = (),
) -> None:
    """List each document of own files, the largest first: kept, or the rule that dropped it.

    Args:
        corpus: the corpus's name in the config. Lists of files have all its shards, in order.
        raw: the raw shards (.parquet).
        manifests: what was read for each raw shard (.json).
        filtered: the filtered documents (.parquet).
        dropped: what the filters dropped (.jsonl).
        unique: folder of the keep-lists after exact deduplication (.npy).
        contamination: keep-lists after decontamination (.npy).
        token_dropped: what token quality dropped (.jsonl).
        held_out: documents kept out of training (.parquet).
        table: the list (.csv), to write.
        warnings: a line if the largest files lost most of their text (.txt), to write.
        near: folder of the keep-lists after near-deduplication, if configured.
        apart: keep-lists without documents that overlap with held-out text, if these are dropped.
    """
    lines: list[Line] = []
    for number, documents in enumerate(raw):
        name = f"{number:05d}.keep.npy"
        keeps = [("duplicate", unique / name)]
        keeps += [("near_duplicate", near / name)] if near else []
        keeps += [("contaminated", contamination[number])]
        keeps += [("held_out_overlap", apart[number])] if apart else []
        files = (manifests[number], filtered[number], dropped[number])
        lines += lines_of(ShardFiles(documents, *files, keeps, token_dropped[number], held_out[number]))
    lines.sort(key=lambda line: (-line.characters, line.file, line.title))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Line))
    writer.writerows(astuple(line) for line in lines)
    write_text(table, text.getvalue())
    message = warning(corpus, lines)
    if message:
        message += f"; see {table}"
        logging.warning("%s", message)
    write_text(warnings, f"{message}\n" if message else "")


if __name__ == "__main__":
    run(document_list)
