"""Turn a run's token budget into sequences and steps, and check it against the packed data."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.files import read_json, write_json, write_text
from cpt.train.plan import make_plan, require_separate_documents
from cpt.train.schedules import learning_rate


def main(arguments: argparse.Namespace) -> None:
    """Write the run's plan, and its learning rates for those who want to see them before training."""
    require_separate_documents(arguments.run, arguments.train, read_json(arguments.base_report))
    plan = make_plan(
        arguments.run,
        arguments.tokens,
        arguments.processes,
        arguments.train,
        read_json(arguments.ledger),
        read_json(arguments.model_config)["max_position_embeddings"],
        arguments.switch_at,
        arguments.switch_ledger and read_json(arguments.switch_ledger),
        arguments.continues and read_json(arguments.continues),
    )
    lines = ["step,tokens,learning_rate"]
    for step in range(plan["steps"]):
        sequences = min((step + 1) * plan["global_batch"], plan["sequences"])
        lines.append(f"{step + 1},{sequences * plan['sequence_length']},{learning_rate(step, plan):.6g}")
    write_text(arguments.schedule, "\n".join(lines) + "\n")
    write_json(arguments.output, plan)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--tokens", type=int, required=True, help="budget")
    parser.add_argument("--processes", type=int, required=True, help="training processes (GPUs)")
    parser.add_argument("--train", type=json_value, required=True, help="the run's train settings")
    parser.add_argument("--ledger", type=Path, required=True, help="ledger.json of the packed mixture")
    parser.add_argument("--switch-at", type=float, default=1.0, help="share of the steps on that mixture")
    parser.add_argument("--switch-ledger", type=Path, help="ledger.json of the mixture of the other steps")
    parser.add_argument("--continues", type=Path, help="plan.json of the run that this one continues")
    parser.add_argument("--model-config", type=Path, required=True, help="config.json of the start model")
    parser.add_argument("--base-report", type=Path, required=True, help="import report of the base model")
    parser.add_argument("--schedule", type=Path, required=True, help="learning rate of each step (.csv)")
    parser.add_argument("--output", type=Path, required=True, help="plan.json")
    run(main, parser)
