"""Triton's interpreter runs the GPU kernels: they compute what PyTorch does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def printed(task: str, *options: str) -> str:
    """What the script prints for a task."""
    packages = Path(sys.prefix) / "gpu"
    assert (packages / "triton").is_dir(), (
        f"{packages}: missing; run the tests as `make test`, which installs it"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu_kernels.py"), f"--task={task}", *options],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}{os.pathsep}{packages}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def interpreted(task: str, *options: str) -> list[list[str]]:
    """The cells of each row of the table that the script prints."""
    table = [
        line.strip("| ").split(" | ") for line in printed(task, *options).splitlines() if line.startswith("|")
    ]
    return table[2:]


@pytest.mark.parametrize(
    ("precision", "tolerance", "of_gradients"),
    [("float32", 1e-6, 2e-6), pytest.param("bf16", 1e-4, 0.1, marks=pytest.mark.experiments)],
)
def test_kernels_of_compiled_layers_and_loss(precision, tolerance, of_gradients):
    """The interpreter truncates to bfloat16, so float32 is the stricter check."""
    rows = interpreted("check", f"--precisions={precision}")
    assert [row[:2] for row in rows] == [[precision, mask] for mask in ("causal", "documents")]
    for _, _, plain, compiled, gradients in rows:
        expected = [float(loss) for loss in plain.split(", ")]
        assert [float(loss) for loss in compiled.split(", ")] == pytest.approx(expected, rel=tolerance)
        assert expected[1] < expected[0]
        assert float(gradients) < of_gradients


def test_liger_kernel_alone_and_in_our_loss():
    rows = interpreted("liger")
    assert [name for name, *_ in rows] == ["pytorch", "liger"]
    for _, *differences in rows:
        assert all(float(value) < 1e-6 for value in differences)


@pytest.mark.experiments
def test_bytes_that_our_layer_moves_and_keeps():
    """At most the bytes in docs/gpu-counted.md; more would be slower on a GPU, whose memory is the limit."""
    text = printed("traffic")
    kept = re.findall(r"kept for the backward pass: ([\d.]+) KB", text)
    moved = dict(re.findall(r"(.*layer): \d+ kernels, ([\d.]+) KB", text))
    assert float(kept[1]) <= 11.7 < float(kept[0])
    assert float(moved["our layer"]) <= 118.9 < float(moved["transformers' layer"])
