from pathlib import Path

from cpt.command import run
from cpt.train.event_files import show_runs


def tensorboard_log(
    results: Path = Path("results"), output: Path | None = None, follow: int | None = None
) -> None:
    """Show training in TensorBoard: copy metrics.csv and held_out.csv of every run into event files.

    Training isn't involved: this reads the files of runs under way and of finished ones, once or, with
    --follow, again and again. `tensorboard --logdir FOLDER` then shows the output folder.

    Args:
        results: the experiment's folder.
        output: folder to write, RESULTS/tensorboard if not given; event files of the same runs are replaced.
        follow: seconds after which to look again, until Ctrl-C.
    """
    show_runs(results, output or results / "tensorboard", follow)


if __name__ == "__main__":
    run(tensorboard_log)
