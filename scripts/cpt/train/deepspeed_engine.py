"""The `deepspeed` engine: ZeRO stages 0 to 3 with CPU offload (Rajbhandari et al. 2020; Ren et al. 2021).

Stage 3 with optimizer and parameters on the CPU is the paper's setup (section 3.3). AdamW is PyTorch's. Only
an optimizer offloaded from a GPU uses DeepSpeed's own AdamW, which is compiled at the first start.
"""

import logging
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from cpt import compilers
from cpt.errors import UserError
from cpt.locks import lock_file
from cpt.train.checkpoints import TensorsByName
from cpt.train.losses import LossModel
from cpt.train.moments import MOMENTS, adamw_state
from cpt.train.optimizer import (
    BytesByDevice,
    bytes_by_device,
    load_unsharded_state,
    parameter_groups,
    unsharded_state,
)
from cpt.train.pull import Pull
from cpt.train.softmax import chosen_softmax

# Elements reduced or gathered at once. DeepSpeed's default is ten times as many: four times the paper's whole
# model.
BUCKET = 50_000_000


def import_deepspeed(device: torch.device) -> ModuleType:
    """Import DeepSpeed for a kind of device. Raises UserError if it can't be imported."""
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
    except ImportError as error:
        raise UserError(
            f"train.engine: deepspeed can't be imported ({error}); install it, or choose engine: fsdp, which "
            "splits and offloads with PyTorch alone"
        ) from None
    if device.type == "cpu":  # an optional communication kernel that would be compiled at every start
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.logger.setLevel(logging.WARNING)
    return deepspeed


def compile_cpu_adam() -> None:
    """Load DeepSpeed's AdamW for the CPU; compile it first if this machine hasn't.

    PyTorch guards a build with a file. A killed build leaves the file behind, and every later start waits for
    it forever. So these builds first take a lock that the kernel frees with its process, and the holder
    removes a leftover file. Each machine (the code is compiled for its processor) and each pair of versions
    has a folder of its own, unless TORCH_EXTENSIONS_DIR names one.

    Raises UserError if a compiler or ninja is missing, or the build fails.
    """
    import cpuinfo
    import deepspeed
    from deepspeed.ops.op_builder import CPUAdamBuilder

    cpuinfo.get_cpu_info = cache(cpuinfo.get_cpu_info)  # 5 s a call, and DeepSpeed calls it three times
    instead = "or choose engine: fsdp, which needs no compiler, or take `optimizer` out of train.offload"
    os.environ["PATH"] = compilers.tools_path()
    if errors := [error for error in (compilers.cxx_error(), compilers.ninja_error()) if error]:
        raise UserError(
            "train.engine: deepspeed compiles its CPU optimizer at the first start, and can't do so here: "
            f"{'; '.join(errors)}; provide that, {instead}"
        )
    versions = f"torch-{torch.__version__}-deepspeed-{deepspeed.__version__}"
    own = Path.home() / ".cache" / "cpt-extensions" / f"{platform.node()}-{versions}"
    root = Path(os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(own)))
    root.mkdir(parents=True, exist_ok=True)
    compilers.wrap_compiler("CXX", root)
    while (held := lock_file(root / "cpt.lock")) is None:
        time.sleep(1)
    with held:
        with suppress(FileNotFoundError):
            (root / CPUAdamBuilder.NAME / "lock").unlink()
            logging.warning("%s: removed the lock of a build that was killed", root)
        try:
            CPUAdamBuilder().load(verbose=False)
        except Exception as error:
            raise UserError(
                f"DeepSpeed's CPU optimizer didn't compile: {error}; fix that, {instead}"
            ) from error


