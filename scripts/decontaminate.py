from collections.abc import Sequence
from pathlib import Path

from cpt.arrays import write_array
from cpt.command import run
from cpt.config_sections import Decontaminate
from cpt.corpus.contamination import Items, contamination_of
from cpt.corpus.documents import load_keep
from cpt.corpus.keep_lists import keep_list
from cpt.files import write_json
from cpt.provenance import provenance


def decontaminate(
    shard: str,
    documents: Path,
    unique: Path,
    benchmarks: Path,
    settings: Decontaminate,
    keep: Path,
    report: Path,
    tasks: Sequence[Path] = (),
) -> None:
    """Report, and if configured drop, documents that share n-grams with the evaluation items.

    Args:
        shard: the shard's number, as in file names.
        documents: the filtered documents (.parquet).
        unique: the corpus's folder of keep-lists after deduplication (.npy).
        benchmarks: the folder with the benchmarks' items.parquet.
        settings: the config's `decontaminate`.
        keep: which documents are kept (.npy), to write.
        report: what was found (.json), to write.
        tasks: folders of other tasks, with an items.parquet each.
    """
    before = load_keep(keep_list(unique, shard), documents)
    items = Items([folder / "items.parquet" for folder in (benchmarks, *tasks)], settings.ngram)
    contaminated, size, hits, touched = contamination_of(documents, before, items)
    kept = before & ~contaminated if settings.drop else before
    write_array(keep, kept)
    facts = {
        "documents": int(before.sum()),
        "contaminated": int(contaminated.sum()),
        "contaminated_bytes": size,
        "dropped": int(before.sum() - kept.sum()),
        "hits": hits,
        "items": {
            task: {"items": count, "too_short": short, "touched": touched[task]}
            for task, (count, short) in items.counts().items()
        },
        "settings": settings,
        "provenance": provenance(settings),
    }
    write_json(report, facts)


if __name__ == "__main__":
    run(decontaminate)
