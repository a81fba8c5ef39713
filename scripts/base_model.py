from pathlib import Path

from cpt.command import run
from cpt.config_sections import BaseSource, RandomModel
from cpt.digest import plain
from cpt.files import atomic, write_json
from cpt.model.checks import check_context, check_dense, check_loss, describe
from cpt.model.sources import load_source
from cpt.provenance import provenance


def base_model(
    source: BaseSource, sequence_length: int, model: Path, report: Path, wheel: Path | None = None
) -> None:
    """Turn a model into a plain Hugging Face folder and check that it works (paper section 3.4.2).

    Args:
        source: the config's section `base`, or one of `reference_models`.
        sequence_length: tokens per training sequence, which the model's context must hold.
        model: folder to write.
        report: import report (JSON) to write.
        wheel: of a source of kind `package`.
    """
    random = isinstance(source, RandomModel)
    with atomic(model) as folder:
        loaded = load_source(source, wheel)
        check_dense(loaded.model)
        check_context(loaded.model.config, sequence_length)
        loaded.save(folder)
        facts = {**loaded.facts, "repairs": loaded.repairs, **describe(folder, loaded.model)}
        if not random:
            check_loss(facts["loss_on_known_text"], facts["uniform_loss"])
    settings = {"source": source, "sequence_length": sequence_length}
    origin = provenance(settings, {"weights": source.seed} if random else {})
    write_json(report, {"source": dict(sorted(plain(source).items())), **facts, "provenance": origin})


if __name__ == "__main__":
    run(base_model)
