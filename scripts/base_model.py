import logging
from pathlib import Path

from cpt.command import run
from cpt.config_sections import BaseSource, RandomModel
from cpt.digest import plain
from cpt.files import atomic, write_json
from cpt.model.bos import other_start, settle_bos
from cpt.model.checks import check_context, check_dense, check_loss, describe, loss_limit
from cpt.model.sources import load_source
from cpt.provenance import provenance
from cpt.templates import template_problems


def base_model(
    source: BaseSource,
    sequence_length: int,
    model: Path,
    report: Path,
    wheel: Path | None = None,
    add_bos: bool | None = None,
    scored_with_bos: bool | None = None,
) -> None:
    """Turn a model into a plain Hugging Face folder and check that it works (paper section 3.4.2).

    Args:
        source: the config's section `base`, or one of `reference_models`.
        sequence_length: tokens per training sequence, which the model's context must hold.
        model: folder to write.
        report: import report (JSON) to write.
        wheel: the wheel, for a source of kind `package`.
        add_bos: the config's `packing.add_bos`.
        scored_with_bos: the config's `evaluate.add_bos_token`.
    """
    random = isinstance(source, RandomModel)
    with atomic(model) as folder:
        loaded = load_source(source, wheel)
        check_dense(loaded.model)
        check_context(loaded.model.config, sequence_length)
        bos = settle_bos(loaded, add_bos, scored_with_bos)
        loaded.save(folder)
        facts = {**loaded.facts, "repairs": loaded.repairs, **describe(folder, loaded.model), **bos}
        facts["chat_template_problems"] = template_problems(folder)
        if not random:
            check_loss(facts["loss_on_known_text"], loss_limit(loaded.model.config), other_start(bos))
    for problem in facts["chat_template_problems"]:
        logging.warning("warning: %s", problem)
    settings = {"source": source, "sequence_length": sequence_length, "add_bos": add_bos}
    origin = provenance(settings, {"weights": source.seed} if random else {})
    write_json(report, {"source": dict(sorted(plain(source).items())), **facts, "provenance": origin})


if __name__ == "__main__":
    run(base_model)
