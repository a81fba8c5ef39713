from pathlib import Path

from cpt.command import run as run_stage
from cpt.files import read_json, write_json
from cpt.report.upload import upload


def push_run(
    released: Path,
    base: Path,
    record: Path,
    run: str,
    repo: str,
    private: bool,
    branch: str,
    license: str | None,
) -> None:
    """Upload a released folder to the Hugging Face hub, unless the same files are there already.

    Args:
        released: folder with the model and its card.
        base: models/base.json.
        record: what was uploaded, to write (JSON): repository, branch, commit, digests of the files.
        run: name of the run.
        repo: OWNER/NAME.
        private: whether the repository is created as a private one.
        branch: branch to commit to; created if it doesn't exist.
        license: licence of the base model, if the config states it.
    """
    write_json(
        record, upload(released, run, repo, private, branch, license or read_json(base).get("licence"))
    )


if __name__ == "__main__":
    run_stage(push_run)
