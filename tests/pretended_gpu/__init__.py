"""How a process gets a GPU that isn't there. sitecustomize.py describes it."""

import os
import subprocess
from pathlib import Path

import torch
from filelock import FileLock

NEEDS_NO_CUDA = "a GPU that isn't there needs a PyTorch built without CUDA (docs/gpu-counted.md)"
HERE = Path(__file__).parent
SCRIPTS = HERE.parents[1] / "scripts"


def common_folder(base: Path) -> Path:
    """The folder that all processes of a test run share, from the temporary folder of one of them."""
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def environment(folder: Path, values: bool = True, size: int = 80 * 10**9) -> dict[str, str]:
    """The environment in which Python has a GPU that isn't there, and finds this project.

    Args:
        folder: for the library that replaces PyTorch's CUDA part.
        values: whether tensors have values (sitecustomize.py).
        size: the GPU's memory in bytes.

    Raises subprocess.CalledProcessError if the library can't be compiled; the compiler says why.
    """
    installed, library = Path(torch.__file__).parent, folder / "accelerator.so"
    with FileLock(folder / "accelerator.lock"):  # compiled once, in ten seconds
        if not library.exists():
            command = [os.environ.get("CXX", "c++"), "-std=c++20", "-fPIC", "-shared"]
            command += [str(HERE / "accelerator.cpp"), "-o", str(library), f"-I{installed / 'include'}"]
            command += [f"-L{installed / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{installed / 'lib'}"]
            subprocess.run(command, check=True)
    return os.environ | {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": f"{HERE}{os.pathsep}{SCRIPTS}",
        "DS_ACCELERATOR": "cuda",  # DeepSpeed would inherit what the parent process has set
        "PRETENDED_GPU_BYTES": str(size),
        "PRETENDED_GPU_VALUES": "yes" if values else "no",
    }
