"""The script under test, plans to train by, and several trainings in the same processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked
import yaml

from cpt.config_runs import Train
from cpt.train.plan_run import make_plan

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "scripts" / "train.py"
SETTINGS = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["train"] | {
    **{"learning_rate": 3e-3, "weight_decay": 0.1, "beta2": 0.99},
    **{"micro_batch": 2, "accumulate": None, "global_batch": 4},
    **{"engine": "ddp", "offload": [], "gradient_checkpointing": False, "precision": "float32"},
    **{"checkpoint_every": 5, "held_out": None},
}
CONTEXT = 128  # the model's context in tokens

BOTH = ["optimizer", "parameters"]
DEEPSPEED = {"engine": "deepspeed", "offload": BOTH}
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
# One of each kind; test_train_engines.py shows that all engines train alike.
SPREAD = {name: ENGINES[name] for name in ("ddp", "fsdp", "zero 2", "zero 3, all offloaded")}


def planned(
    tokens: int,
    *packed: Path,
    switch_at: float | None = None,
    continued: dict[str, Any] | None = None,
    point: int = 0,
    keep_every: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    """The plan of a run named test on one or two packed mixtures, with changed settings."""
    ledgers = [json.loads((folder / "ledger.json").read_text()) for folder in packed]
    compiles = changes.pop("compile", "auto")
    train = Train.model_validate(SETTINGS | changes)
    plan = make_plan("test", tokens, 1, train, ledgers, CONTEXT, switch_at, continued, point, keep_every)
    plan["execution"]["compile"] = compiles  # also with DeepSpeed, for which the config refuses it
    return plan


def several(
    trainings: list[dict[str, Any]], processes: int, folder: Path, gpu: dict[str, str] | None = None
) -> None:
    """Write a list of trainings to `folder` and run several_trainings.py on it.

    `gpu` is the environment of a GPU that isn't there, for one process.
    """
    script = [str(Path(__file__).with_name("several_trainings.py")), str(folder / "list.json")]
    kind = {} if gpu is None else {"kind": "cuda"}
    Path(script[1]).write_text(json.dumps([training | kind for training in trainings]))
    if gpu is not None:  # a process can only get it at its start
        done = subprocess.run([sys.executable, *script], env=gpu, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
        return
    terminal = folder / "terminal"
    members = forked.start(script, processes, terminal)
    for member in members:
        member.join(600)
    for member in members:
        member.kill()
    assert not any(member.exitcode != 0 for member in members), terminal.read_text()[-5000:]
