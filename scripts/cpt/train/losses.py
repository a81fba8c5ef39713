"""The training loss: next-token cross-entropy, summed, so that any split of a batch adds up."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

LOGIT_ROWS = 4096  # positions whose logits exist at once where memory is saved


class LossModel(nn.Module):
    """A causal language model whose forward pass returns the summed loss of a micro-batch.

    Args:
        model: a transformers causal language model.
        save_memory: recompute the layers' activations in the backward pass, and compute the
            vocabulary logits in pieces that are recomputed too (gradient checkpointing).
    """

    def __init__(self, model: nn.Module, save_memory: bool):
        super().__init__()
        self.model = model
        self.save_memory = save_memory
        if save_memory:
            model.activation_checkpointing_enable({"use_reentrant": False})

    def forward(self, token_ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Sum over sequences of weight x sum over targets of -ln p(target), in nats.

        Args:
            token_ids: int64 [sequences, length]; targets are the ids shifted by one.
            weights: float32 [sequences]; 0 leaves a sequence out.

        Returns:
            float32 scalar.
        """
        hidden = self.model.base_model(input_ids=token_ids, use_cache=False).last_hidden_state
        hidden = hidden[:, :-1].flatten(0, 1)
        targets = token_ids[:, 1:].flatten()
        target_weights = weights.repeat_interleave(token_ids.shape[1] - 1)
        if not self.save_memory:
            return self._head_loss(hidden, targets, target_weights)
        pieces = [
            checkpoint(self._head_loss, *piece, use_reentrant=False)
            for piece in zip(
                hidden.split(LOGIT_ROWS),
                targets.split(LOGIT_ROWS),
                target_weights.split(LOGIT_ROWS),
                strict=True,
            )
        ]
        return torch.stack(pieces).sum()

    def _head_loss(self, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        logits = self.model.get_output_embeddings()(hidden).float()
        return (cross_entropy(logits, targets, reduction="none") * weights).sum()
