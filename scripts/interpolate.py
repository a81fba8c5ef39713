from pathlib import Path

from cpt.command import run
from cpt.files import sha256_of, write_json
from cpt.provenance import provenance
from cpt.train.interpolation import interpolated_model


def interpolate(base: Path, trained: Path, model: Path, report: Path, ratio: float) -> None:
    """Make a model between the base model and a trained one: (1 - ratio) * base + ratio * trained.

    Args:
        base: the base model's folder.
        trained: the trained model's folder.
        model: folder of the model to write.
        report: report of what it is made of, to write (JSON).
        ratio: share of the trained model.
    """
    interpolated_model(base, trained, ratio, model)
    folders = {"base": base, "run": trained, "interpolated": model}
    digests = {name: sha256_of(folder / "model.safetensors") for name, folder in folders.items()}
    write_json(report, {"ratio": ratio, "sha256": digests, "provenance": provenance({"ratio": ratio})})


if __name__ == "__main__":
    run(interpolate)
