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
DOCUMENT_COLUMNS = ("step", "corpus", "document", "nats")
Window = tuple[np.ndarray, np.ndarray, int]  # ids, which of them count, and the number of the document


class HeldOutLosses:
    """Measures held-out losses through the engine, so that a model split over processes stays split.

    It doesn't affect training: no gradients, no dropout, no random numbers, no update. Compiled layers run
    uncompiled here: nearly every micro-batch of held-out text has another shape, and after eight shapes
    PyTorch would stop compiling the layers, also for training.

    Args:
        files: held-out tokens (.npz) by corpus.
        plan: of the run; plan["execution"]["held_out"] says when to measure; without it nothing is measured.
        micro_batch: windows per process and forward pass.
        engine, model: the engine, and the transformers model inside it.
        device: of this process.
        path: file to which rank 0 writes rows (COLUMNS; loss in nats per token).
        documents_path: the same for each document (DOCUMENT_COLUMNS; nats summed over the document's tokens).
        steps_done: rows after this step are removed; if it is 0, so are those measured before the first step.

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
        documents_path: Path,
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
        # Cut as in cpt.evaluate.bits; the longest first, so that little is padded.
        length = min(plan["sequence_length"], model.config.max_position_embeddings)
        self.windows = {
            name: sorted(
                zip(held_out.windows(length), held_out.counted(length), held_out.owners(length), strict=True),
                key=lambda part: len(part[0]),
                reverse=True,
            )
            for name, held_out in self.corpora.items()
        }
        self.files = (
            [
                MetricsFile(path, steps_done or -1, COLUMNS),
                MetricsFile(documents_path, steps_done or -1, DOCUMENT_COLUMNS),
            ]
            if self.rank == 0
            else []
        )
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
        for name, held_out in self.corpora.items():
            with torch.compiler.set_stance("force_eager"):
                losses = self._document_losses(self.windows[name], len(held_out.ends))
            if self.files:
                self._write(name, step, tokens, losses)
        self.model.train()
        self.seconds += time.monotonic() - since

    def _write(self, corpus: str, step: int, tokens: int, losses: np.ndarray) -> None:
        held_out, total = self.corpora[corpus], math.fsum(losses)
        along, by_document = self.files
        along.write(
            step=step,
            tokens=tokens,
            corpus=corpus,
            loss=total / int(held_out.predicted.sum()),
            bits_per_byte=total / (math.log(2) * int(held_out.bytes.sum())),
        )
        for document, nats in enumerate(losses.tolist()):
            by_document.write(step=step, corpus=corpus, document=document, nats=nats)

    def _document_losses(self, windows: list[Window], documents: int) -> np.ndarray:
        """Loss of each document, summed over its tokens that count, in nats: float64 [documents]."""
        lengths = [len(window) - 1 for window, *_ in windows]
        losses = np.zeros(documents)
        for numbers in grouped_by_frequencies(lengths, self.model.config):  # these may share a batch
            group = [windows[number] for number in numbers]
            np.add.at(losses, [owner for *_, owner in group], self._window_losses(group))
        return losses

    @torch.no_grad()
    def _window_losses(self, windows: list[Window]) -> np.ndarray:
        """Loss of each window, summed over its counted tokens (HeldOut.counted), in nats: float64 [windows].

        All processes make the same calls, with equal shapes.
        """
        losses = torch.zeros(len(windows), dtype=torch.float64, device=self.device)
        shares = micro_batches(range(len(windows)), self.rank, self.world_size, self.micro_batch)
        for number, (rows, weights) in enumerate(shares):
            # The longest window that any process has in this pass.
            width = len(windows[number * self.micro_batch * self.world_size][0])
            ids = np.zeros((len(rows), width), dtype=np.int64)
            counted = np.zeros((len(rows), width - 1), dtype=np.float32)
            for place, (row, weight) in enumerate(zip(rows, weights, strict=True)):
                # This cuts only a repeated row of weight 0 that fills the share.
                window, which = windows[row][0][:width], windows[row][1][: width - 1]
                ids[place, : len(window)] = window
                counted[place, : len(which)] = weight * which
            window_losses = self.engine.loss(*on_device(Batch(ids, None, counted), self.device)).double()
            losses.index_add_(0, torch.from_numpy(rows).to(self.device), window_losses)
        if self.world_size > 1:
            dist.all_reduce(losses)
        return losses.cpu().numpy()

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()
