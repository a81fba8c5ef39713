from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.corpus.quality import QualityHistogram
from cpt.corpus.shards import corpus_files
from cpt.corpus.statistics import Row, rows_of
from cpt.files import read_json, write_text


def corpus_statistics(
    corpora: dict[str, int],
    drops: Sequence[Path],
    contamination: Sequence[Path],
    token_drops: Sequence[Path],
    qualities: Sequence[Path],
    duplicates: Sequence[Path],
    table: Path,
    quality: Path,
    packed: Sequence[Path] = (),
    overlap: Path | None = None,
) -> None:
    """Write tables of what every stage read, dropped and kept, and of token-level measures (paper 3.2).

    Args:
        corpora: number of shards by corpus; lists of files have all shards in this order.
        drops: counts per rule of the filters (.csv).
        contamination: reports of the decontamination (.json).
        token_drops: counts per rule of token quality (.csv).
        qualities: histograms of the quality measures (.csv).
        duplicates: duplicates.csv, near_duplicates.csv.
        table: documents, bytes and tokens after each stage (.csv), to write.
        quality: documents per bin of the measures (.csv), to write.
        packed: folders of the packed mixtures.
        overlap: report of the documents removed for overlap with held-out text (.json), if configured.
    """
    taken_out = read_json(overlap) if overlap else None
    ledgers = [read_json(folder / "ledger.json") for folder in packed]
    files = corpus_files(corpora, drops, contamination, token_drops, qualities)
    lines = [",".join(Row._fields)]
    bins = ["corpus,measure,from,to,documents"]
    for corpus, (*tables, histograms) in files.items():
        for row in rows_of(corpus, *tables, duplicates, ledgers, taken_out):
            lines.append(",".join("" if value is None else str(value) for value in row))
        histogram = QualityHistogram()
        for path in histograms:
            histogram.add_file(path)
        bins += [",".join((corpus, row)) for row in histogram.lines()]
    write_text(table, "\n".join(lines) + "\n")
    write_text(quality, "\n".join(bins) + "\n")


if __name__ == "__main__":
    run(corpus_statistics)
