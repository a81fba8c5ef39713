"""Cross-entropy of logits and its gradient: by PyTorch, by compiled code, or by Liger Kernel.

All three take logits [n, vocabulary] and targets int64 [n, 1]. They return the losses, float32 [n] in nats,
and the gradient of their sum by the logits, in the logits' dtype and perhaps in the logits' memory.
"""

import logging
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from cpt.errors import UserError
from cpt.train.compiled_layers import compiles

Softmax = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# Of liger-kernel (envs/gpu.txt). Its kernel's arguments differ from version to version.
LIGER_VERSION = "0.8.5"


def chosen_softmax(settings: dict[str, Any], device: torch.device) -> Softmax:
    """The function that a plan's `loss_kernel` and `compile` ask for on this device.

    Raises UserError if Liger Kernel's is asked for and isn't possible.
    """
    kernel = settings["loss_kernel"]
    if kernel == "liger" and device.type != "cuda":
        raise UserError("train.loss_kernel: liger needs a GPU; set auto, which takes PyTorch's without one")
    if kernel != "pytorch" and device.type == "cuda":
        liger_version = installed_liger()
        if liger_version == LIGER_VERSION:
            logging.info("cross-entropy by liger-kernel %s", liger_version)
            return liger_softmax
        if kernel == "liger":
            raise UserError(
                f"train.loss_kernel: liger needs liger-kernel {LIGER_VERSION}, and "
                f"{'version ' + liger_version if liger_version else 'none'} is installed; "
                "pip install --no-deps --requirement envs/gpu.txt, or set auto"
            )
    # Dynamic, so that the last pieces of micro-batches of all sizes share a compilation.
    return torch.compile(fused_softmax, dynamic=True) if compiles(settings, device) else softmax


def installed_liger() -> str | None:
    """Version of the package liger-kernel; None if it isn't installed."""
    try:
        return version("liger-kernel")
    except PackageNotFoundError:
        return None


def softmax(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and gradient by PyTorch's operations; on a CPU the gradient overwrites float32 logits."""
    original = logits
    logits = logits.float()
    logits_of_targets, largest = logits.gather(1, targets).squeeze(1), logits.amax(1)
    # In place, the CPU's softmax reads and writes a row while it is in the cache.
    probabilities = torch.softmax(logits, 1, out=logits if logits.device.type == "cpu" else None)
    # The largest probability is 1 / sum(exp(logits - largest)).
    losses = largest - probabilities.amax(1).log() - logits_of_targets
    gradient = probabilities.scatter_add_(1, targets, -torch.ones_like(largest)[:, None])
    return losses, gradient.to(original.dtype)


def fused_softmax(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and gradient, to be compiled: reads the logits twice, writes only the gradient, like Liger's."""
    values = logits.float()
    normalizers = values.logsumexp(1, keepdim=True)
    target_mask = torch.arange(values.shape[1], device=values.device) == targets
    gradient = (values - normalizers).exp() - target_mask.float()
    return (normalizers - values.gather(1, targets)).squeeze(1), gradient.to(logits.dtype)


def liger_softmax(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and gradient by Liger Kernel's fused loss (Hsu et al. 2024, section 3.2), on a GPU, in place.

    Liger's own function around this kernel waits for the GPU and can't weight single targets.
    """
    import triton
    from liger_kernel.ops.cross_entropy import MAX_FUSED_SIZE, liger_cross_entropy_kernel

    rows, vocabulary = logits.shape
    losses = logits.new_empty(rows, dtype=torch.float32)
    liger_cross_entropy_kernel[(rows,)](
        X_ptr=logits,
        X_stride=logits.stride(0),
        Y_ptr=targets,
        Y_stride=targets.stride(0),
        loss_ptr=losses,
        loss_stride=1,
        n_cols=vocabulary,
        ignore_index=-100,
        reduction="sum",
        lse_square_scale=0.0,
        label_smoothing=0.0,
        n_non_ignore=rows,
        sum_non_ignore_weight=rows,
        weight_sum=0.0,
        weight_ptr=None,
        softcap=None,
        z_loss_ptr=None,
        token_accuracy_ptr=None,
        token_accuracy_stride=0,
        predicted_tokens_ptr=None,
        predicted_tokens_stride=0,
        RETURN_Z_LOSS=False,
        RETURN_TOKEN_ACCURACY=False,
        RETURN_PREDICTED_TOKENS=False,
        HAS_WEIGHT=False,
        HAS_SOFTCAPPING=False,
        HAS_GRADIENTS=True,
        BLOCK_SIZE=min(MAX_FUSED_SIZE, triton.next_power_of_2(vocabulary)),
        num_warps=16 if torch.version.hip else 32,
    )
    return losses, logits
