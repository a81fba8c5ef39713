from collections.abc import Sequence
from pathlib import Path

from cpt.command import run as run_stage
from cpt.config_runs import split_point
from cpt.files import one_for_each, read_json, write_json
from cpt.model_folders import weights_digest
from cpt.provenance import provenance
from cpt.train.continuation import point_folder
from cpt.train.merging import merged_model


def merge(
    run: str,
    models: Sequence[Path],
    model: Path,
    report: Path,
    coefficients: dict[str, float],
    chosen: Path | None = None,
) -> None:
    """Make a model that is a sum of others, each weight times its model's coefficient.

    Args:
        run: name of the run.
        models: folders in the order of their coefficients; the sum has the first one's dtypes.
        model: folder of the model to write.
        report: report of what the model is made of, to write (JSON).
        coefficients: coefficients by model.
        chosen: report of choose_summands, if only the models it chose are averaged.
    """
    folders = {
        name: point_folder(folder, split_point(name)[1])
        for name, folder in one_for_each(coefficients, models)
    }
    if chosen is not None:
        names = read_json(chosen)["chosen"]
        coefficients = dict.fromkeys(names, 1 / len(names))
        folders = {name: folders[name] for name in names}
    companions = merged_model(run, folders, coefficients, model)
    digests = {name: weights_digest(folder) for name, folder in folders.items()}
    facts = {"coefficients": coefficients, "template_and_tokenizer_of": companions}
    facts |= {"sha256": digests | {run: weights_digest(model)}}
    write_json(report, facts | {"provenance": provenance({"coefficients": coefficients})})


if __name__ == "__main__":
    run_stage(merge)
