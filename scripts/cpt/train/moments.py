"""AdamW with its two moments in 16 or 8 bits each (`train.moments`) instead of 32.

A moment is rounded stochastically: random bits are added to those that its short form drops, so the rounded
value is right on average. Rounded to the nearest, the second moment would stop: with beta2 0.999 a step
changes it by a thousandth, and the neighbours of a bfloat16 lie 1/256 to 1/128 apart (Gupta et al. 2015,
section 3.1, on stochastic rounding).

`bf16` is bfloat16. `8bit` keeps 3 bits of the mantissa, as FP8 training does (Micikevicius et al. 2022), of
the value's ratio to the largest of its row, which is kept in float32. The first moment has a sign and ratios
down to 2^-15, the second no sign and ratios down to 2^-31; below, the first becomes 0, and the second stays
at that ratio, so that no step is divided by 0. Vectors (norms, biases) keep float32.

The random bits are a function of the run's seed, the update, the parameter and the place in it. So a run that
resumes, or has another number of processes, rounds the same way. On a CPU, where drawing them would take most
of an update's time, each update draws a pool of them, and each parameter goes round it from its own place.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

MOMENTS = ("exp_avg", "exp_avg_sq")
SCALES = "_scales"  # the largest value of each row is kept under the moment's name with this at its end
DTYPES = {"bf16": (torch.bfloat16, torch.bfloat16), "8bit": (torch.int8, torch.uint8)}
DROPPED = {"bf16": 16, "8bit": 20}  # of a float32's bits, the last ones
ONE = 0x3F800000 >> DROPPED["8bit"]  # what is left of the bits of 1.0
# Elements updated at once, whose moments exist in float32: few enough for a CPU's cache, and on a GPU as many
# as keep it busy.
PIECE = {"cpu": 2**17, "cuda": 2**24}
POOL = 2**17  # random bits of an update on a CPU, int32

State = dict[str, torch.Tensor]


def empty_moments(like: torch.Tensor, form: str) -> State:
    """Moments that are zero, of a parameter or shard, in a form of `train.moments`."""
    if form == "float32" or like.ndim < 2:
        return {key: torch.zeros_like(like, dtype=torch.float32) for key in MOMENTS}
    moments = {
        key: torch.zeros_like(like, dtype=dtype) for key, dtype in zip(MOMENTS, DTYPES[form], strict=True)
    }
    if form == "8bit":
        moments |= {key + SCALES: torch.zeros_like(like[..., :1], dtype=torch.float32) for key in MOMENTS}
    return moments


def adamw_state(updates: int, like: torch.Tensor, form: str = "float32") -> State:
    """AdamW's state of the parameter or shard `like` after some updates, its moments still zero."""
    return {"step": torch.tensor(float(updates), device=like.device), **empty_moments(like, form)}


def moments_of(state: State) -> State:
    """The moments in AdamW's state of a parameter, and their scales."""
    return {key: tensor for key, tensor in state.items() if key != "step"}


def unpacked(stored: torch.Tensor, scales: torch.Tensor | None = None) -> torch.Tensor:
    """A stored moment in float32; `scales` [..., 1] are those of an 8-bit one's rows."""
    if scales is None:
        return stored.float()
    bits = stored.to(torch.int32).abs_().add_(ONE - torch.iinfo(stored.dtype).max)
    values = bits.bitwise_left_shift_(DROPPED["8bit"]).view(torch.float32).mul_(scales)
    return values.mul_(stored.sign())


