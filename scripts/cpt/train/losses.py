"""The training loss: next-token cross-entropy, summed, so that any split of a batch adds up."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import masking_utils

from cpt.rotary import original_length, rotate_by_document
from cpt.sizes import LOGIT_ROWS
from cpt.train.attention import DOCUMENTS
from cpt.train.recompute import checkpointing
from cpt.train.selection import chosen_targets
from cpt.train.softmax import Softmax, softmax

ADDED_ROWS = 4096
# Like LOGIT_ROWS, for bfloat16 logits on a CPU and for their float32 softmax.
SHORT_LOGIT_ROWS, SOFTMAX_ROWS = 1024, 32


class LossModel(nn.Module):
    """A causal language model whose forward pass returns the summed loss of a micro-batch.

    Args:
        model: a transformers causal language model.
        save_memory: recompute the layers' activations in the backward pass, all or `selective` ones.
        softmax: function of cpt.train.softmax that computes the loss of logits and its gradient.
    """

    def __init__(self, model: nn.Module, save_memory: bool | str, softmax: Softmax = softmax):
        super().__init__()
        self.model = model
        self.head_loss = HeadLoss(model.get_output_embeddings(), softmax)
        self.last_places = (model.config.max_position_embeddings, original_length(model.config))
        rotate_by_document(model)
        if save_memory:
            # Up to transformers 5.17 the method is called gradient_checkpointing_enable.
            name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
            getattr(model, f"{name}_checkpointing_enable")(checkpointing(save_memory))

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor | None,
        target_weights: torch.Tensor,
        document_starts: torch.Tensor | None = None,
        *selection: torch.Tensor,
    ) -> torch.Tensor:
        """Sum over targets of weight x -ln p(target), in nats.

        Args:
            token_ids: int64 [sequences, length]; targets are the ids shifted by one.
            positions: int64 [sequences or 1, length]; at each 0 a document begins, whose tokens attend to
                none before it. None: each sequence is one document.
            target_weights: float32 [sequences, length - 1]; a target of weight 0 doesn't count.
            document_starts: int32 [documents + 1], with positions: see cpt.train.batches.Batch.
            selection: further arguments of cpt.train.selection.chosen_targets, to train on a part of
                the targets.

        Returns:
            float32 scalar; with a selection float32 [2]: the sum over the chosen targets, and that over all,
            which has no gradient. With gradients disabled, float32 [sequences]: the sum of each sequence.
        """
        hidden = self.hidden(token_ids, positions, document_starts)
        loss = self.head_loss(hidden, token_ids[:, 1:].flatten(), target_weights.flatten(), *selection)
        return loss if torch.is_grad_enabled() else loss.view(target_weights.shape).sum(1)

    def hidden(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor | None,
        document_starts: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The last hidden states before each target: [sequences * (length - 1), width].

        A sequence may be one token longer than the context (held-out text is), or than the length up to which
        a longrope model uses its short frequencies. Its last token is then only a target.
        """
        targets = token_ids.shape[1] - 1
        if positions is None and targets in self.last_places:
            token_ids = token_ids[:, :targets]
        apart = {}
        if document_starts is not None and self.model.config._attn_implementation == DOCUMENTS:
            torch._dynamo.maybe_mark_dynamic(document_starts, 0)  # else each number of documents compiles
            apart["document_starts"] = document_starts
        with skip_packing_check(apart=positions is not None and not apart):
            output = self.model.base_model(
                input_ids=token_ids, position_ids=positions, use_cache=False, **apart
            )
        return output.last_hidden_state[:, :targets].flatten(0, 1)


@contextmanager
def skip_packing_check(apart: bool) -> Iterator[None]:
    """Tell transformers whether positions keep documents apart.

    Otherwise it reads the positions in each forward pass to find out, which waits for the GPU.
    """

    def numbers(position_ids: torch.Tensor) -> torch.Tensor | None:
        return (position_ids == 0).cumsum(-1) if apart else None

    as_it_was = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = numbers
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = as_it_was


