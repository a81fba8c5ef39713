import importlib.util
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from gpu_probe import Row, add_rows

from cpt.command import run
from cpt.errors import UserError
from cpt.files import read_json, write_json
from cpt.stage import arguments
from cpt.token_windows import HeldOut

ROOT = Path(__file__).resolve().parents[1]
KEYS = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
KEYS += ("num_key_value_heads", "vocab_size")
# By size: the model's shape (full: MobileLLM-125M's), tokens of a sequence, micro-batch, steps.
SIZES = {
    "full": ((30, 576, 1_536, 9, 3, 32_000), 2_000, 16, 12),
    "tiny": ((1, 32, 32, 2, 1, 64), 32, 2, 80),
}
ACCUMULATE = 4
SIGNAL_AFTER = 6  # steps
EXIT_INTERRUPTED = 75
HELD_OUT_SHAPES = 14
PLAIN = {"engine": "ddp", "zero_stage": 0, "offload": [], "gradient_checkpointing": False, "compile": False}
RUNS: dict[str, dict[str, Any]] = {
    "compiled": PLAIN | {"compile": "auto", "held_out": {"every": 10**9, "tokens": 10**9, "first_steps": 0}},
    "interrupted": PLAIN,
    "fsdp": PLAIN | {"engine": "fsdp"},
    "deepspeed": PLAIN
    | {"engine": "deepspeed", "zero_stage": 3, "offload": ["optimizer", "parameters"]}
    | {"gradient_checkpointing": True},
}
# One H100 or H200, MobileLLM-125M's shape, 2,000 tokens, bf16: by first principles (docs/gpu-first-run.md).
TOKENS_PER_SECOND = {
    "compiled": "200,000 to 340,000",
    "interrupted": "100,000 to 180,000",
    "fsdp": "100,000 to 170,000",
    "deepspeed": "30,000 to 135,000",
    "ours-compiled": "200,000 to 340,000",
    "ours-liger": "200,000 to 340,000",
    "ours-ddp": "100,000 to 180,000",
    "ours-checkpointing": "75,000 to 115,000",
    "ours-zero3-offload-checkpointing": "90,000 to 135,000",
    "hf-trainer": "130,000 to 165,000",
    "hf-trainer-checkpointing": "105,000 to 135,000",
}
# Counted without compilation (docs/gpu-counted.md, "Memory"): GB at micro-batch 16 and 80.
PEAK_GB = {
    "ours-zero3-offload-checkpointing": (2.74, 12.19),
    "ours-checkpointing": (5.24, 19.65),
    "ours-ddp": (32.20, 150.13),
    "hf-trainer-checkpointing": (16.28, 75.28),
    "hf-trainer": (48.70, 236.51),
}


