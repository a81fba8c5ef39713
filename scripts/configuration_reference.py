from pathlib import Path

from cpt.command import run
from cpt.config_reference import reference
from cpt.files import write_text


def configuration_reference(config: Path, folder: Path) -> None:
    """Write the configuration's pages, after a change of the config's keys (`make reference`).

    Args:
        config: config.yaml.
        folder: where configuration.md and the pages of its sections are (docs/).
    """
    for name, text in reference(config.read_text(encoding="utf-8")).items():
        write_text(folder / name, text)


if __name__ == "__main__":
    run(configuration_reference)