class HeadLoss(nn.Module):
    """Output head and cross-entropy in one.

    It holds the head's own parameters, so that ZeRO-3 gathers them for this module's forward pass too.
    """

    def __init__(self, head: nn.Linear, softmax: Softmax = softmax):
        super().__init__()
        self.weight, self.bias = head.weight, head.bias
        self.softmax = softmax
        self.gradient: list[torch.Tensor] | None = None  # see add_up_tied_gradients

    def forward(
        self,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        *selection: torch.Tensor,
    ) -> torch.Tensor:
        """Summed loss (float32) of hidden [n, width], targets int64 [n] and their weights float32 [n].

        With a selection, [2]: see LossModel. The head is then applied once more, without gradients, to choose
        the targets; the others need no further work. With gradients disabled, [n]: the weighted losses.
        """
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.weight.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        with torch.autocast(kind, enabled=False):  # it would cast even the sum of the losses to bfloat16
            hidden = hidden.to(dtype)
            if not torch.is_grad_enabled():
                return target_losses(hidden, self.weight, bias, targets) * weights
            rest = (self.softmax, self.gradient)
            if not selection:
                return LinearCrossEntropy.apply(hidden, self.weight, bias, targets, weights, *rest)
            losses = target_losses(hidden, self.weight, bias, targets)
            chosen = chosen_targets(losses, weights, *selection)
            loss = LinearCrossEntropy.apply(
                hidden.index_select(0, chosen), self.weight, bias, targets[chosen], weights[chosen], *rest
            )
            return torch.stack([loss, losses @ weights])


