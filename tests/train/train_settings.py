"""The script under test, and settings to train with."""

from pathlib import Path

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
    "precision": "float32",
    "seed": 0,
    "checkpoint_every": 5,
    "keep_checkpoints": 2,
    "on_bad_step": "stop",
}
