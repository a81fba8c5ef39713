"""A frozen release beside the runs of these results: base, old and new model on the same text and items."""

import csv
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from cpt.errors import UserError
from cpt.files import one_for_each, read_json, sha256_of
from cpt.report.comparisons import comparison_rows
from cpt.report.held_out import held_out_rows, read_losses
from cpt.report.held_out_text import INTERVALS, few_groups_warnings
from cpt.report.labels import MINUS
from cpt.report.rows import Row, grouped
from cpt.report.samples import read_all_answers
from cpt.report.scores import AVERAGE, BITS_PER_BYTE, LOWER

COLUMNS = (
    "run", "task", "metric", "n", "groups", "base_score", "old_score", "new_score", "difference", "ci_low",
    "ci_high", "relative_change", "relative_ci_low", "relative_ci_high", "test", "p", "p_holm",
    "detectable_difference", "higher_is_better",
)  # fmt: skip
OF_PAIR = ("difference", "ci_low", "ci_high", "test", "p", "p_holm", "detectable_difference")
TOKENIZER = "tokenizer.json"
NONE = "\N{EN DASH}"


class Measured(NamedTuple):
    """The models, tasks and corpora that were measured.

    Attributes:
        base: the run that is the base model.
        pairs: by run, the name of the release's model.
        metrics: the metric of each task that Table 1 shows.
        table_tasks: the tasks that are columns of Table 1.
        corpora: those measured in bits per byte.
    """

    base: str
    pairs: dict[str, str]
    metrics: dict[str, str | None]
    table_tasks: list[str]
    corpora: Sequence[str]

    @property
    def models(self) -> list[str]:
        """All models, in the order of their files: base, then old and new of each pair."""
        return [self.base, *(model for new, old in self.pairs.items() for model in (old, new))]


def require_tokenizer(release: str, models: Sequence[Path], base: Path) -> None:
    """Raise UserError if a model of the release has another tokenizer than the base model, which tokenized
    the text."""
    for model in models:
        if sha256_of(model / TOKENIZER) != sha256_of(base / TOKENIZER):
            raise UserError(
                f"release.compare_to: {release} has another tokenizer than the base model here "
                f"({model / TOKENIZER}), so their losses are of other tokens; compare releases of one base "
                "model"
            )


def change_rows(
    measured: Measured,
    tokens: dict[str, int],
    samples: Sequence[Path],
    summaries: Sequence[Path],
    losses: Sequence[Path],
    seed: int,
) -> list[Row]:
    """A row for each run and corpus, each run and shown task, and each run's average: the new model less the
    old one on the same documents or items.

    Args:
        measured: the models, tasks and corpora.
        tokens: training tokens of each model.
        samples: {task}.samples.jsonl of the models by task.
        summaries: {task}.json, in the same order.
        losses: bits_per_byte.{corpus}.documents.csv of the models by corpus.
        seed: of the resampling.

    Raises:
        UserError: models weren't scored on the same items or documents.
    """
    answers = read_all_answers(samples, summaries, measured.models, measured.metrics)
    files = dict(one_for_each(product(measured.models, measured.corpora), losses))
    rows: list[Row] = []
    for new, old in measured.pairs.items():
        for corpus in measured.corpora:
            model_losses = [read_losses(files[model, corpus]) for model in (old, new, measured.base)]
            before, after, base = held_out_rows(model_losses, seed)
            row = {"run": new, "task": f"{BITS_PER_BYTE}.{corpus}", "metric": BITS_PER_BYTE, **after}
            row |= {"ci_low": after.get("difference_ci_low"), "ci_high": after.get("difference_ci_high")}
            scores = {"base_score": base["score"], "old_score": before["score"], "new_score": after["score"]}
            rows.append(row | scores | {"higher_is_better": False})
        budgets = {model: tokens[model] for model in (measured.base, old, new)}
        comparisons = comparison_rows(budgets, measured.metrics, measured.table_tasks, answers, seed)
        shown = {
            (row["reference"], row["task"]): row for row in comparisons if row["shown"] and row["run"] == new
        }
        for (reference, task), row in shown.items():
            if reference == old:
                scores = {"old_score": row["reference_score"], "new_score": row["score"]}
                scores["base_score"] = shown[measured.base, task]["reference_score"]
                cells = {key: row.get(key) for key in (*OF_PAIR, "metric", "n", "higher_is_better")}
                rows.append({"run": new, "task": task, **scores, **cells})
    return rows


