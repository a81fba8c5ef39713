"""AdamW with its two moments in 16 or 8 bits each (`train.moments`) instead of 32.

Moments are rounded stochastically: random bits are added to those that the short form drops, so the rounded
value is right on average. Rounding to the nearest would freeze the second moment: with beta2 0.999 a step
changes it by a thousandth, while the neighbours of a bfloat16 are 1/256 to 1/128 apart (Gupta et al. 2015,
section 3.1, on stochastic rounding).

`bf16` is bfloat16. `8bit` stores each value's ratio to the largest of its row with 3 bits of mantissa, as FP8
training does (Micikevicius et al. 2022); the largest is kept in float32. The first moment has a sign and
ratios down to 2^-15, the second no sign and ratios down to 2^-31. Below that, the first becomes 0, and the
second stays at that ratio, so that no step is divided by 0. Vectors (norms, biases) stay float32.

The random bits are a function of the run's seed, the update, the parameter and the position in it. So a run
that resumes, or has another number of processes, rounds the same way. On a CPU, drawing them would take most
of an update's time. There each update draws one pool, and each parameter reads it round from its own start.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

MOMENTS = ("exp_avg", "exp_avg_sq")
SCALES = "_scales"  # the largest value of each row is kept under the moment's name with this suffix
DTYPES = {"bf16": (torch.bfloat16, torch.bfloat16), "8bit": (torch.int8, torch.uint8)}
DROPPED = {"bf16": 16, "8bit": 20}  # how many of a float32's last bits the form drops
ONE = 0x3F800000 >> DROPPED["8bit"]  # the kept bits of 1.0
# Elements updated at once, with moments in float32: few enough for a CPU's cache, enough to keep a GPU busy.
PIECE = {"cpu": 2**17, "cuda": 2**24}
POOL = 2**17  # random bits of an update on a CPU, int32

State = dict[str, torch.Tensor]


def empty_moments(like: torch.Tensor, form: str) -> State:
    """Zero moments for the parameter or shard `like`, in a form of `train.moments`."""
    if form == "float32" or like.ndim < 2:
        return {key: torch.zeros_like(like, dtype=torch.float32) for key in MOMENTS}
    moments = {
        key: torch.zeros_like(like, dtype=dtype) for key, dtype in zip(MOMENTS, DTYPES[form], strict=True)
    }
    if form == "8bit":
        moments |= {key + SCALES: torch.zeros_like(like[..., :1], dtype=torch.float32) for key in MOMENTS}
    return moments


def adamw_state(updates: int, like: torch.Tensor, form: str = "float32") -> State:
    """AdamW's state for the parameter or shard `like` after this number of updates, with zero moments."""
    return {"step": torch.tensor(float(updates), device=like.device), **empty_moments(like, form)}


def moments_of(state: State) -> State:
    """The moments in AdamW's state of a parameter, and their scales."""
    return {key: tensor for key, tensor in state.items() if key != "step"}


def unpacked(stored: torch.Tensor, scales: torch.Tensor | None = None) -> torch.Tensor:
    """A stored moment in float32; `scales` [..., 1] belong to the rows of an 8-bit one."""
    if scales is None:
        return stored.float()
    bits = stored.to(torch.int32).abs_().add_(ONE - torch.iinfo(stored.dtype).max)
    values = bits.bitwise_left_shift_(DROPPED["8bit"]).view(torch.float32).mul_(scales)
    return values.mul_(stored.sign())


def pack(
    values: torch.Tensor, added: torch.Tensor | int, stored: torch.Tensor, scales: torch.Tensor | None = None
) -> None:
    """Round float32 values into a stored moment; write the largest of each row into `scales` [..., 1].

    `added` is added to the bits before the last of them are dropped: random bits, int32 of the values' shape,
    or half of the last kept bit, which rounds to the nearest.
    """
    if stored.dtype == torch.float32:
        stored.copy_(values)
    elif scales is None:
        bits = values.view(torch.int32).add_(added).bitwise_and_(-1 << DROPPED["bf16"])
        stored.copy_(bits.view(torch.float32))
    else:
        largest = torch.iinfo(stored.dtype).max
        magnitudes = values.abs()
        scales.copy_(magnitudes.amax(-1, keepdim=True))
        # True division makes the largest value exactly 1.0, which isn't rounded. A row of zeros stays 0.
        bits = magnitudes.div_(scales.clamp(min=torch.finfo(torch.float32).tiny)).view(torch.int32)
        bits.add_(added).bitwise_right_shift_(DROPPED["8bit"]).sub_(ONE - largest)
        if stored.dtype.is_signed:
            signs = torch.bitwise_right_shift(values.view(torch.int32), 31).bitwise_or_(1)
            stored.copy_(bits.clamp_(min=0).mul_(signs))
        else:
            stored.copy_(bits.clamp_(min=1))


def converted(moments: State, form: str) -> State:
    """Convert a model's moments, keyed by `exp_avg.NAME` and so on, to another form, rounding to nearest."""
    tensors: State = {}
    for name in [name.partition(".")[2] for name in moments if name.startswith(f"{MOMENTS[0]}.")]:
        whole = {
            key: unpacked(moments[f"{key}.{name}"], moments.get(f"{key}{SCALES}.{name}")) for key in MOMENTS
        }
        state = empty_moments(whole[MOMENTS[0]], form)
        for key, values in whole.items():
            half = 1 << DROPPED.get(form, 1) - 1
            pack(values, half, state[key], state.get(key + SCALES))
        tensors |= {f"{key}.{name}": tensor for key, tensor in state.items()}
    return tensors


