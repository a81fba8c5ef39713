"""What a compiled layer of MobileLLM-125M's shape reads and writes per token, as torch.compile counts.

`python memory_traffic.py` prints how many kernels a layer's forward and backward pass in bfloat16 make, and
the bytes that these and the matrix products pass over, for transformers' layer and for ours
(cpt.train.joined_products). What a kernel reads and writes counts once, whatever lies in caches; a GPU's
kernels differ from a CPU's (--device).
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from torch import nn
from torch._inductor import metrics
from transformers import LlamaConfig, LlamaForCausalLM

from cpt.train.joined_products import join_products
from cpt.train.plain_engine import compile_layers

SEQUENCES, LENGTH = 4, 2_000


def counted(change: Callable[[nn.Module], None], device: str) -> tuple[int, float]:
    """Kernels and bytes per token of one compiled layer after `change`."""
    shape = {"hidden_size": 576, "intermediate_size": 1_536, "num_hidden_layers": 1, "vocab_size": 128}
    config = LlamaConfig(**shape, num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True)
    torch.compiler.reset()
    metrics.reset()
    model = LlamaForCausalLM(config).train().to(device)
    change(model)
    compile_layers(model)
    ids = torch.zeros(SEQUENCES, LENGTH, dtype=torch.int64, device=device)
    with torch.autocast(device, torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    hidden.float().sum().backward()
    return metrics.generated_kernel_count, metrics.num_bytes_accessed / ids.numel()


def main(arguments: argparse.Namespace) -> None:
    """Print a line for each layer."""
    torch.set_num_threads(1)
    torch._logging.set_logs(inductor_metrics=True)  # or bytes aren't counted
    torch._inductor.config.fx_graph_cache = False  # nor are they for what was compiled before
    for name, change in (("transformers", lambda model: None), ("ours", join_products)):
        kernels, size = counted(change, arguments.device)
        print(f"{name}: {kernels} kernels, {size / 1e3:.1f} KB per token")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    main(parser.parse_args())
