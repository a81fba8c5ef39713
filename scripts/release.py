from collections.abc import Sequence
from pathlib import Path

import yaml

from cpt.command import run as run_stage
from cpt.config import load
from cpt.files import atomic, link, read_json
from cpt.model.auto_tokenizer import auto_tokenizer_agrees
from cpt.model.gguf_file import ends_of_generation
from cpt.model.ollama import modelfile, preferred
from cpt.model_folders import companions, weights
from cpt.report.card_facts import licence_file
from cpt.report.card_use import gguf_parts, needs, read_losses
from cpt.report.likelihoods import read_verdicts
from cpt.report.model_card import license_fields, model_card
from cpt.report.scores import read_scores


def release(
    run: str,
    model: Path,
    config: Path,
    base: Path,
    scores: Path,
    summaries: Sequence[Path],
    released: Path,
    files: Sequence[Path] = (),
    reports: Sequence[Path] = (),
    losses: Path | None = None,
    answers: Path | None = None,
    evaluations: Sequence[Path] = (),
) -> None:
    """Assemble a model for publication: weights, tokenizer, licence, GGUF files, and a card with its scores.

    Args:
        run: name of the run.
        model: model folder of the run.
        config: the merged config.yaml of the results.
        base: models/base.json.
        scores: scores.csv.
        summaries: run.json of the trained run, or of all runs that a sum of models went through.
        released: folder to write.
        files: GGUF files.
        reports: report of each GGUF file (JSON).
        losses: quantisation.csv.
        answers: answers.md.
        evaluations: {task}.json of the run.
    """
    settings = load(yaml.safe_load(config.read_text(encoding="utf-8")))
    trained = [read_json(summary) for summary in summaries]
    use = [needs(read_json(model / "config.json"), auto_tokenizer_agrees(model))]
    use += gguf_parts(run, [read_json(report) for report in reports], read_losses(losses) if losses else [])
    verdict = read_verdicts(answers).get(run, "") if answers else ""
    scored, report = [read_json(path) for path in evaluations], read_json(base)
    licence = license_fields(settings.base.license or report.get("licence"), None)["license"]
    with atomic(released) as folder:
        folder.mkdir()
        for name in ("config.json", *weights(model), *companions(model)):
            (folder / name).parent.mkdir(exist_ok=True)
            link(model / name, folder / name)
        for file in files:
            link(file, folder / file.name)
        if files:
            text = modelfile(model, preferred([file.name for file in files]), ends_of_generation(model))
            (folder / "Modelfile").write_text(text, encoding="utf-8")
        terms = licence_file(licence, folder)
        card = model_card(run, settings, report, read_scores(scores), trained, use, verdict, scored, terms)
        (folder / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    run_stage(release)
