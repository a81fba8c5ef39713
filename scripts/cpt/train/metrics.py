"""Peak speed and memory of a device, and the file of metrics by step."""

import csv
import io
import logging
import resource
from pathlib import Path

import torch

from cpt.files import write_text
from cpt.train.flops import PEAK_FLOPS

COLUMNS = (
    "step", "tokens", "loss", "learning_rate", "gradient_norm", "tokens_per_second",
    "model_flops_utilization", "peak_memory_mb", "skipped", "selected_loss",
)  # fmt: skip


def peak_flops(device: torch.device) -> float | None:
    """Peak bfloat16 FLOP/s of the GPU, or None if it isn't known (as of every CPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this process so far in MB (10^6 bytes): GPU memory on a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


class MetricsFile:
    """A CSV file whose rows begin with their step; interruptions neither lose nor repeat a row.

    Rows are appended as they arrive; on resume, rows after step `steps_done` are removed. On a full disk,
    rows wait in memory until there is room again.
    """

    def __init__(self, path: Path, steps_done: int, columns: tuple[str, ...] = COLUMNS):
        kept: list[list[str]] = []
        if path.exists():
            with open(path, newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == len(columns)]
            kept = [row for row in rows if row[0].isdigit() and int(row[0]) <= steps_done]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *kept])
        write_text(path, text.getvalue())
        self._path, self._columns = path, columns
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._waiting = b""

    def write(self, **values: float | str | None) -> None:
        """Append one row; None becomes an empty cell."""
        row = ",".join("" if values[name] is None else str(values[name]) for name in self._columns)
        self._waiting += f"{row}\n".encode()
        try:
            self._flush()
        except OSError as error:
            logging.warning("%s: a row can't be written yet (%s)", self._path, error.strerror)

    def _flush(self) -> None:
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]

    def close(self) -> None:
        """Write the waiting rows and close the file."""
        self._flush()
        self._file.close()
