"""The script under test, settings to train with, and several trainings in the same processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
SETTINGS = {
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.99,
    "epsilon": 1e-8,
    "gradient_clip": 1.0,
    "document_masking": False,
    "schedule": "cosine",
    "minimum_learning_rate": 0.0,
    "warmup": 0.1,
    "micro_batch": 2,
    "global_batch": 4,
    "engine": "ddp",
    "zero_stage": 3,
    "offload": ["optimizer", "parameters"],
    "gradient_checkpointing": False,
    "lean_layers": True,
    "compile": "auto",
    "loss_kernel": "auto",
    "precision": "float32",
    "seed": 0,
    "checkpoint_every": 5,
    "keep_checkpoints": 2,
    "on_bad_step": "stop",
}

BOTH = ["optimizer", "parameters"]
ENGINES = {
    "ddp": {"engine": "ddp"},
    "fsdp": {"engine": "fsdp"},
    "fsdp, all offloaded": {"engine": "fsdp", "offload": BOTH},
    **{f"zero {stage}": {"engine": "deepspeed", "zero_stage": stage} for stage in range(3)},
    "zero 3": {"engine": "deepspeed", "zero_stage": 3, "compile": True},  # the loss alone, as on a GPU
    "zero 1, optimizer offloaded": {"engine": "deepspeed", "zero_stage": 1, "offload": ["optimizer"]},
    "zero 2, optimizer offloaded": {"engine": "deepspeed", "zero_stage": 2, "offload": ["optimizer"]},
    "zero 3, optimizer offloaded": {"engine": "deepspeed", "zero_stage": 3, "offload": ["optimizer"]},
    "zero 3, all offloaded": {"engine": "deepspeed", "zero_stage": 3, "offload": BOTH},
}


def several(
    trainings: list[dict[str, Any]], processes: int, folder: Path, gpu: dict[str, str] | None = None
) -> None:
    """Run several_trainings.py on a list, which is written to `folder`; `gpu` is the environment of one."""
    if gpu is not None:
        trainings = [training | {"kind": "cuda"} for training in trainings]
    environment = os.environ | (gpu or {}) | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TRAIN.parent), *([gpu["PYTHONPATH"]] if gpu else [])])
    (folder / "list.json").write_text(json.dumps(trainings))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    script = Path(__file__).with_name("several_trainings.py")
    result = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), str(script), str(folder / "list.json")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-5000:]
