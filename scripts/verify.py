from pathlib import Path

import yaml

from cpt.command import run
from cpt.errors import UserError
from cpt.files import write_text
from cpt.verify_checklist import lines, points
from cpt.verify_golden import compare_golden, write_golden
from cpt.verify_tables import check_all

PROJECT = Path(__file__).resolve().parents[1]
SHOWN = 20  # mismatches on the terminal; verification.md has all


def verify(results: Path, golden: Path = PROJECT / "paper" / "golden", update: bool = False) -> None:
    """Recompute every published number from the samples, compare it with golden values, and check what makes
    the results reproducible. Writes verification.md into the results; exits with 1 if a number or a file is
    wrong.

    Args:
        results: the folder of a finished experiment.
        golden: folder of golden values, a CSV file for each experiment's name.
        update: write this experiment's golden values instead of comparing with them.
    """
    checks = check_all(results)
    name = yaml.safe_load((results / "config.yaml").read_text(encoding="utf-8"))["name"]
    file = golden / f"{name}.csv"
    if update:
        write_golden(results, file)
    compared = compare_golden(results, file) if file.is_file() else None
    mismatches = [each for check in (*checks, compared) if check for each in check.mismatches]
    checklist = list(points(results, PROJECT, checks, compared))
    mismatch_lines = [f"- {m.where}: {m.column}: {m.published}, not {m.recomputed}" for m in mismatches]
    text = [f"# Verification of {name}", "", *lines(checklist)]
    counts = [f"| {check.table} | {check.numbers:,} | {len(check.mismatches)} |" for check in checks]
    text += ["", "| table | numbers | differ |", "| --- | ---: | ---: |", *counts]
    write_text(results / "verification.md", "\n".join([*text, "", *mismatch_lines]).rstrip() + "\n")
    print("\n".join([*text, "", *mismatch_lines[:SHOWN]]).rstrip())
    if failed := [point.what for point in checklist if point.required and point.holds is False]:
        raise UserError(
            f"{results}: the results aren't what their samples and files give ({'; '.join(failed)}); "
            "verification.md there lists each number that differs: make these files again"
        )


if __name__ == "__main__":
    run(verify)
