import contextlib
import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from cpt.command import run
from cpt.errors import UserError

SHAPE = {"num_hidden_layers": 1, "hidden_size": 576, "intermediate_size": 1_536, "vocab_size": 128}
SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "vocab_size": 80}
SEQUENCES, LENGTH = 16, 2_000
EXTERNAL: list[int] = []  # bytes of each operation that isn't compiled: products and attention
MATHEMATICS = ("exp", "exp2", "log", "rsqrt", "sqrt", "sin", "cos")


class Stopped(Exception):
    """Raised instead of starting the first kernel."""


def pretend() -> None:
    """Let PyTorch write Triton kernels for the CPU, and let Triton see an H100."""
    import torch
    from torch._inductor import config
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    class Driver:
        """The answers that Triton needs from a driver before a kernel starts."""

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, *_: Any) -> int:
            return 0

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cpu")

    driver.set_active(Driver())
    config.cpu_backend, config.fx_graph_cache, config.compile_threads = "triton", False, 1


def multiply_floats() -> None:
    """Make Triton's interpreter multiply bfloat16 values: it would multiply their bits as integers."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    dot = interpreter.InterpreterBuilder.create_dot

    def widened(matrix: Any) -> Any:
        if matrix.dtype.scalar != tl.bfloat16:
            return matrix
        bits = matrix.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    interpreter.InterpreterBuilder.create_dot = lambda builder, left, right, *others: dot(
        builder, widened(left), widened(right), *others
    )


def check(precisions: Sequence[str]) -> None:
    """Print losses and the gradients' largest relative difference, with and without kernels."""
    os.environ["TRITON_INTERPRET"] = "1"
    pretend()
    import torch
    import triton.language
    from torch._inductor.runtime import triton_helpers
    from training import settings_of
    from transformers import LlamaConfig, LlamaForCausalLM

    from cpt.train import losses, plain_engine

    def interpreted(name: str, *values: Any) -> Any:
        return getattr(triton.language, name)(*values)

    for name in MATHEMATICS:  # functions of CUDA's library, which the interpreter lacks
        setattr(triton_helpers.libdevice, name, partial(interpreted, name))
    multiply_floats()
    losses.LOGIT_ROWS["cpu"] = 20  # a whole piece and a smaller one
    ids = torch.randint(0, 80, (2, 16), generator=torch.Generator().manual_seed(0))
    weights = torch.ones(2, 15)
    separate = torch.cat([torch.arange(10), torch.arange(6)])[None]
    cases = (("causal", None), ("documents", separate))
    print("| precision | mask | losses | compiled | gradients differ by |")
    print("| --- | --- | ---: | ---: | ---: |")
    for precision in precisions:
        for mask, positions in cases:
            losses_by_kind, gradients = [], []
            for compiled in (False, True):
                torch.compiler.reset()
                torch.manual_seed(0)
                heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
                model = LlamaForCausalLM(LlamaConfig(**SMALL, **heads)).train()
                settings = settings_of("ours-ddp", {"precision": precision}).model_dump()
                engine = plain_engine.PlainEngine(
                    model, settings | {"compile": compiled}, torch.device("cpu"), 1
                )
                steps = []
                for step in range(2):
                    loss = engine.loss(ids, positions, weights) / weights.sum()
                    engine.backward(loss)
                    if step == 0:
                        gradients.append([p.grad.clone() for p in model.parameters()])
                    engine.step(1e-3)
                    steps.append(f"{loss.item():.6f}")
                losses_by_kind.append(", ".join(steps))
            worst = max(((b - a).norm() / a.norm()).item() for a, b in zip(*gradients, strict=True))
            print(f"| {precision} | {mask} | {' | '.join(losses_by_kind)} | {worst:.1e} |", flush=True)