def prepare(folder: Path, size: str) -> None:
    """Write a model with random weights, packed random tokens, and held-out text of 14 lengths."""
    from training_systems import prepare as model_and_sequences

    shape, length, micro_batch, steps = SIZES[size]
    job = {"shape": dict(zip(KEYS, shape, strict=True)), "sequence_length": length, "steps": steps}
    folder.mkdir(parents=True, exist_ok=True)
    model_and_sequences(job | {"global_batch": micro_batch * ACCUMULATE}, folder)
    lengths = np.repeat([length * (n + 1) // HELD_OUT_SHAPES for n in range(HELD_OUT_SHAPES)], micro_batch)
    tokens = np.random.default_rng(1).integers(0, shape[-1], lengths.sum()).astype(np.uint32)
    HeldOut(tokens, np.cumsum(lengths), 4 * lengths, 0).save(folder / "held_out.npz")


def plan_of(name: str, folder: Path, size: str, device: str) -> dict[str, Any]:
    """Returns a run's plan, as cpt.train.plan_run makes it with pydantic, which a bare machine lacks."""
    _, length, micro_batch, steps = SIZES[size]
    learning = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["train"]
    execution = RUNS[name] | {"micro_batch": micro_batch, "checkpoint_every": 10**6, "keep_checkpoints": 2}
    execution |= {"on_bad_step": "stop", "loss_kernel": "auto"}
    for key in (*execution, "accumulate", "global_batch", "held_out"):
        learning.pop(key, None)
    learning["precision"] = "bf16" if device == "cuda" else "float32"
    ledger, batch = read_json(folder / "packed" / "ledger.json"), micro_batch * ACCUMULATE
    stage = {"mixture": "random", "first_sequence": 0, "sequences": steps * batch}
    return {
        "run": name,
        "continues": None,
        "tokens": steps * batch * length,
        "sequences": steps * batch,
        "sequence_length": length,
        "global_batch": batch,
        "steps": steps,
        "warmup_steps": 1,
        "cooldown_steps": 0,
        "decay_steps": 0,
        "stages": [stage | {"sequences_sha256": ledger["sequences_sha256"]}],
        "rows_used": {"random": steps * batch},
        "learning": learning,
        "execution": execution,
    }


def start_training(name: str, folder: Path, device: str) -> subprocess.Popen:
    """Start scripts/train.py; its output goes to NAME.log."""
    own = folder / name
    held_out = {"held_out": [folder / "held_out.npz"], "corpora": ["random"]} if name == "compiled" else {}
    words = arguments(
        plan=own / "plan.json",
        packed=[folder / "packed"],
        start=folder / "model",
        work=own / "work",
        model=own / "model",
        metrics=own / "metrics.csv",
        held_out_losses=own / "held_out.csv",
        document_losses=own / "held_out_documents.csv",
        summary=own / "run.json",
        device=device,
        **held_out,
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": device}
    with open(own.with_suffix(".log"), "a") as log:
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), *words]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def require(process: subprocess.Popen, status: int, name: str, folder: Path) -> None:
    """Wait for a run's end. Raises UserError with the end of its log if the exit code isn't `status`."""
    if (code := process.wait()) != status:
        log = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        raise UserError(f"{name}: exit code {code} instead of {status}; {folder}/{name}.log ends: {log[-1:]}")


def metrics_of(path: Path) -> list[dict[str, str]]:
    """Returns the complete rows of a metrics.csv, which may still grow."""
    if not path.exists():
        return []
    head, *lines = path.read_text().rpartition("\n")[0].splitlines() or [""]
    return [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]


def trained(name: str, folder: Path, size: str, device: str) -> list[Row]:
    """Train by scripts/train.py; returns speed, memory, time of the first step and the task's own rows."""
    own = folder / name
    shutil.rmtree(own, ignore_errors=True)
    own.with_suffix(".log").unlink(missing_ok=True)
    write_json(own / "plan.json", plan_of(name, folder, size, device))
    rows: list[Row] = []
    process = start_training(name, folder, device)
    if name == "interrupted":
        while process.poll() is None and len(metrics_of(own / "work" / "metrics.csv")) < SIGNAL_AFTER:
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        require(process, EXIT_INTERRUPTED, name, folder)
        rows.append(("exit code after SIGTERM", str(EXIT_INTERRUPTED), str(EXIT_INTERRUPTED)))
        rows.append(("seconds from SIGTERM to the end", f"{time.monotonic() - began:.1f}", "under 10"))
        process = start_training(name, folder, device)
    require(process, 0, name, folder)
    summary, metrics = read_json(own / "run.json"), metrics_of(own / "metrics.csv")
    if name == "interrupted":
        resumed = f"{SIGNAL_AFTER} or a few more"
        rows.append(("resumed after step", str(summary["resumed_after_step"]), resumed))
        once = [int(row["step"]) for row in metrics] == list(range(1, summary["steps"] + 1))
        rows.append(("every step is there once", "yes" if once else "no", "yes"))
    speeds = [float(row["tokens_per_second"]) for row in metrics]
    steady = statistics.median(speeds[len(speeds) // 2 :])
    first = summary["global_batch"] * summary["sequence_length"] / speeds[0]
    rows.append(("tokens/s", f"{steady:,.0f}", TOKENS_PER_SECOND[name]))
    rows.append(("first step, s", f"{first:.1f}", "5 to 60" if name == "compiled" else "under 5"))
    peak = PEAK_GB["ours-zero3-offload-checkpointing" if name == "deepspeed" else "ours-ddp"][0]
    rows.append(("peak memory, GB", f"{summary['peak_memory_mb'] / 1e3:.2f}", f"at most about {peak:.2f}"))
    losses = [float(row["loss"]) for row in metrics]
    rows.append(
        ("loss, first and last", f"{losses[0]:.3f}, {losses[-1]:.3f}", "10.4 (ln 32,000), hardly less")
    )
    if name == "compiled":
        text = f"{HELD_OUT_SHAPES} held-out shapes, twice, s"
        rows.append((text, f"{summary['held_out_seconds']:.1f}", "under 10"))
        log = (folder / f"{name}.log").read_text(errors="replace")
        rows.append(("warnings of the compiler's limit", str(log.count("recompile_limit")), "0"))
        rows.append(("compile: auto became", str(summary["settings"]["compile"]), "true"))
    return rows


def profiled(folder: Path, size: str, device: str) -> list[Row]:
    """Returns shares of a step's time by kind of kernel; writes profile.txt (kernels), profile.json (all)."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import AutoModelForCausalLM

    from cpt.train.engines import make_engine
    from cpt.train.processes import start_processes

    _, length, micro_batch, _ = SIZES[size]
    plan = plan_of("compiled", folder, size, device)
    settings = plan["learning"] | plan["execution"]
    chosen = start_processes("ddp", device)[2]
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).train()
    engine = make_engine(model, settings, chosen, 1)
    ids = torch.randint(0, model.config.vocab_size, (micro_batch, length), device=chosen)
    weights = torch.ones(micro_batch, length - 1, device=chosen)

    def step() -> None:
        engine.backward(engine.loss(ids, None, weights) / weights.numel())
        engine.step(1e-4)  # which waits for the GPU

    for _ in range(3):
        step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as recorded:
        step()
    averages = recorded.key_averages()
    (folder / "profile.txt").write_text(averages.table(sort_by=f"self_{device}_time_total", row_limit=40))
    recorded.export_chrome_trace(str(folder / "profile.json"))
    kinds = {"matrix products": "35 to 55", "attention": "20 to 30", "all else": "20 to 40"}
    patterns = {
        "attention": "flash|fmha|cudnn.*sdpa|attention",
        "matrix products": "gemm|nvjet|cutlass|::mm|::addmm",
    }
    times = dict.fromkeys(kinds, 0.0)
    for event in averages:
        if device == "cpu" or event.device_type == torch.autograd.DeviceType.CUDA:
            matches = (k for k, pattern in patterns.items() if re.search(pattern, event.key, re.IGNORECASE))
            took = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
            times[next(matches, "all else")] += took
    total = sum(times.values()) or 1.0
    return [(f"time in {kind}, %", f"{100 * times[kind] / total:.0f}", kinds[kind]) for kind in kinds]


def read_speeds(log: Path, micro_batch: int, size: str) -> list[Row]:
    """Returns what training.py logged of its systems, even if its time ended before it wrote its table."""
    rows: list[Row] = []
    text = log.read_text(errors="replace")
    for system, fields in re.findall(r"^repeat \d+, ([\w-]+): (\{.*\})$", text, re.MULTILINE):
        result = json.loads(fields)
        speed = micro_batch * SIZES[size][1] / result["step_seconds"]
        rows.append((f"{system}, tokens/s", f"{speed:,.0f}", TOKENS_PER_SECOND.get(system, "not known")))
        counted = dict(zip((16, 80), PEAK_GB.get(system, ()), strict=False)).get(micro_batch)
        fallback = "less than ours-ddp" if system in ("ours-compiled", "ours-liger") else "not known"
        expected = f"{counted:.2f} counted, and somewhat more" if counted else fallback
        rows.append((f"{system}, peak GB", f"{result['peak_mb'] / 1e3:.2f}", expected))
    rows += [(line, "", "") for line in text.splitlines() if "is skipped" in line]
    return rows


def gpu_training(
    task: Literal["compiled", "interrupted", "fsdp", "deepspeed", "profile", "systems"],
    folder: Path,
    table: Path,
    device: Literal["cuda", "cpu"] = "cuda",
    size: Literal["full", "tiny"] = "full",
    printed: Path | None = None,
    micro_batch: int = 16,
) -> None:
    """Train on a GPU in several ways, and print measured beside expected values.

    Model and text are random; the first task writes them to `folder`. Needs torch, transformers and numpy,
    and DeepSpeed for that task. docs/gpu-first-run.md names the sources of the expected values.

    Args:
        task: a training by scripts/train.py (`compiled` with 14 shapes of held-out text, `interrupted` by
            SIGTERM after step 6, not compiled), a `profile` of one step, or `systems`: what training.py
            logged.
        folder: for model, text and results.
        table: results to append to (Markdown).
        device: device to measure.
        size: size of model and batch; `tiny` tries the script itself.
        printed: output of training.py, for `systems`.
        micro_batch: micro-batch of that output.
    """
    if task == "systems":
        add_rows(table, f"systems, micro-batch {micro_batch}", read_speeds(printed, micro_batch, size))
        return
    if task == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        add_rows(table, task, [("skipped", "DeepSpeed isn't installed", "docs/gpu-first-run.md")])
        return
    if not (folder / "held_out.npz").exists():
        prepare(folder, size)
    rows = profiled(folder, size, device) if task == "profile" else trained(task, folder, size, device)
    add_rows(table, task, rows)


if __name__ == "__main__":
    run(gpu_training)
