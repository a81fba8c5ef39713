"""The memory that training takes of a GPU, without a GPU: a count, not a measurement.

`python gpu_memory.py` runs benchmarks/training.py on a GPU that isn't there (pretended_gpu/sitecustomize.py),
with tensors that have shapes and no values. Every process trains as on a GPU, in bfloat16 with attention by a
GPU's kernels, and the bytes of all tensors that live at a time are added up: at the peak, and of weights,
gradients, moments, activations and logits. Not counted are what a kernel needs while it runs, fragments, and
CUDA itself. Layers aren't compiled, which on a GPU makes them keep less.

Needs a PyTorch built without CUDA, a C++ compiler, deepspeed for the paper's configuration, and accelerate
for the Trainer.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

SYSTEMS = [
    "ours-zero3-offload-checkpointing",
    "ours-checkpointing",
    "ours-ddp",
    "hf-trainer-checkpointing",
    "hf-trainer",
]
NEEDS_NO_CUDA = "a GPU that isn't there needs a PyTorch built without CUDA (docs/performance.md)"
PRETENDED = Path(__file__).with_name("pretended_gpu")


def pretended_gpu(folder: Path, values: bool = True, size: int = 80 * 10**9) -> dict[str, str]:
    """The environment in which Python has a GPU that isn't there.

    Args:
        folder: for the library that PyTorch takes for its CUDA part.
        values: whether tensors have values (pretended_gpu/sitecustomize.py).
        size: of the GPU's memory, in bytes.

    Raises subprocess.CalledProcessError, once the compiler has told why.
    """
    installed, library = Path(torch.__file__).parent, folder / "accelerator.so"
    if not library.exists():
        command = [os.environ.get("CXX", "c++"), "-std=c++20", "-fPIC", "-shared"]
        command += [str(PRETENDED / "accelerator.cpp"), "-o", str(library), f"-I{installed / 'include'}"]
        command += [f"-L{installed / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{installed / 'lib'}"]
        subprocess.run(command, check=True)
    return os.environ | {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": str(PRETENDED),
        "DS_ACCELERATOR": "cuda",  # else DeepSpeed takes what a process before it has set
        "PRETENDED_GPU_BYTES": str(size),
        "PRETENDED_GPU_VALUES": "yes" if values else "no",
    }


def main(arguments: argparse.Namespace) -> None:
    """Print a table of the systems' memory in GB."""
    if torch.version.cuda is not None:
        sys.exit(f"error: {NEEDS_NO_CUDA}; where there is a GPU, benchmarks/training.py measures")
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        sys.exit("error: no C++ compiler: install g++, or set CXX to one")
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary) / "table.csv"
        command = [sys.executable, str(Path(__file__).with_name("training.py")), "--device", "cuda"]
        command += ["--steps", "1", "--repeats", "1", "--systems", *arguments.systems]
        command += ["--shape", arguments.shape, "--micro-batch", str(arguments.micro_batch)]
        command += ["--sequence-length", str(arguments.sequence_length), "--output", str(table)]
        command += ["--settings", arguments.settings]
        environment = pretended_gpu(Path(temporary), values=False, size=10**15)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        for line in done.stderr.splitlines():  # its speeds mean nothing here
            if "is left out" in line:
                print(line, file=sys.stderr)
        with open(table, newline="") as file:
            rows = list(csv.DictReader(file))
    parts = [key for key in rows[0] if key.endswith("_mb") and key != "baseline_mb"]
    print(f"| system | {' | '.join(part.removesuffix('_mb').replace('_', ' ') for part in parts)} |")
    print(f"| --- |{' ---: |' * len(parts)}")
    for row in rows:
        print(f"| {row['system']} | {' | '.join(f'{float(row[part]) / 1e3:.2f}' for part in parts)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="125m", help="of benchmarks/training.py")
    parser.add_argument("--micro-batch", type=int, default=80, help="sequences")
    parser.add_argument("--sequence-length", type=int, default=2_000, help="tokens")
    parser.add_argument("--settings", default="{}", help="train settings for all of ours, as JSON")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, help="of benchmarks/training.py")
    main(parser.parse_args())