def comparison_page(
    release: dict[str, Any],
    rows: list[Row],
    labels: dict[str, str],
    bases: tuple[Path, Path],
    data: tuple[Path, Path],
    held_out: dict[str, Any],
) -> str:
    """compare.md.

    Args:
        release: release.json.
        rows: of change_rows.
        labels: names of the tasks.
        bases: base.json of the release and of these results.
        data: data.csv of the release and of these results.
        held_out: how text is held out of each corpus here.
    """
    name = release["name"]
    parts = [
        f"# {name} and now",
        f"The base model, the models of the release {name} and those of these results, all scored now on the "
        "same held-out documents and items. The release's own scores, in its folder, may be of others.",
        "## Text",
        _corpora(*data),
    ]
    before, now = (read_json(path)["sha256"]["model.safetensors"] for path in bases)
    if before != now:
        parts.append(
            f"Warning: {name} was trained from another base model (weights {before[:12]}) than these results "
            f"({now[:12]}), so a difference between the two may come from there."
        )
    if different := [corpus for corpus in held_out if held_out[corpus] != release["held_out"].get(corpus)]:
        parts.append(
            f"Warning: text is held out of {', '.join(different)} in another way than for {name}, so its "
            "models may have been trained on some of the text that is held out now."
        )
    for run, run_rows in grouped(rows, "run").items():
        parts += [f"## {run}", *_tables(run_rows, labels, name)]
    return "\n\n".join(parts) + "\n"


def _corpora(then: Path, now: Path) -> str:
    """A table of each corpus's final documents and tokens, in the release and now."""
    tables = []
    for path in (then, now):
        with open(path, newline="", encoding="utf-8") as file:
            tables.append({row["corpus"]: row for row in csv.DictReader(file) if row["documents"]})
    lines = ["| corpus | documents then | now | tokens then | now |", "| --- | ---: | ---: | ---: | ---: |"]
    for corpus in dict.fromkeys(corpus for table in reversed(tables) for corpus in table):
        cells = [
            f"{int(table[corpus][unit]):,}" if corpus in table else NONE
            for unit in ("documents", "tokens")
            for table in tables
        ]
        lines.append(f"| {corpus} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\nWhat is left of each corpus after the last rule that counts documents."


def _tables(rows: list[Row], labels: dict[str, str], release: str) -> list[str]:
    """Tables and notes of one run."""
    held_out = [row for row in rows if row["metric"] == BITS_PER_BYTE]
    tested = [row for row in rows if row["metric"] != BITS_PER_BYTE]
    head = f"base model | {release} | now | now less {release} | 95 % CI"
    parts = []
    if held_out:
        lines = [f"| held-out text | documents | groups | {head} | in % | 95 % CI |", _rule(9)]
        for row in held_out:
            cells = [row["task"].removeprefix(f"{BITS_PER_BYTE}."), f"{row['n']:,}", f"{row['groups']:,}"]
            cells += _cells(row, 3)
            cells += [_signed(row["relative_change"], 2), _interval(row, "relative_ci", 2)]
            lines.append(f"| {' | '.join(cells)} |")
        parts += ["\n".join(lines), f"Bits per byte, lower is better. {INTERVALS}"]
        parts += few_groups_warnings(held_out)
    if tested:
        lines = [f"| task | items | {head} | p | p (Holm) |", _rule(9)]
        for row in tested:
            label = "**Average**" if row["task"] == AVERAGE else labels[row["task"]]
            label += "" if row["higher_is_better"] else f" {LOWER}"
            cells = [label, f"{row['n']:,}", *_cells(row, 4)]
            cells += [NONE if row[key] is None else f"{row[key]:.3f}" for key in ("p", "p_holm")]
            lines.append(f"| {' | '.join(cells)} |")
        parts += [
            "\n".join(lines),
            "The interval is of the difference on the same items; p of the exact McNemar test where items "
            "are right or wrong, else of random sign flips; Holm's adjustment is over this table's tasks.",
        ]
    return parts


def _rule(columns: int) -> str:
    return "| --- |" + " ---: |" * (columns - 1)


def _cells(row: Row, digits: int) -> list[str]:
    scores = (row["base_score"], row["old_score"], row["new_score"])
    shown = [NONE if score is None else f"{score:.{digits}f}" for score in scores]
    return [*shown, _signed(row["difference"], digits), _interval(row, "ci", digits)]


def _signed(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:+.{digits}f}".replace("-", MINUS)


def _interval(row: Row, name: str, digits: int) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return NONE if low is None or high is None else f"{_signed(low, digits)} to {_signed(high, digits)}"
