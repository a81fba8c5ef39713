"""Loss on held-out text while training: how the domain is learned and the rest is forgotten, step by step."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from cpt.rotary import grouped_by_frequencies
from cpt.token_windows import load_held_out
from cpt.train.batches import Batch, micro_batches, on_device
from cpt.train.engines import Engine
from cpt.train.metrics import MetricsFile

COLUMNS = ("step", "tokens", "corpus", "loss", "bits_per_byte")


class HeldOutLosses:
    """Measures through the engine itself, so that a model that is split over processes stays so.

    Training doesn't notice: no gradients, no dropout, no random numbers, no update. Compiled layers run
    uncompiled meanwhile: held-out text has a shape for nearly each micro-batch, and after eight shapes
    PyTorch would stop compiling the layers, those of training too.

    Args:
        files: held-out tokens (.npz) by corpus.
        plan: of the run; plan["execution"]["held_out"] says when, or isn't there: then nothing is measured.
        micro_batch: windows per process and forward pass.
        engine, model: the engine, and the transformers model inside it.
        device: of this process.
        path: where rows are written (COLUMNS; loss in nats per token), by rank 0.
        steps_done: rows after this step are cut; those before the first step are measured again.

    Attributes:
        seconds: spent on measuring.
    """

    def __init__(
        self,
        files: dict[str, Path],
        plan: dict[str, Any],
        micro_batch: int,
        engine: Engine,
        model: nn.Module,
        device: torch.device,
        path: Path,
        steps_done: int,
    ):
        self.settings: dict[str, int] | None = plan["execution"].get("held_out")
        self.steps = plan["steps"]
        self.micro_batch = micro_batch
        self.engine, self.model, self.device = engine, model, device
        self.rank, self.world_size = (
            (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        )
        self.corpora = {name: load_held_out(file) for name, file in files.items()} if self.settings else {}
        # As cpt.evaluate.bits cuts them; the longest first, so that little is padded.
        length = min(plan["sequence_length"], model.config.max_position_embeddings)
        self.windows = {
            name: sorted(
                zip(found.windows(length), found.counted(length), strict=True),
                key=lambda part: len(part[0]),
                reverse=True,
            )
            for name, found in self.corpora.items()
        }
        self.file = MetricsFile(path, steps_done or -1, COLUMNS) if self.rank == 0 else None
        self.seconds = 0.0

    def after(self, step: int, tokens_before: int, tokens: int) -> None:
        """Measure if it is due after `step` steps (0: before the first); a collective operation.

        `tokens_before` and `tokens` are those trained on before and after the step, without padding.
        """
        if self.settings is None:
            return
        whole = tokens // self.settings["every"] > tokens_before // self.settings["every"]
        if not (whole or step <= self.settings["first_steps"] or step in (0, self.steps)):
            return
        since = time.monotonic()
        self.model.eval()
        for name, found in self.corpora.items():
            with torch.compiler.set_stance("force_eager"):
                total = sum(map(self._negative_log_likelihood, self._groups(self.windows[name])))
            if self.file is not None:
                self.file.write(
                    step=step,
                    tokens=tokens,
                    corpus=name,
                    loss=total / found.predicted,
                    bits_per_byte=total / (math.log(2) * found.bytes),
                )
        self.model.train()
        self.seconds += time.monotonic() - since

    def _groups(
        self, windows: list[tuple[np.ndarray, np.ndarray]]
    ) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Windows that may share a batch, each group in their order."""
        lengths = [len(window) - 1 for window, _ in windows]
        groups = grouped_by_frequencies(lengths, self.model.config)
        return [[windows[number] for number in group] for group in groups]

    @torch.no_grad()
    def _negative_log_likelihood(self, windows: list[tuple[np.ndarray, np.ndarray]]) -> float:
        """Sum over all tokens that count (HeldOut.counted), in nats. All processes make the same calls, with
        equal shapes."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        shares = micro_batches(range(len(windows)), self.rank, self.world_size, self.micro_batch)
        for number, (rows, weights) in enumerate(shares):
            # The longest window that any process has in this pass.
            width = len(windows[number * self.micro_batch * self.world_size][0])
            ids = np.zeros((len(rows), width), dtype=np.int64)
            counted = np.zeros((len(rows), width - 1), dtype=np.float32)
            for place, (row, weight) in enumerate(zip(rows, weights, strict=True)):
                # Cut only where a repeated row of weight 0 fills the share.
                window, which = windows[row][0][:width], windows[row][1][: width - 1]
                ids[place, : len(window)] = window
                counted[place, : len(which)] = weight * which
            total += self.engine.loss(*on_device(Batch(ids, None, counted), self.device)).double()
        if self.world_size > 1:
            dist.all_reduce(total)
        return total.item()

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()
