"""A reference model's loss on every target of a packed mixture, computed once (Lin et al. 2024, Rho-1)."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM

from cpt.arrays import load_array, save_array
from cpt.digest import settings_digest
from cpt.errors import DamagedFileError, UserError
from cpt.files import atomic, sha256_of, write_json
from cpt.model_folders import weights_digest
from cpt.progress import Progress
from cpt.train.attention import choose_attention
from cpt.train.batches import PackedSequences, on_device
from cpt.train.losses import LossModel, target_losses
from cpt.train.precision import precision_on_gpu

# Half of float32's bytes, as many as a token of uint16. A loss of 4 nats is kept to 0.002, far more precisely
# than the current model's loss in bfloat16.
DTYPE = np.float16
BLOCK_TOKENS = 2**16  # per block, which one process scores and writes as one file
PASS_TOKENS = {"cpu": 2**11, "cuda": 2**14}  # per forward pass; their logits never exist whole


class ReferenceLosses:
    """Scores a packed mixture block by block; the processes share the blocks.

    A block is a fixed number of sequences, and one file in a folder of parts beside the output. A killed job
    resumes with the missing blocks, on any number of processes, and writes the same bytes.

    Args:
        model_folder: Hugging Face folder of the reference model.
        sequences: folder of the packed mixture.
        document_masking: keep documents apart, as the run that selects by the losses does.
        precision: train.precision, for a GPU; on a CPU, losses are computed in float32.
        device: of this process.
        output: folder to write.
        code: digest of the code.

    Raises UserError if the model's tokenizer isn't that of the mixture.
    """

    def __init__(
        self,
        model_folder: Path,
        sequences: Path,
        document_masking: bool,
        precision: str,
        device: torch.device,
        output: Path,
        code: str,
    ):
        self.packed = PackedSequences(sequences, document_masking)
        self.model_folder, self.device, self.output = model_folder, device, output
        self.precision = "float32" if device.type == "cpu" else precision_on_gpu(precision)
        require_tokenizer(model_folder, self.packed.ledger, sequences)
        self.settings: dict[str, Any] = {
            "mixture": self.packed.ledger["mixture"],
            "sequences_sha256": self.packed.ledger["sequences_sha256"],
            "model_sha256": weights_digest(model_folder),
            "document_masking": document_masking,
            "precision": self.precision,
        }
        count, length = self.packed.rows.shape
        size = max(1, BLOCK_TOKENS // length)
        self.blocks = [range(first, min(first + size, count)) for first in range(0, count, size)]
        identity = settings_digest([self.settings, size, device.type, code])
        self.parts = output.with_name(f".{output.name}.parts") / identity

    def score(self, rank: int, world_size: int) -> None:
        """Score this process's share of the blocks, except those that exist already."""
        self.parts.mkdir(parents=True, exist_ok=True)
        if rank == 0:
            for other in self.parts.parent.iterdir():  # of another model, mixture or code
                if other != self.parts:
                    shutil.rmtree(other)
        model = None
        with Progress("reference losses", len(self.packed.rows), "sequence") as progress:
            for number in range(rank, len(self.blocks), world_size):
                rows, path = self.blocks[number], self._part(number)
                if not self._is_whole(path, rows):
                    if model is None:
                        model = self._model()
                    losses = np.concatenate([self._losses(model, some) for some in self._passes(rows)])
                    with atomic(path) as temporary, open(temporary, "wb") as file:
                        save_array(file, losses)
                progress.advance(world_size * len(rows))
        if world_size > 1:
            dist.barrier()

    def assemble(self, provenance: dict[str, Any]) -> None:
        """Join the parts of all processes into losses.npy and reference.json, and remove the parts."""
        shape = (self.packed.rows.shape[0], self.packed.rows.shape[1] - 1)
        total = 0.0
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(DTYPE)), "fortran_order": False}
        with atomic(self.output) as folder:
            folder.mkdir()
            with open(folder / "losses.npy", "wb") as file:
                np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
                for number in range(len(self.blocks)):
                    losses = load_array(self._part(number))
                    total += float(losses.sum(dtype=np.float64))
                    file.write(losses)
            targets = self.packed.targets(range(shape[0]))
            summary = {
                **self.settings,
                "targets": targets,
                "mean_loss": total / max(1, targets),
                "losses_sha256": sha256_of(folder / "losses.npy"),
            }
            write_json(folder / "reference.json", summary | {"provenance": provenance})
        shutil.rmtree(self.parts.parent)

    def _part(self, number: int) -> Path:
        return self.parts / f"{number:08d}.npy"

    def _is_whole(self, path: Path, rows: range) -> bool:
        try:
            whole = load_array(path, mapped=True).shape == (len(rows), self.packed.rows.shape[1] - 1)
        except FileNotFoundError:
            return False
        except DamagedFileError:
            whole = False
        if not whole:
            logging.warning("%s: not a whole part; scoring it again", path)
        return whole

    def _passes(self, rows: range) -> Iterator[range]:
        size = max(1, PASS_TOKENS[self.device.type] // self.packed.rows.shape[1])
        return (rows[first : first + size] for first in range(0, len(rows), size))

    def _model(self) -> LossModel:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        model = AutoModelForCausalLM.from_pretrained(self.model_folder, dtype=dtype).eval().to(self.device)
        choose_attention(model, dict(self.settings), self.device)
        return LossModel(model, save_memory=False)

    @torch.no_grad()
    def _losses(self, model: LossModel, rows: range) -> np.ndarray:
        """Loss of each target, float16 [rows, length - 1]; 0 at tokens that aren't targets."""
        numbers = np.arange(rows.start, rows.stop)
        batch = self.packed.batch(numbers, np.ones(len(rows), np.float32))
        ids, positions, weights, document_starts = on_device(batch, self.device)
        head = model.head_loss
        hidden = model.hidden(ids, positions, document_starts)
        flat_losses = target_losses(hidden, head.weight, head.bias, ids[:, 1:].flatten())
        losses = flat_losses.view_as(weights).masked_fill(weights == 0, 0.0).cpu().numpy().astype(DTYPE)
        if not np.isfinite(losses).all():
            raise UserError(
                f"{self.model_folder}: the reference's loss isn't a finite number on rows {rows.start} to "
                f"{rows.stop - 1} of mixture {self.packed.ledger['mixture']!r}; name another reference in "
                "train.selection"
            )
        return losses


def require_tokenizer(model_folder: Path, ledger: dict[str, Any], sequences: Path) -> None:
    """Raise UserError unless the model has the tokenizer that made the tokens of a packed mixture."""
    path = model_folder / "tokenizer.json"
    digest = sha256_of(path) if path.is_file() else "no such file"
    if digest != ledger["tokenizer_sha256"]:
        raise UserError(
            f"{path}: not the tokenizer that {sequences} was made with (SHA-256 {digest[:16]} instead of "
            f"{ledger['tokenizer_sha256'][:16]}); name a run in train.selection.reference, or a model with "
            "the base model's tokenizer"
        )