def random_bits(key: int, first: int, like: torch.Tensor) -> torch.Tensor:
    """Random bits, int32 of the shape of `like`, for the elements of a parameter from `first` on.

    A 32-bit finalizer (lowbias32 of Wellons's "Prospecting for hash functions") hashes a counter. One half of
    the 64-bit `key` is added to the counter, the other XORed in between the rounds.
    """
    before, between = (half - (half >> 31 << 32) for half in ((key + first) & 0xFFFFFFFF, key >> 32))
    bits = torch.arange(like.numel(), dtype=torch.int32, device=like.device).add_(before)
    bits.bitwise_xor_(_shifted(bits, 16)).mul_(0x7FEB352D).bitwise_xor_(between)
    bits.bitwise_xor_(_shifted(bits, 15)).mul_(0x846CA68B - 2**32)
    return bits.bitwise_xor_(_shifted(bits, 16)).view_as(like)


def _shifted(bits: torch.Tensor, places: int) -> torch.Tensor:
    """Logical right shift of int32: zeros come in at the left even if the sign bit is set."""
    return torch.bitwise_right_shift(bits, places).bitwise_and_((1 << 32 - places) - 1)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _first_row(parameter: torch.Tensor) -> int:
    """Index of a parameter's first row on this process; FSDP splits the rows into equal parts."""
    if not isinstance(parameter, DTensor):
        return 0
    mesh, shape = parameter.device_mesh, parameter.shape
    return mesh.get_local_rank() * -(-shape[0] // mesh.size()) * math.prod(shape[1:-1])


class PackedAdamW(torch.optim.AdamW):
    """PyTorch's fused AdamW, a piece at a time: moments are unpacked, updated and packed again.

    Args:
        groups: of parameters.
        form: `bf16` or `8bit`.
        seed: of the run.
        options: of torch.optim.AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], form: str, seed: int, **options: Any):
        super().__init__(groups, fused=True, **options)
        self.form, self.seed = form, seed

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        number, updates = 0, None
        for group in self.param_groups:
            for parameter in group["params"]:
                number += 1
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state |= adamw_state(0, parameter.detach(), self.form)
                if updates is None:
                    updates = int(state["step"].item())
                    drawn = self._drawn(self._key(updates), 0, torch.empty(POOL))
                    self._pool = [bits.repeat(2) for bits in drawn]  # twice, to read round its end
                self._update(group, parameter, state, self._key(updates, number))

    def _key(self, *numbers: int) -> int:
        text = " ".join(map(str, (self.seed, *numbers)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())

    def _drawn(self, key: int, first: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Random bits to add to the two moments' bits, from element `first` on: int32, shaped like `like`."""
        bits, dropped = random_bits(key, first, like), DROPPED[self.form]
        return bits.bitwise_and((1 << dropped) - 1), _shifted(bits, 32 - dropped)

    def _added(self, key: int, first: int, like: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield what `_drawn` returns; on a CPU, from the pool."""
        if like.device.type != "cpu":
            yield from self._drawn(key, first, like)
            return
        begin = (key + first) % POOL
        end = begin + like.numel()
        for bits in self._pool:
            around = bits if end <= len(bits) else bits.repeat(-(-end // len(bits)))
            yield around[begin:end].view_as(like)

    def _update(self, group: dict[str, Any], parameter: nn.Parameter, state: State, key: int) -> None:
        columns = parameter.shape[-1] if parameter.ndim > 1 else 1
        first = _first_row(parameter) * columns if parameter.ndim > 1 else 0
        tensors = {name: _local(tensor) for name, tensor in moments_of(state).items()}
        tensors |= {"weights": _local(parameter), "gradients": _local(parameter.grad).contiguous()}
        step = state["step"] + 1
        options = {name: group[name] for name in ("lr", "weight_decay", "eps", "maximize")}
        options |= {"beta1": group["betas"][0], "beta2": group["betas"][1], "amsgrad": False}
        for begin, piece in _pieces(tensors, columns):
            moments = [unpacked(piece[name], piece.get(name + SCALES)) for name in MOMENTS]
            lists = [[tensor] for tensor in (piece["weights"], piece["gradients"], *moments)]
            torch._fused_adamw_(*lists, [], [step], **options)
            if parameter.ndim < 2:
                continue  # float32, updated in place
            added = self._added(key, first + begin, moments[0])
            for name, values, its in zip(MOMENTS, moments, added, strict=True):
                pack(values, its, piece[name], piece.get(name + SCALES))
        state["step"].copy_(step)


def _pieces(tensors: State, columns: int) -> Iterator[tuple[int, State]]:
    """Yield (first element's index, whole rows of all the tensors, [rows, columns or 1] each)."""
    rows = {
        name: tensor.view(-1, 1 if name.endswith(SCALES) else columns) for name, tensor in tensors.items()
    }
    piece_rows = max(1, PIECE[tensors["weights"].device.type] // columns)
    for begin in range(0, len(rows["weights"]), piece_rows):
        yield begin * columns, {name: tensor[begin : begin + piece_rows] for name, tensor in rows.items()}
