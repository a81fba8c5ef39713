from pathlib import Path

from cpt.command import run
from cpt.config_reference import reference
from cpt.files import write_text


def configuration_reference(config: Path, page: Path) -> None:
    """Write docs/configuration.md again after a change of the config's keys (`make reference`).

    Args:
        config: config.yaml.
        page: the page (.md).
    """
    write_text(page, reference(config.read_text(encoding="utf-8")))


if __name__ == "__main__":
    run(configuration_reference)
