"""Stop before training if the base model misses the scores that are published for it."""

import argparse
import logging
from pathlib import Path

from cpt.command import command_parser, run
from cpt.evaluate.gate import check_scores, require_reached
from cpt.expected_scores import read_expected
from cpt.files import read_json, write_json
from cpt.provenance import provenance


def main(arguments: argparse.Namespace) -> None:
    expected = [row for row in read_expected(arguments.expected) if row.model == arguments.model]
    rows = check_scores(arguments.evaluations, expected)
    for row in rows:
        logging.info("%s", row)
        if row["least"] <= row["chance"]:
            logging.warning(
                "%s can't tell a broken model: guessing (%.3f) reaches the least that is expected (%.3f)",
                *(row["tasks"], row["chance"], row["least"]),
            )
    settings = next(
        (read_json(arguments.evaluations / f"{row['tasks'].split('+')[0]}.json")["settings"] for row in rows),
        {},
    )
    mended = read_json(arguments.report)["mended"]
    require_reached(arguments.model, rows, settings.get("add_bos_token", False), mended)
    origin = provenance({"model": arguments.model}, arguments.code)
    write_json(arguments.output, {"model": arguments.model, "scores": rows, "provenance": origin})


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--evaluations", type=Path, required=True, help="the base run's folder of TASK.json")
    parser.add_argument("--expected", type=Path, required=True, help="published scores (CSV)")
    parser.add_argument("--model", required=True, help="whose published scores")
    parser.add_argument("--report", type=Path, required=True, help="the import report, models/base.json")
    parser.add_argument("--output", type=Path, required=True, help="comparison (JSON) to write")
    run(main, parser)