def liger() -> None:
    """Print how far our losses and gradients are from Liger Kernel's, with some targets skipped."""
    os.environ["TRITON_INTERPRET"] = "1"
    import torch
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    from cpt.train import losses
    from cpt.train.softmax import liger_softmax, softmax

    losses.LOGIT_ROWS["cpu"] = 20  # a whole piece and a smaller one
    torch.manual_seed(0)
    hidden = torch.randn(37, 48).requires_grad_()
    head = torch.nn.Linear(48, 500, bias=False)
    targets, kept = torch.randint(0, 500, (37,)), torch.rand(37) < 0.8

    def with_gradients(loss: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return loss.detach(), *torch.autograd.grad(loss, (hidden, head.weight))

    # Bias, class weights, the target to skip, two terms that aren't used, reduction.
    options = (None, None, -100, 0.0, 0.0, "sum")
    labels = torch.where(kept, targets, -100)
    theirs = with_gradients(
        LigerFusedLinearCrossEntropyFunction.apply(hidden, head.weight, labels, *options)[0]
    )
    print("| loss_kernel | loss differs by | gradient of hidden states | of the head |")
    print("| --- | ---: | ---: | ---: |")
    for name, kernel in (("pytorch", softmax), ("liger", liger_softmax)):
        ours = with_gradients(losses.HeadLoss(head, kernel)(hidden, targets, kept.float()))
        differences = [(a - b).norm() / b.norm() for a, b in zip(ours, theirs, strict=True)]
        print(f"| {name} | {' | '.join(f'{value:.1e}' for value in differences)} |")


def traffic() -> None:
    """Print the kernels and bytes per token of transformers' layer, of ours, and of the loss."""
    pretend()
    import torch
    from torch._functorch import config
    from torch._inductor import compile_fx, graph, ir, scheduler
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    from cpt.train.compiled_layers import join_products, keep_residual_in_bfloat16

    def stop(*_: Any, **__: Any) -> None:
        raise Stopped

    def partition(*arguments: Any, num_fwd_outputs: int, **options: Any) -> Any:
        parts = min_cut(*arguments, num_fwd_outputs=num_fwd_outputs, **options)
        values = [node.meta["val"] for node in parts[0].graph.output_node().args[0] if hasattr(node, "meta")]
        kept = {
            value.untyped_storage()._cdata: value.untyped_storage().nbytes()
            for value in values[num_fwd_outputs:]
            if isinstance(value, torch.Tensor) and value.numel() % (SEQUENCES * LENGTH) == 0  # no weights
        }
        print(f"kept for the backward pass: {sum(kept.values()) / SEQUENCES / LENGTH / 1e3:.1f} KB per token")
        return parts

    def unread(node: Any) -> int:
        """Returns the bytes of inputs that PyTorch counts but a product or attention doesn't read."""
        parts: dict[str, list[int]] = {}
        for view in (part for part in node.node.inputs if isinstance(part, ir.ReinterpretView)):
            sizes = (math.prod(each.get_size()) * each.get_dtype().itemsize for each in (view.data, view))
            whole, part = map(int, sizes)
            parts.setdefault(view.get_name(), [whole]).append(part)
        return sum(max(0, whole - sum(read)) for whole, *read in parts.values())

    def count_bytes(graph: Any) -> Any:
        total, *others = count(graph)
        for node in graph.scheduler.nodes:
            if isinstance(node, scheduler.ExternKernelSchedulerNode):
                EXTERNAL.append(node.get_read_write_buffers_sizes() - unread(node))
                total -= unread(node)
        return total, *others

    count, graph.GraphLowering.count_bytes = graph.GraphLowering.count_bytes, count_bytes
    min_cut = compile_fx.min_cut_rematerialization_partition
    compile_fx.min_cut_rematerialization_partition = partition
    CachingAutotuner.precompile, CachingAutotuner.run = lambda *_, **__: None, stop
    scheduler._is_gpu_triton_backend = lambda *_: True  # sums over rows and columns in one pass, as on a GPU
    config.force_non_lazy_backward_lowering = True
    torch._logging.set_logs(inductor_metrics=True)  # or bytes aren't counted

    def ours(model: Any) -> None:
        join_products(model)
        keep_residual_in_bfloat16(model)

    layers = {
        "transformers' layer": lambda model: None,
        "our layer": ours,
    }
    for name, change in layers.items():
        print(f"{name}: {counted(partial(one_layer, change), SEQUENCES * LENGTH)}")
    print(f"softmax, loss and gradient: {counted(one_softmax, SEQUENCES * LENGTH)}")


def counted(start: Callable[[], None], tokens: int) -> str:
    """Returns the kernels and bytes per token of what `start` compiles, as text."""
    import torch
    from torch._inductor import metrics

    torch.compiler.reset()
    metrics.reset()
    EXTERNAL.clear()
    with contextlib.suppress(Stopped):
        start()
    total, external = (number / tokens / 1e3 for number in (metrics.num_bytes_accessed, sum(EXTERNAL)))
    kernels = f"{metrics.generated_kernel_count} kernels, {total:.1f} KB per token"
    return f"{kernels}, {external:.1f} of them in products and attention"


def one_layer(change: Callable[[Any], None]) -> None:
    """Apply `change` to a model of one layer, compile it and start it in autocast."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from cpt.train.compiled_layers import compile_layers

    heads = {"num_attention_heads": 9, "num_key_value_heads": 3}
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **heads)).train()
    change(model)
    compile_layers(model)
    with torch.autocast("cpu", torch.bfloat16):
        model.model(input_ids=torch.zeros(SEQUENCES, LENGTH, dtype=torch.int64), use_cache=False)


def one_softmax() -> None:
    """Start the loss's compiled softmax on bfloat16 logits of a vocabulary of 32,000."""
    import torch

    from cpt.train.softmax import fused_softmax

    logits = torch.empty(SEQUENCES * LENGTH, 32_000, dtype=torch.bfloat16)
    targets = torch.zeros(len(logits), 1, dtype=torch.int64)
    torch.compile(fused_softmax, dynamic=False)(logits, targets)


def gpu_kernels(
    task: Literal["check", "liger", "traffic"], precisions: Sequence[str] = ("float32", "bf16")
) -> None:
    """Check the kernels for a GPU without a GPU: their results, and their memory traffic.

    Needs the packages of envs/interpreter.txt; Triton comes only with PyTorch's builds for GPUs. PyTorch
    writes Triton kernels for tensors on the CPU, and Triton sees a pretended H100.

    `check` runs the kernels of compiled layers and loss in Triton's interpreter, and prints losses and
    gradients of two steps beside those without compilation. One minute. The interpreter truncates to
    bfloat16 where a GPU rounds to the nearest, so float32 is the stricter check.

    `liger` runs Liger Kernel's loss in the interpreter too, and prints how far ours is from it, with
    PyTorch's operations and with Liger Kernel's kernel (train.loss_kernel).

    `traffic` counts kernels and bytes for a layer of MobileLLM-125M's shape in bfloat16: transformers' layer
    in autocast, and ours (cpt.train.compiled_layers). It prints the kernels of forward and backward pass, the
    bytes per token that these and the matrix products read and write, and how many of them products and
    attention take; the same for the loss without its products; and the bytes per token that a layer keeps for
    its backward pass, with its own input. Nothing runs; a kernel's reads and writes count once, whatever
    caches hold.

    Args:
        task: what to check.
        precisions: precisions for `check`.
    """
    if any(importlib.util.find_spec(package) is None for package in ("triton", "liger_kernel")):
        raise UserError(
            "gpu_kernels.py needs the packages of envs/interpreter.txt, which `make test` installs in "
            ".venv/gpu: PYTHONPATH=scripts:.venv/gpu .venv/bin/python benchmarks/gpu_kernels.py ..."
        )
    {"check": partial(check, precisions), "liger": liger, "traffic": traffic}[task]()


if __name__ == "__main__":
    run(gpu_kernels)