class DeepSpeedEngine:
    """See Engine. With bf16, stages 1 to 3 compute with bfloat16 weights beside float32 ones that the
    optimizer updates; stage 0 uses autocast over float32 weights."""

    def __init__(self, model: nn.Module, settings: dict[str, Any], device: torch.device, world_size: int):
        deepspeed = import_deepspeed(device)
        self.stage = settings["zero_stage"]
        self.compiled_adam = device.type == "cuda" and "optimizer" in settings["offload"]
        if self.compiled_adam:
            compile_cpu_adam()
        self.model = model.to(device)
        self.world_size = world_size
        self.pull: Pull | None = None
        self.last_micro_batch = False
        self.clip = settings["gradient_clip"]
        bf16 = settings["precision"] == "bf16"
        bf16_sums = bf16 and self.stage == 1 and not settings["offload"]
        bucket = min(BUCKET, sum(p.numel() for p in model.parameters()))
        zero: dict[str, Any] = {
            "stage": self.stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            # Stage 3 doesn't split parameters up to this size: vectors, but no matrix, even of a small model.
            "stage3_param_persistence_threshold": max(
                (p.numel() for p in model.parameters() if p.ndim < 2), default=0
            ),
        }
        for part, key in (("optimizer", "offload_optimizer"), ("parameters", "offload_param")):
            if part in settings["offload"]:
                zero[key] = {"device": "cpu", "pin_memory": device.type == "cuda"}
        adamw = {
            "lr": settings["learning_rate"],
            "betas": [settings["beta1"], settings["beta2"]],
            "eps": settings["epsilon"],
        }
        exact = {n: p.detach().to("cpu", copy=True) for n, p in model.named_parameters()} if bf16 else {}
        self.engine, *_ = deepspeed.initialize(
            model=LossModel(self.model, settings["gradient_checkpointing"], chosen_softmax(settings, device)),
            model_parameters=parameter_groups(self.model, settings),
            config={
                "train_micro_batch_size_per_gpu": settings["micro_batch"],
                "gradient_accumulation_steps": 1,  # the loop decides by `last`
                "gradient_clipping": self.clip if self.stage else 0.0,  # stage 0 doesn't return the norm
                "zero_optimization": zero,
                "zero_allow_untested_optimizer": True,
                "bf16": {"enabled": bf16 and self.stage > 0},
                "torch_autocast": {"enabled": bf16 and self.stage == 0, "dtype": "bfloat16"},
                # Gradients are summed in float32, as in the other engines. With that, stage 1 without offload
                # would use an optimizer whose state can't be exported, so it keeps bfloat16 sums.
                "communication_data_type": "fp32",
                "data_types": {"grad_accum_dtype": "bf16" if bf16_sums else "fp32"},
                "optimizer": {
                    "type": "AdamW",
                    "params": adamw | ({} if self.compiled_adam else {"torch_adam": True, "fused": True}),
                },
            },
        )
        if bf16 and self.stage:  # DeepSpeed took its float32 weights from the bfloat16 ones
            for name, parameter in self.model.named_parameters():
                self._set(parameter, exact[name])

    def loss(self, *inputs: torch.Tensor | None, last: bool = True) -> torch.Tensor:
        self.last_micro_batch = last
        self.engine.set_gradient_accumulation_boundary(last)
        return self.engine(*inputs)

    def backward(self, loss: torch.Tensor) -> None:
        # DeepSpeed averages over the processes as well.
        self.engine.backward(loss * self.world_size, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        if self.stage == 0:
            if self.pull is not None:
                self.pull.add_to((p.grad for p in self.model.parameters()), self.model.parameters())
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip).item()
            if math.isfinite(norm):
                self.engine.step()
            else:
                self.engine.zero_grad()
            return norm
        self.engine.step()
        if self.engine.was_step_applied():
            return float(self.engine.get_global_grad_norm())
        # DeepSpeed skipped the update and keeps the norm of the step before. It also keeps the sums of
        # bfloat16 gradients that it offloads, to which the next step would add.
        if self.stage < 3:
            self.engine.optimizer.averaged_gradients = {}
        return math.nan

    def state(self) -> tuple[TensorsByName, TensorsByName]:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        first = dist.get_rank() == 0
        if self.stage == 0:
            return unsharded_state(self.model, self.engine.optimizer, "float32") if first else ({}, {})
        self._link_moments()
        weights, moments = {}, {}
        for name, parameter in self.model.named_parameters():
            tensors = {f"{key}.{name}": safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            tensors[name] = safe_get_full_fp32_param(parameter)
            if first:
                shape = getattr(parameter, "ds_shape", parameter.shape)  # whole, even if stage 3 split it
                copies = {
                    key: tensor.detach().to("cpu", torch.float32, copy=True).reshape(shape)
                    for key, tensor in tensors.items()
                }
                weights[name] = copies.pop(name)
                moments |= copies
        return weights, moments

    def load(self, weights: TensorsByName, moments: TensorsByName, steps_done: int) -> None:
        if self.stage == 0:
            optimizer = self.engine.optimizer
            load_unsharded_state(self.model, optimizer, weights, moments, steps_done, "float32")
            return
        self.engine.optimizer.optimizer.state.clear()
        self._link_moments(steps_done)
        for name, parameter in self.model.named_parameters():
            self._set(parameter, weights[name])
            for key in MOMENTS:
                self._set(parameter, moments[f"{key}.{name}"], key)

    def pull_to(self, start: TensorsByName, coefficient: float) -> None:
        named = list(self.model.named_parameters())
        if self.stage == 0:
            self.pull = Pull(coefficient, [start[name].to(p.device, copy=True) for name, p in named])
            return
        # From stage 1 on, DeepSpeed reduces gradients, and takes norms of offloaded ones, as they arrive. So
        # in the step's last backward pass, each process adds the penalty's gradient to the part it updates.
        self.pull = Pull(coefficient * self.world_size, [])
        for name, parameter in named:
            begin, weights = self._float32_part(parameter)
            if weights is not None:
                part = start[name].flatten()[begin : begin + len(weights)]
                parameter.register_hook(partial(self._pulled, begin, weights, len(self.pull.start)))
                self.pull.start.append(part.to(weights.device, copy=True))

    def _pulled(
        self, begin: int, weights: torch.Tensor, number: int, gradient: torch.Tensor
    ) -> torch.Tensor | None:
        """A parameter's gradient plus the penalty's in the last micro-batch; None (no change) before it."""
        return self.pull.added_to_part(gradient, begin, weights, number) if self.last_micro_batch else None

    def _float32_part(self, parameter: nn.Parameter) -> tuple[int, torch.Tensor | None]:
        """For stages 1 to 3: the start of the part of a parameter that this process updates, and its float32
        weights (flat, not copied); None instead of weights if it updates no part."""
        if self.stage < 3:
            mapping = parameter._hp_mapping
            return (mapping.lp_fragment_address.start, mapping.get_hp_fragment()) if mapping else (0, None)
        begin = dist.get_rank() * parameter.ds_tensor.numel()
        weights, _ = self.engine.optimizer._get_fp32_opt_state_partition(parameter, True, None)
        size = min(weights.numel(), parameter.ds_numel - begin)  # the rest pads the last part
        return begin, weights[:size] if size > 0 else None

    def _link_moments(self, steps_done: int = 0) -> None:
        """Let safe_get_full_optimizer_state find the moments, zero before the first step.

        In stages 1 and 2, DeepSpeed links the moments of all parameter groups once the first group is
        updated, when the others have none yet.
        """
        zero = self.engine.optimizer
        for flat in self._float32_partitions():
            if not zero.optimizer.state[flat]:
                zero.optimizer.state[flat] = adamw_state(steps_done, flat.detach())
                if self.compiled_adam:
                    zero.optimizer.state[flat]["step"] = steps_done
        if self.stage < 3:
            zero._hp_optimizer_states_linked = False
            zero._lazy_init_hp_params_optimizer_state()

    def _float32_partitions(self) -> list[torch.Tensor]:
        """For stages 1 to 3: the flat float32 weights that this process updates."""
        zero = self.engine.optimizer
        return zero.single_partition_of_fp32_groups if self.stage < 3 else zero.fp32_partitioned_groups_flat

    def _set(self, parameter: nn.Parameter, whole: torch.Tensor, moment: str | None = None) -> None:
        """Set this process's part of a parameter's float32 weight, or of one of its moments."""
        from deepspeed import utils

        if self.stage < 3:
            if moment is None:
                utils.safe_set_full_fp32_param(parameter, whole)
            else:
                utils.safe_set_full_optimizer_state(parameter, whole, moment)
            return
        size = parameter.ds_tensor.numel()  # of each part; zeros pad the last one
        begin = dist.get_rank() * size
        part = torch.zeros(size)
        values = whole.flatten()[begin : begin + size]
        part[: values.numel()] = values
        if moment is None:
            utils.safe_set_local_fp32_param(parameter, part)
        else:
            utils.safe_set_local_optimizer_state(parameter, part, moment)

    def held_bytes(self) -> dict[str, BytesByDevice]:
        parameters = list(self.model.parameters())
        zero = self.engine.optimizer
        if self.stage == 0:
            separate, states = [], zero.state.values()
            buffers = []
        else:
            separate, states = self._float32_partitions(), zero.optimizer.state.values()
            # DeepSpeed's names for its buffers of reduced gradients, and of gradients being reduced.
            names = ("averaged_gradients", "all_grad_tensors", "accumulated_grads_in_cpu")
            buffers = [getattr(zero, name, None) for name in (*names, "grad_partitions_flat_buffer")]
            buffers += [bucket.buffer for bucket in zero.ipg_buckets.values()]
        shards = [getattr(p, "ds_tensor", None) for p in parameters]
        gradients = [t.grad for t in (*parameters, *separate)]
        moments = [state[key] for state in states for key in MOMENTS]
        return {
            "weights": bytes_by_device(_tensors([parameters, shards])),
            "gradients": bytes_by_device(_tensors([gradients, buffers])),
            "optimizer": bytes_by_device(_tensors([separate, moments])),
            **({"start": self.pull.held_bytes()} if self.pull else {}),
        }


def _tensors(nested: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested lists and dictionaries."""
    if isinstance(nested, torch.Tensor):
        yield nested
    elif isinstance(nested, dict | list | tuple):
        for inner in nested.values() if isinstance(nested, dict) else nested:
            yield from _tensors(inner)
