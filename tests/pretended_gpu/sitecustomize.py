"""A GPU that isn't there, for Python processes with this file on PYTHONPATH and accelerator.cpp preloaded.

Tensors on it report the device cuda:0 and keep their values on the CPU, which computes them. So tests run
what the code does only for a GPU: autocast, copies, random numbers, questions about memory. An operation on
tensors of both devices fails as on a GPU. Speed and a GPU's own kernels aren't modelled.

Its memory is the sum of the tensors that live at a time, without what kernels need while they run. An
operation whose result goes beyond PRETENDED_GPU_BYTES (default 80 GB) raises PyTorch's error.

With PRETENDED_GPU_VALUES=no, tensors have no values and cost neither memory nor time. A read returns 0, or an
unchanged copy from the CPU. This counts the memory of computations that no CPU could do.
"""

import os
import weakref
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import varlen_on_cpu
from torch.cuda import nvtx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
GPU = torch.device("cuda", 0)
NAME, BYTES = "NVIDIA H100 80GB HBM3", int(os.environ.get("PRETENDED_GPU_BYTES", 80 * 10**9))
VALUES = torch.device("meta" if os.environ.get("PRETENDED_GPU_VALUES") == "no" else "cpu")
# These operations accept tensors of both devices.
COPIES = (aten._to_copy, aten.copy_)
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
SMALL = 10_000  # elements; smaller copies from the CPU keep their values in any case


class Memory:
    """Bytes of the tensors on the GPU: `held` now, and `peak` since it was reset."""

    def __init__(self) -> None:
        self.held = self.peak = 0
        self.sizes: dict[int, int] = {}

    def hold(self, storage: torch.UntypedStorage) -> None:
        """Count a storage as long as it lives."""
        identity = storage._cdata
        if identity not in self.sizes:
            self.sizes[identity] = 0
            weakref.finalize(storage, self.release, identity)
            self.resize(storage)

    def resize(self, storage: torch.UntypedStorage) -> None:
        """Count a storage with its present size."""
        size = storage.nbytes()
        more = size - self.sizes[storage._cdata]
        if self.held + more > BYTES:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {more / 2**20:.2f} MiB. GPU 0 has a total capacity "
                f"of {BYTES / 2**30:.2f} GiB of which {(BYTES - self.held) / 2**20:.2f} MiB is free."
            )
        self.sizes[storage._cdata] = size
        self.held += more
        self.peak = max(self.peak, self.held)

    def release(self, identity: int) -> None:
        """Forget a storage that was freed."""
        self.held -= self.sizes.pop(identity)

    def reset_peak(self) -> None:
        """Start a new peak."""
        self.peak = self.held


memory = Memory()
OWN_DATA = torch.Tensor.data


class GpuTensor(torch.Tensor):
    """A tensor on the GPU. `values` is the one behind it; without values, `copied` is its small source."""

    values: torch.Tensor
    copied: torch.Tensor | None = None
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> "GpuTensor":
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=GPU,
        )
        tensor.values = values
        memory.hold(values.untyped_storage())
        return tensor

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return compute(function, arguments, options or {})

    def __repr__(self, **_: Any) -> str:  # DeepSpeed prints tensors
        return f"GpuTensor({self.values})"

    def untyped_storage(self) -> "Storage":
        """The memory behind it."""
        return Storage(self.values.untyped_storage())


class Storage:
    """Memory on the GPU: it has an address even without values, and a resize changes what is counted."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.storage = storage
        self.nbytes = self.size = storage.nbytes

    def data_ptr(self) -> int:
        """A number of its own."""
        return self.storage._cdata

    def resize_(self, size: int) -> None:
        """Change the size, in bytes."""
        self.storage.resize_(size)
        memory.resize(self.storage)


def set_data(tensor: torch.Tensor, new: torch.Tensor) -> None:
    """`tensor.data = new`, also from one device to the other."""
    if isinstance(tensor, GpuTensor) != isinstance(new, GpuTensor):
        new = new.detach()
        if isinstance(tensor, torch.nn.Parameter):
            new = torch.nn.Parameter(new, tensor.requires_grad)
        torch.utils.swap_tensors(tensor, new)
        return
    OWN_DATA.__set__(tensor, new)
    if isinstance(tensor, GpuTensor):
        tensor.values = new.values


class PretendedGpu(TorchDispatchMode):
    """Handles operations that create a GPU tensor without a GPU tensor among their inputs."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if not set(types) <= {torch.Tensor, torch.nn.Parameter, GpuTensor}:
            return NotImplemented  # a DTensor first splits itself; its parts come here again
        return compute(function, arguments, options or {})


class InOrder:
    """A stream or an event: the GPU does all work at once, so nothing has to wait."""

    device, cuda_stream = GPU, 0

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> "InOrder":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def record_event(self, event: "InOrder | None" = None) -> "InOrder":
        """An event of this stream."""
        return event or InOrder()

    def query(self) -> bool:
        """Whether all is done."""
        return True

    def nothing(self, *_: Any) -> None:
        """What the other methods do."""

    synchronize = wait_stream = wait_event = record = wait = nothing


