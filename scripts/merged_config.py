"""Store the merged, validated config beside the results it made."""

import argparse
from pathlib import Path

import yaml

from cpt.command import command_parser, json_value, run
from cpt.files import write_text


def main(arguments: argparse.Namespace) -> None:
    """Write the config as YAML, in the order of config.yaml's sections."""
    write_text(arguments.output, yaml.safe_dump(arguments.config, sort_keys=False, allow_unicode=True))


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=json_value, required=True)
    parser.add_argument("--output", type=Path, required=True)
    run(main, parser)
