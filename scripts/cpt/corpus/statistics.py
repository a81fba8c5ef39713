"""Accounts for each corpus's documents, bytes and tokens, stage by stage, from the stages' own files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpt.corpus.drops import read_table, read_tables
from cpt.errors import UserError
from cpt.files import read_json


class Row(NamedTuple):
    """The counts that a stage read, dropped or kept; None for what isn't counted."""

    corpus: str
    stage: str
    rule: str
    mixture: str  # of the stages after `kept`
    documents: int | None
    bytes: int | None
    tokens: int | None  # counted, with the end-of-sequence token of each document
    estimated_tokens: int | None  # of the stages before tokenization


def rows_of(
    corpus: str,
    drops: list[Path],
    contamination: list[Path],
    token_drops: list[Path],
    duplicates: Sequence[Path],
    ledgers: list[dict[str, Any]],
    overlap: dict[str, Any] | None = None,
) -> Iterator[Row]:
    """The rows of one corpus, in the order of the stages.

    The first three lists have a file per shard. `duplicates` are the tables of dropped duplicates; each gives
    a row, and has a column, of its own name. `ledgers` are those of the packed mixtures; each that uses the
    corpus gives rows. `overlap` is the report on documents dropped for held-out text, if configured.

    raw = dropped + held out + kept, in documents and in bytes; kept = tail + unused + packed, for each
    mixture, in tokens. Tokens before tokenization are estimated: bytes times the tokens per byte of the
    corpus's tokenized documents. Raises UserError if the numbers don't add up, that is, if files come from
    different runs.
    """
    filtered = read_tables(drops)
    tokenized = read_tables(token_drops)
    reports = [read_json(path) for path in contamination]
    _, size, amount = tokenized["read"]

    def early(stage: str, rule: str, documents: int, size_here: int) -> Row:
        estimate = round(size_here * amount / size) if size else None
        return Row(corpus, stage, rule, "", documents, size_here, None, estimate)

    raw = early("raw", "", *filtered.pop("read"))
    del filtered["kept"], tokenized["read"]
    # Masked documents stay in; these rows count documents and the bytes removed.
    masked = {rule: filtered.pop(rule) for rule in list(filtered) if rule.startswith("masked_")}
    rows = [early("filter", rule, *counts) for rule, counts in filtered.items()]
    for path in duplicates:
        mine = [counts for name, _, *counts in read_table(path, 2) if name == corpus]
        repeated, size_here = (sum(counts[column] for counts in mine) for column in (-2, -1))
        rows.append(early(path.stem, "", repeated, size_here))
    contaminated, contaminated_bytes = (
        sum(report[key] for report in reports) for key in ("contaminated", "contaminated_bytes")
    )
    dropped = sum(report["dropped"] for report in reports)
    rows.append(early("contaminated", "dropped", dropped, contaminated_bytes if dropped else 0))
    if overlap:
        taken_out = overlap["dropped"].get(corpus, {"documents": 0, "bytes": 0})
        rows.append(early("overlap", "", taken_out["documents"], taken_out["bytes"]))
    apart = {"held_out": tokenized.pop("held_out"), "kept": tokenized.pop("kept")}
    rows += [Row(corpus, "token_quality", rule, "", *counts, None) for rule, counts in tokenized.items()]
    rows += [Row(corpus, stage, "", "", *counts, None) for stage, counts in apart.items()]
    _require_sums(raw, rows, drops[0].parents[1])
    position = next(number for number, row in enumerate(rows) if row.stage == "contaminated")
    rows.insert(position, early("contaminated", "found", contaminated, contaminated_bytes))
    yield raw
    yield from rows
    for rule, counts in masked.items():
        yield Row(corpus, "masked", rule.removeprefix("masked_"), "", *counts, None, None)
    for ledger in ledgers:
        if corpus in ledger["sources"]:
            yield from _packed(corpus, ledger["mixture"], ledger["sources"][corpus], rows[-1].tokens)


def _require_sums(raw: Row, rows: list[Row], folder: Path) -> None:
    """Raise UserError, naming the corpus's folder, unless `rows` account for all that was read."""
    for unit in ("documents", "bytes"):
        whole, parts = getattr(raw, unit), sum(getattr(row, unit) for row in rows)
        if whole != parts:
            raise UserError(
                f"corpus {raw.corpus}: {whole} {unit} were read, but the stages' tables account for {parts}; "
                f"delete {folder} and run again"
            )


def _packed(corpus: str, mixture: str, entry: dict[str, Any], kept: int | None) -> Iterator[Row]:
    """The rows on kept tokens in one mixture; a repeated token counts once."""
    if entry["tokens"] != kept:
        raise UserError(
            f"packed/{mixture}/ledger.json: packed from {entry['tokens']} tokens of {corpus}, which now has "
            f"{kept}; delete packed/{mixture} and run again"
        )
    left = {"tail": entry["tail_tokens"], "unused": entry["unused_tokens"]}
    for rule, tokens in left.items():
        yield Row(corpus, "packing", rule, mixture, None, None, tokens, None)
    yield Row(corpus, "packed", "", mixture, None, None, entry["tokens"] - sum(left.values()), None)