def compute(function: Any, arguments: tuple, options: dict[str, Any]) -> Any:
    """The results of an operation: on the GPU if its tensors are, or if the caller asks for it."""
    if torch.is_inference_mode_enabled() and function._can_decompose():
        with PretendedGpu():  # outside inference mode PyTorch decomposes it before it comes here
            return function.decompose(*arguments, **options)
    tensors = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, torch.Tensor)]
    gpu_tensors = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
    device = options.get("device")
    to_gpu = bool(gpu_tensors) if device is None else torch.device(device).type == "cuda"
    if not gpu_tensors and not to_gpu:
        return function(*arguments, **options)
    kind = function.overloadpacket
    if kind is aten.copy_:
        to_gpu = isinstance(arguments[0], GpuTensor)
    if gpu_tensors and kind not in COPIES:
        cpu_tensors = [tensor for tensor in tensors if tensor.ndim > 0 and not isinstance(tensor, GpuTensor)]
        if cpu_tensors and (kind not in INDEXING or cpu_tensors[0] is arguments[0]):
            raise RuntimeError(f"{function}: expected all tensors to be on the same device")
    without_values = VALUES.type == "meta"
    if without_values and (not to_gpu or kind is aten._local_scalar_dense):
        return value_on_cpu(kind, *arguments, **options)
    # With one process an exchange changes nothing; gloo can't send tensors without values.
    exchange = without_values and function.namespace == "c10d"
    inner = {id(tensor): torch.zeros(1) if exchange else tensor.values for tensor in gpu_tensors}
    outer = {id(inner[id(tensor)]): tensor for tensor in gpu_tensors}  # for operations in place
    source = arguments[0] if arguments else None
    arguments, options = tree_map_only(
        torch.Tensor,
        lambda tensor: inner[id(tensor)] if id(tensor) in inner else tensor.to(VALUES),
        (arguments, options),
    )
    options = {key: value for key, value in options.items() if key not in ("device", "pin_memory")}
    if device is not None:
        options["device"] = VALUES if to_gpu else torch.device("cpu")
    results = function(*arguments, **options)
    if not to_gpu:
        return results
    wrapped = tree_map_only(
        torch.Tensor, lambda result: outer[id(result)] if id(result) in outer else GpuTensor(result), results
    )
    if not exchange:
        for tensor in tree_leaves(wrapped):
            if isinstance(tensor, GpuTensor):
                tensor.copied = None  # changed in place
    if without_values and kind is aten._to_copy and not gpu_tensors and source.numel() < SMALL:
        wrapped.copied = source
    return wrapped


def value_on_cpu(kind: Any, tensor: torch.Tensor, *_: Any, **options: Any) -> Any:
    """What the CPU reads from a GPU without values: zeros, or a small tensor that came from the CPU."""
    if kind is aten._to_copy and tensor.copied is not None:
        return tensor.copied.clone()
    if kind is aten._local_scalar_dense:
        return torch.zeros((), dtype=tensor.dtype).item()
    if kind is aten._to_copy:
        return torch.zeros(tensor.shape, dtype=options.get("dtype") or tensor.dtype)
    if kind is aten.copy_:
        return tensor
    raise NotImplementedError(f"{kind} without values")


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """scaled_dot_product_attention by FlashAttention's operation, which a GPU takes in bfloat16 without mask.

    Used only for tensors without values, to count their memory.
    """
    inputs = [tensor.to(torch.get_autocast_dtype("cuda")) for tensor in (query, key, value)]
    return aten._scaled_dot_product_flash_attention(*inputs, dropout_p, is_causal, False, scale=scale)[0]


def gloo_initializer(init_process_group: Any) -> Any:
    """The same function with gloo for nccl, which a PyTorch without CUDA lacks; values are on the CPU."""

    def init(backend: Any = None, *arguments: Any, **options: Any) -> None:
        options["device_id"] = None  # gloo's is the CPU
        init_process_group("gloo" if backend == "nccl" else backend, *arguments, **options)

    return init


def pretend() -> None:
    """Answer torch's questions about its GPU, and compute with tensors on it from now on."""
    properties = SimpleNamespace(name=NAME, total_memory=BYTES, major=9, minor=0, multi_processor_count=132)
    answers = {
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "is_bf16_supported": lambda including_emulation=True: True,
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: (properties.major, properties.minor),
        "get_device_properties": lambda device=None: properties,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "mem_get_info": lambda device=None: (BYTES - memory.held, BYTES),
        "memory_allocated": lambda device=None: memory.held,
        "max_memory_allocated": lambda device=None: memory.peak,
        "max_memory_reserved": lambda device=None: memory.peak,
        "reset_peak_memory_stats": lambda device=None: memory.reset_peak(),
        "empty_cache": lambda: None,
        "Stream": InOrder,
        "Event": InOrder,
        "current_stream": InOrder,
        "default_stream": InOrder,
        "stream": lambda stream: stream or InOrder(),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    nvtx.range_push = nvtx.range_pop = lambda *_: None
    dist.init_process_group = gloo_initializer(dist.init_process_group)
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    varlen_on_cpu.install()
    if VALUES.type == "meta":
        torch.nn.functional.scaled_dot_product_attention = attention
    torch.Tensor.pin_memory = lambda tensor, *_: tensor
    torch.Tensor.is_pinned = lambda tensor, *_: False
    torch.Tensor.record_stream = lambda tensor, stream: None
    torch.Tensor.data = property(OWN_DATA.__get__, set_data)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) is an operation like others
    PretendedGpu().__enter__()


pretend()
