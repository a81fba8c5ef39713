"""In bfloat16, every engine sums gradients in float32, over micro-batches and over processes."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from forked import Session
from train_settings import ENGINES, SETTINGS

MICRO_BATCHES = 5
SMALL = 2.0**-9  # less than half a unit in the last place of bfloat16: a sum with 1 loses it
WHOLE = 1 + SMALL + 2 * (MICRO_BATCHES - 1) * SMALL
# DeepSpeed's stage 1 without offload (docs/engines.md): process 0 loses all but its first.
EXPECTED = {name: 1 + MICRO_BATCHES * SMALL if name == "zero 1" else WHOLE for name in ENGINES}


@pytest.fixture(scope="module")
def sums(tmp_path_factory, model_folder) -> dict[str, float]:
    """By engine: the norm of a step's gradients over that of its first micro-batch on process 0."""
    folder = tmp_path_factory.mktemp("sums")
    output, printed = folder / "sums.json", folder / "terminal"
    command = [__file__, str(model_folder), str(output)]
    measuring = SimpleNamespace(command=command, folder=folder, remove_outputs=lambda: None)
    with Session(measuring, processes=2) as session:
        assert session.exit_codes() == [0, 0], printed.read_text()[-5000:]
    return json.loads(output.read_text())


@pytest.mark.parametrize("name", ENGINES)
def test_small_gradients_count_beside_a_large_one(sums, name):
    assert sums[name] == pytest.approx(EXPECTED[name], rel=5e-4)


def measure(model_folder: str, output: str) -> None:
    """One of two processes: equal micro-batches, of weight 1 on process 0 at first, then SMALL on both."""
    from transformers import AutoModelForCausalLM

    from cpt.train.engines import make_engine
    from cpt.train.processes import leave_processes, start_processes

    rank, processes, device = start_processes("deepspeed", "cpu")
    inputs = (torch.arange(32)[None], None, torch.ones(1, 31))
    ratios = {}
    # Stage 0 last: its autocast stays, and later engines would exchange bfloat16.
    for name in sorted(ENGINES, key="zero 0".__eq__):
        settings = SETTINGS | ENGINES[name] | {"precision": "bf16", "micro_batch": 1, "compile": False}
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).train()
        engine = make_engine(model, settings | {"loss_kernel": "pytorch"}, device, processes)

        def norm(weights: list[float], engine=engine) -> float:
            for number, weight in enumerate(weights):
                engine.backward(engine.loss(*inputs, last=number == len(weights) - 1) * weight)
            return engine.step(0.0)

        first = norm([1.0 - rank])
        ratios[name] = norm([1.0 if rank == 0 else SMALL] + (MICRO_BATCHES - 1) * [SMALL]) / first
    if rank == 0:
        with open(output, "w") as file:
            json.dump(ratios, file)
    leave_processes()


if __name__ == "__main__":
    measure(*sys.argv[1:])
