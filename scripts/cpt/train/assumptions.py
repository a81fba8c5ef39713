"""The assumptions behind a plan's figures, as plan.md states them."""

from cpt import sizes
from cpt.train import costs
from cpt.train.recommendation import FILLED

PAPER_SHARE, AUTHORS_SHARE = (
    speed.flops_per_second / costs.A100_FLOPS for speed in (costs.OFFLOADED, costs.WHOLE)
)
_CHECKPOINT = {form: sizes.checkpoint_bytes_per_parameter(form) for form in sizes.MOMENTS_BYTES_PER_PARAMETER}
ASSUMPTIONS = f"""\
- Steps follow from the budget alone; a run that continues another counts its own.
- Device-hours: FLOPs of training (6 N + 6 L d S per token) at the FLOP/s of a known run: with offload the
  paper's ({100 * PAPER_SHARE:.1f} % of an A100's bfloat16 peak of 312 TFLOP/s), without those that
  MobileLLM's authors state ({100 * AUTHORS_SHARE:.0f} %), and a third more with gradient checkpointing; on a
  CPU the demo's ({costs.CPU.flops_per_second / 1e9:.0f} GFLOP/s per process). Another GPU, network or engine
  changes it: one H200 alone reached 31 % of its peak of 989 TFLOP/s, compiled (docs/gpu.md).
- Training alone. By docs/performance.md, the data stages take about half a core-hour for 10B tokens, and
  scoring a model of 135M parameters on all items of the seven benchmarks about 3.3 core-hours.
- Memory: 16 bytes per parameter for weights, gradients and moments (12 or 10 with `moments: bf16` or `8bit`),
  and two more in bf16 (but for fsdp), of which ZeRO and FSDP split a part over the processes; activations and
  logits of one micro-batch by formula (scripts/cpt/train/costs.py), a few percent less than counted memory
  (docs/gpu-counted.md). The CUDA context, communication buffers and fragmentation come on top:
  recommendations fill {100 * FILLED:.0f} % of a GPU.
- Disk: {sizes.PARQUET_BYTES_PER_TOKEN} bytes per training token to download and again for the kept text (as
  FineWeb-Edu), 2 or 4 bytes per token id twice (tokenized and packed), {_CHECKPOINT["float32"]} bytes per
  parameter and checkpoint ({_CHECKPOINT["bf16"]} with `moments: bf16`, {_CHECKPOINT["8bit"]} with `8bit`),
  {sizes.MODEL_BYTES_PER_PARAMETER} per parameter and model.
"""
