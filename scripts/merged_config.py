from pathlib import Path
from typing import Any

import yaml

from cpt.command import run
from cpt.files import write_text


def merged_config(config: dict[str, Any], merged: Path) -> None:
    """Store the merged, validated config beside the results it made, in the order of config.yaml's sections.

    Args:
        config: the whole config; no key is read, so it needs no types.
        merged: YAML to write.
    """
    write_text(merged, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


if __name__ == "__main__":
    run(merged_config)
