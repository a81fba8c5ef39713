from collections.abc import Sequence
from pathlib import Path

from cpt.command import run as run_stage
from cpt.config_runs import split_point
from cpt.cpu import set_up_products
from cpt.evaluate import bits
from cpt.evaluate.model import Device, load_model, out_of_memory_explained
from cpt.files import one_for_each, scratch, write_json
from cpt.model_folders import weights_digest
from cpt.provenance import provenance
from cpt.token_windows import load_held_out
from cpt.train.continuation import point_folder
from cpt.train.greedy import greedy_choice
from cpt.train.merging import merged_model


def choose_summands(
    run: str,
    names: list[str],
    models: Sequence[Path],
    held_out: Path,
    report: Path,
    corpus: str,
    sequence_length: int,
    batch_size: int,
    precision: str,
    device: Device = "cuda",
    threads: int = 1,
) -> None:
    """Choose, by loss on held-out text, the models whose mean is a run; no test item is read.

    Args:
        run: name of the run that is the mean.
        names: names of the candidate models; the mean has the dtypes of the first chosen one.
        models: their folders, in the same order.
        held_out: held-out tokens (.npz).
        report: what was chosen and tried, to write (JSON).
        corpus: the corpus of the held-out text.
        sequence_length: most tokens in a window of a document.
        batch_size: windows per batch.
        precision: precision of weights and layers, float32 or bf16.
        device: where the models run; without a GPU, cuda is refused.
        threads: number of threads, on a CPU.
    """
    set_up_products()
    text = load_held_out(held_out)
    folders = {
        name: point_folder(folder, split_point(name)[1]) for name, folder in one_for_each(names, models)
    }

    def loss_of(chosen: list[str]) -> float:
        with scratch(report) as folder:
            coefficients = dict.fromkeys(chosen, 1 / len(chosen))
            merged_model(run, {name: folders[name] for name in chosen}, coefficients, folder / "model")
            model, _ = load_model(folder / "model", precision, threads, device)
            with out_of_memory_explained("evaluate.batch_size", batch_size):
                losses = bits.document_losses(model, text, sequence_length, batch_size)
            return bits.summary(text, losses)["bits_per_byte"]

    chosen, tried = greedy_choice(names, loss_of)
    settings = {"sequence_length": sequence_length, "batch_size": batch_size, "precision": precision}
    facts = {"run": run, "chosen": chosen, "loss": "bits per byte", "corpus": corpus}
    facts |= {"documents": len(text.ends), "groups": text.group_count, "tried": tried, "settings": settings}
    facts |= {"models_sha256": {name: weights_digest(folder) for name, folder in folders.items()}}
    write_json(report, facts | {"provenance": provenance({**settings, "names": names})})


if __name__ == "__main__":
    run_stage(choose_summands)
