from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cpt.command import run
from cpt.files import one_for_each, read_json
from cpt.train import loop
from cpt.train.continuation import point_folder
from cpt.train.processes import leave_processes
from cpt.train.results import write_run


def train(
    plan: Path,
    packed: Sequence[Path],
    start: Path,
    work: Path,
    model: Path,
    metrics: Path,
    held_out_losses: Path,
    document_losses: Path,
    summary: Path,
    held_out: Sequence[Path] = (),
    corpora: Sequence[str] = (),
    reference_losses: Sequence[Path] = (),
    keep_optimizer: bool = False,
    point: int = 0,
    device: Literal["cuda", "cpu"] = "cuda",
) -> None:
    """Continue pre-training of a model on packed sequences (paper sections 3.3 and 3.4).

    Start it alone or under torchrun; started again after an interruption, it resumes from its newest
    checkpoint. Needs only torch, transformers and numpy (and deepspeed for that engine).

    Args:
        plan: the run's plan.json.
        packed: folder of the packed mixture, or of both mixtures of a run that switches.
        start: Hugging Face folder to start from, or of the run that this one branches off from.
        work: folder for checkpoints; removed when done.
        model: folder of the trained model to write.
        metrics: metrics of each step to write (CSV).
        held_out_losses: losses on held-out text to write (CSV).
        document_losses: the same for each held-out document, to write (CSV).
        summary: what the run took, to write (JSON).
        held_out: held-out tokens (.npz) to measure the loss on, if the plan says so.
        corpora: names of their corpora.
        reference_losses: folder of the reference's losses on each mixture, if the plan selects targets.
        keep_optimizer: leave AdamW's moments in the model's folder, for a run that continues.
        point: tokens of that run after which this one branches off; 0: its end.
        device: where each process computes.
    """
    measured = dict(one_for_each(corpora, held_out))
    origin = point_folder(start, point)
    result = loop.train(
        read_json(plan), origin, packed, work, device, measured, keep_optimizer, reference_losses
    )
    if result is not None:  # on rank 0
        curves = {
            "metrics.csv": metrics,
            "held_out.csv": held_out_losses,
            "held_out_documents.csv": document_losses,
        }
        write_run(result, work, model, curves, summary)
    leave_processes()


if __name__ == "__main__":
    run(train)
