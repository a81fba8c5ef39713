from pathlib import Path

import yaml

from cpt.command import run as run_stage
from cpt.config import load
from cpt.files import atomic, link, read_json
from cpt.model_folders import companions, weights
from cpt.report.model_card import model_card
from cpt.report.scores import read_scores


def release(
    run: str, model: Path, config: Path, base: Path, scores: Path, summary: Path, released: Path
) -> None:
    """Put a model together as it can be published: weights, tokenizer, and a card with its scores.

    Args:
        run: name of the run.
        model: its model folder.
        config: the merged config.yaml of the results.
        base: models/base.json.
        scores: scores.csv.
        summary: run.json of the trained run.
        released: folder to write.
    """
    settings = load(yaml.safe_load(config.read_text(encoding="utf-8")))
    card = model_card(run, settings, read_json(base), read_scores(scores), read_json(summary))
    with atomic(released) as folder:
        folder.mkdir()
        for name in ("config.json", *weights(model), *companions(model)):
            (folder / name).parent.mkdir(exist_ok=True)
            link(model / name, folder / name)
        (folder / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    run_stage(release)
