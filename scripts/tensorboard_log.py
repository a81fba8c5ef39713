from pathlib import Path

from cpt.command import run
from cpt.train.event_files import show_runs


def tensorboard_log(
    results: Path = Path("results"), output: Path | None = None, follow: int | None = None
) -> None:
    """Show training in TensorBoard: copy metrics.csv and held_out.csv of every run into event files.

    It only reads the files of running and of finished runs, once or, with --follow, repeatedly.
    `tensorboard --logdir FOLDER` then shows the output folder.

    Args:
        results: the experiment's folder.
        output: folder to write (default: RESULTS/tensorboard); event files of the same runs are replaced.
        follow: seconds between two looks, until Ctrl-C.
    """
    show_runs(results, output or results / "tensorboard", follow)


if __name__ == "__main__":
    run(tensorboard_log)