def pack(
    values: torch.Tensor, added: torch.Tensor | int, stored: torch.Tensor, scales: torch.Tensor | None = None
) -> None:
    """Round float32 values into a stored moment, and the largest of their rows into `scales` [..., 1].

    `added` is what is added to the bits before the last of them are dropped: random ones, int32 of the
    values' shape; or half of the last bit that is kept, which rounds to the nearest.
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
        # A true quotient, so that the largest value is 1.0 and isn't rounded. 0 stays 0 in a row of zeros.
        bits = magnitudes.div_(scales.clamp(min=torch.finfo(torch.float32).tiny)).view(torch.int32)
        bits.add_(added).bitwise_right_shift_(DROPPED["8bit"]).sub_(ONE - largest)
        if stored.dtype.is_signed:
            signs = torch.bitwise_right_shift(values.view(torch.int32), 31).bitwise_or_(1)
            stored.copy_(bits.clamp_(min=0).mul_(signs))
        else:
            stored.copy_(bits.clamp_(min=1))


def converted(moments: State, form: str) -> State:
    """A model's moments, by `exp_avg.NAME` and so on, in another form; rounded to the nearest."""
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
    """Random bits, int32 of the shape of `like`, which are the elements from `first` on of something.

    A counter is hashed by a finalizer of 32 bits (lowbias32 of Wellons's "Prospecting for hash functions"),
    half of the 64-bit `key` added before it and half between its rounds.
    """
    before, between = (half - (half >> 31 << 32) for half in ((key + first) & 0xFFFFFFFF, key >> 32))
    bits = torch.arange(like.numel(), dtype=torch.int32, device=like.device).add_(before)
    bits.bitwise_xor_(_shifted(bits, 16)).mul_(0x7FEB352D).bitwise_xor_(between)
    bits.bitwise_xor_(_shifted(bits, 15)).mul_(0x846CA68B - 2**32)
    return bits.bitwise_xor_(_shifted(bits, 16)).view_as(like)


def _shifted(bits: torch.Tensor, places: int) -> torch.Tensor:
    """int32 shifted to the right, zeros coming in at the left also where the sign bit is set."""
    return torch.bitwise_right_shift(bits, places).bitwise_and_((1 << 32 - places) - 1)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _first_row(parameter: torch.Tensor) -> int:
    """Of the rows of a parameter, the first that this process has; FSDP deals them out in equal parts."""
    if not isinstance(parameter, DTensor):
        return 0
    mesh, shape = parameter.device_mesh, parameter.shape
    return mesh.get_local_rank() * -(-shape[0] // mesh.size()) * math.prod(shape[1:-1])


class PackedAdamW(torch.optim.AdamW):
    """PyTorch's fused AdamW, a piece at a time: moments unpacked, updated, and packed again.

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
                    self._pool = [bits.repeat(2) for bits in drawn]  # all around it from any place
                self._update(group, parameter, state, self._key(updates, number))

    def _key(self, *numbers: int) -> int:
        text = " ".join(map(str, (self.seed, *numbers)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())

    def _drawn(self, key: int, first: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is added to the bits of the two moments, from `first` on of something: int32 like `like`."""
        bits, dropped = random_bits(key, first, like), DROPPED[self.form]
        return bits.bitwise_and((1 << dropped) - 1), _shifted(bits, 32 - dropped)

    def _added(self, key: int, first: int, like: torch.Tensor) -> Iterator[torch.Tensor]:
        """As `_drawn`; on a CPU from the pool."""
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
                continue  # float32, updated where it is
            added = self._added(key, first + begin, moments[0])
            for name, values, its in zip(MOMENTS, moments, added, strict=True):
                pack(values, its, piece[name], piece.get(name + SCALES))
        state["step"].copy_(step)


def _pieces(tensors: State, columns: int) -> Iterator[tuple[int, State]]:
    """Whole rows of all the tensors, [rows, columns or 1] each: (the first element's place, the rows)."""
    rows = {
        name: tensor.view(-1, 1 if name.endswith(SCALES) else columns) for name, tensor in tensors.items()
    }
    piece_rows = max(1, PIECE[tensors["weights"].device.type] // columns)
    for begin in range(0, len(rows["weights"]), piece_rows):
        yield begin * columns, {name: tensor[begin : begin + piece_rows] for name, tensor in rows.items()}