@torch.no_grad()
def target_losses(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Loss of each target, float32 [n] in nats: like LinearCrossEntropy without the sum and gradients."""
    losses, weight = [], weight.to(hidden.dtype)
    for start in range(0, len(hidden), LOGIT_ROWS[hidden.device.type]):
        piece = slice(start, start + LOGIT_ROWS[hidden.device.type])
        logits = nn.functional.linear(hidden[piece], weight, bias).float()
        losses.append(nn.functional.cross_entropy(logits, targets[piece], reduction="none"))
    return torch.cat(losses)


def softmax_by_rows(
    softmax: Softmax, logits: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply `softmax` to logits [n, vocabulary], SOFTMAX_ROWS at a time; the gradient overwrites them."""
    losses = []
    for some, theirs in zip(logits.split(SOFTMAX_ROWS), targets.split(SOFTMAX_ROWS), strict=True):
        row_losses, gradient = softmax(some, theirs)
        some.copy_(gradient)
        losses.append(row_losses)
    return torch.cat(losses), logits


class LinearCrossEntropy(torch.autograd.Function):
    """Sum of weight x cross-entropy of a linear head, `LOGIT_ROWS` positions at a time.

    In bfloat16 on a CPU it takes more at a time, since summing the pieces' gradients takes longer there.

    The logits [positions, vocabulary] never exist whole: the forward pass computes the gradients along
    with the loss, whose derivative by the logits is weight x (softmax - one-hot), and the backward pass
    only scales them. The idea is Liger Kernel's (Hsu et al. 2024, section 3.2).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        target_weights: torch.Tensor,
        softmax: Softmax,
        shared: list[torch.Tensor] | None,
    ) -> torch.Tensor:
        """hidden [n, width] and bias [vocabulary] share a dtype, to which weight [vocabulary, width] is cast.

        Softmax, loss (returned) and the sum of the gradients over the pieces are float32. The backward pass
        puts the weights' gradient into `shared`, if that isn't None.
        """
        wanted = ctx.needs_input_grad
        ctx.dtype, ctx.shared, weight = weight.dtype, shared, weight.to(hidden.dtype)
        kind, short = hidden.device.type, weight.dtype != torch.float32
        piece_rows = LOGIT_ROWS[kind]
        if short and kind == "cpu":
            piece_rows, softmax = SHORT_LOGIT_ROWS, partial(softmax_by_rows, softmax)
        single = short and len(hidden) <= piece_rows  # a single product gives the weights' gradient
        loss = torch.zeros((), device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if wanted[0] else None
        summed = wanted[1] and not single
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if summed else None
        bias_gradient = torch.zeros_like(bias, dtype=torch.float32) if wanted[2] else None
        buffer = hidden.new_empty(min(piece_rows, len(hidden)), len(weight))
        for start in range(0, len(hidden), piece_rows):
            piece = slice(start, start + piece_rows)
            rows, its_weights = hidden[piece], target_weights[piece]
            logits = torch.mm(rows, weight.T, out=buffer[: len(rows)])
            if bias is not None:
                logits += bias
            losses, gradient = softmax(logits, targets[piece, None])
            loss += losses @ its_weights
            if not any(wanted):
                continue
            if bias_gradient is not None:
                bias_gradient += its_weights @ gradient.float()
            # The targets' weights multiply the smaller factors and products.
            its_weights = its_weights[:, None].to(weight.dtype)
            if hidden_gradient is not None:
                torch.mm(gradient, weight, out=hidden_gradient[piece]).mul_(its_weights)
            if single and wanted[1]:
                weight_gradient = gradient.T @ (rows * its_weights)
            elif summed and not short:
                weight_gradient.addmm_(gradient.T, rows * its_weights)
            elif summed:
                products = gradient.T @ (rows * its_weights)
                # A few rows at a time, since a CPU makes float32 copies of what it adds.
                some = ADDED_ROWS if kind == "cpu" else len(weight)
                for total, added in zip(weight_gradient.split(some), products.split(some), strict=True):
                    total += added
        gradients = (hidden_gradient, weight_gradient, bias_gradient)
        ctx.gradients = [None if g is None else g.to(weight.dtype) for g in gradients]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale what the forward pass computed; can be called once."""
        gradients, ctx.gradients = ctx.gradients, None
        hidden_gradient, weight_gradient, bias_gradient = (
            None if g is None else g.mul_(loss_gradient) for g in gradients
        )
        if weight_gradient is not None:
            weight_gradient = weight_gradient.to(ctx.dtype)
            if ctx.shared is not None:
                ctx.shared[:] = [weight_gradient]
        return hidden_gradient, weight_gradient, bias_gradient, *[None] * 4


def add_up_tied_gradients(loss_model: LossModel) -> None:
    """Let embeddings that share the head's matrix add their gradient to the head's.

    PyTorch makes a second gradient as large as the matrix, mostly zeros: a tenth of a small step's CPU time.
    """
    embeddings, head = loss_model.model.get_input_embeddings(), loss_model.head_loss
    if type(embeddings) is nn.Embedding and embeddings.weight is head.weight:
        embeddings.__class__ = TiedEmbedding
        embeddings.gradient = head.gradient = []


class TiedEmbedding(nn.Embedding):
    """Embeddings that share the head's matrix; LinearCrossEntropy puts the head's gradient in `gradient`."""

    gradient: list[torch.Tensor]

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """int64 [batch, length] to float32 [batch, length, width]."""
        return TiedLookUp.apply(token_ids, self.weight, self.gradient)


class TiedLookUp(torch.autograd.Function):
    """Look up rows of a matrix; add their gradient to the head's before it reaches the matrix."""

    @staticmethod
    def forward(
        ctx: Any, token_ids: torch.Tensor, weight: torch.Tensor, shared: list[torch.Tensor]
    ) -> torch.Tensor:
        """token_ids int64 [batch, length], weight [vocabulary, width]."""
        ctx.shared = shared
        ctx.save_for_backward(token_ids)
        return nn.functional.embedding(token_ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, None, None]:
        """Add to the head's gradient, which exists already, as the loss comes after all layers."""
        (token_ids,) = ctx.saved_tensors
        ctx.shared.pop().index_add_(0, token_ids.flatten(), gradient.flatten(0, 1))
        return None, None, None
