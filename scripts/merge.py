from collections.abc import Sequence
from pathlib import Path

from cpt.command import run as run_stage
from cpt.files import one_for_each, write_json
from cpt.model_folders import weights_digest
from cpt.provenance import provenance
from cpt.train.merging import merged_model


def merge(
    run: str, models: Sequence[Path], model: Path, report: Path, coefficients: dict[str, float]
) -> None:
    """Make a model that is a sum of others, each weight times its model's coefficient.

    Args:
        run: name of the run.
        models: folders in the order of their coefficients; the sum has the first one's dtypes.
        model: folder of the model to write.
        report: report of what it is made of, to write (JSON).
        coefficients: by the models' names.
    """
    folders = dict(one_for_each(coefficients, models))
    companions = merged_model(run, folders, coefficients, model)
    digests = {name: weights_digest(folder) for name, folder in folders.items()}
    facts = {"coefficients": coefficients, "template_and_tokenizer_of": companions}
    facts |= {"sha256": digests | {run: weights_digest(model)}}
    write_json(report, facts | {"provenance": provenance({"coefficients": coefficients})})


if __name__ == "__main__":
    run_stage(merge)
