from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.config_runs import Train
from cpt.files import read_json, write_json, write_text
from cpt.train.plan_run import make_plan, require_separate_documents
from cpt.train.schedules import schedule_csv


def plan_run(
    run: str,
    tokens: int,
    processes: int,
    train: Train,
    packed: Sequence[Path],
    base: Path,
    plan: Path,
    schedule: Path,
    switch_at: float | None = None,
    continued: Path | None = None,
    point: int = 0,
    keep_every: int = 0,
) -> None:
    """Turn a run's token budget into sequences and steps, and check it against the packed data.

    Args:
        run: name of the run.
        tokens: token budget.
        processes: training processes, if the global batch follows from them.
        train: the run's train settings.
        packed: folder of the packed mixture, or of both mixtures of a run that switches.
        base: import report of the base model, which has the context length of any architecture.
        plan: plan to write (JSON).
        schedule: learning rate of each step to write (CSV).
        switch_at: share of the steps before the second mixture.
        continued: plan of the run that this one continues.
        point: tokens of that run after which this one branches off; 0: its end.
        keep_every: tokens between states that are kept; 0: none.
    """
    report = read_json(base)
    require_separate_documents(run, train, report)
    ledgers = [read_json(folder / "ledger.json") for folder in packed]
    before = continued and read_json(continued)
    planned = make_plan(
        run,
        tokens,
        processes,
        train,
        ledgers,
        report["context_length"],
        switch_at,
        before,
        **{"point": point, "keep_every": keep_every},
    )
    write_text(schedule, schedule_csv(planned))
    write_json(plan, planned)


if __name__ == "__main__":
    run(plan_run)
