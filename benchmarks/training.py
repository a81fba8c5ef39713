import csv
import importlib.util
import io
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from cpt.command import run
from cpt.config import load
from cpt.config_runs import Train
from cpt.errors import UserError
from cpt.files import read_json, write_json, write_text
from cpt.stage import arguments
from cpt.train.plan_run import make_plan

SHAPES = {
    "125m": (30, 576, 1536, 9, 3, 32_000),  # MobileLLM-125M
    "135m": (30, 576, 1536, 9, 3, 49_152),  # SmolLM2-135M
    "small": (8, 256, 688, 4, 2, 32_000),
}
SHAPE_KEYS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
WHOLE = {"engine": "ddp", "offload": []}
KEPT = WHOLE | {"gradient_checkpointing": False}
SELECTIVE = WHOLE | {"gradient_checkpointing": "selective"}
BF16 = {"precision": "bf16"}  # on a CPU, where the others compute in float32
# Each system's changes to the paper's settings: ours one change at a time, then the Trainer.
SYSTEMS: dict[str, dict[str, Any]] = {
    "ours-zero3-offload-checkpointing": {},
    "ours-checkpointing": WHOLE,
    "ours-ddp": KEPT,
    "ours-selective": SELECTIVE,
    "ours-bf16": SELECTIVE | BF16,
    "ours-bf16-moments-bf16": SELECTIVE | BF16 | {"moments": "bf16"},
    "ours-bf16-moments-8bit": SELECTIVE | BF16 | {"moments": "8bit"},
    "ours-compiled": KEPT | {"compile": True},
    "ours-liger": KEPT | {"compile": True, "loss_kernel": "liger"},
    "hf-trainer-checkpointing": WHOLE,
    "hf-trainer": KEPT,
    "hf-trainer-onednn": KEPT,  # with oneDNN, which multiplies our float32 matrices
    "hf-trainer-bf16": KEPT | BF16,
}
ON_ONE_DEVICE = {"ours-compiled": "cuda", "ours-liger": "cuda"} | dict.fromkeys(
    (
        "ours-bf16", "ours-bf16-moments-bf16", "ours-bf16-moments-8bit",
        "hf-trainer-onednn", "hf-trainer-bf16",
    ),
    "cpu",
)  # fmt: skip
PARTS = ("weights", "gradients", "optimizer")
OUT_OF_MEMORY = ("OutOfMemoryError", "out of memory", "can't allocate memory")
# Targets on a CPU against the Trainer at the faster of its two precisions: its speed, and its peak memory.
SPEED_TARGET, MEMORY_TARGET = 1.3, 0.60


def is_trainer(system: str) -> bool:
    """Whether a system is the Hugging Face Trainer."""
    return system.startswith("hf-")


def settings_of(system: str, changes: dict[str, Any]) -> Train:
    """Returns a system's settings: those of config.yaml without checkpoints, then `changes`, then its own."""
    config = Path(__file__).resolve().parents[1] / "config.yaml"
    train = load(yaml.safe_load(config.read_text(encoding="utf-8"))).train
    fixed = {"compile": False, "loss_kernel": "pytorch", "checkpoint_every": 1_000_000, "held_out": None}
    return Train.model_validate(train.model_dump() | fixed | changes | SYSTEMS[system])


def missing_package(system: str, settings: Train) -> str | None:
    """Returns a package that a system needs and that isn't installed; None if all are."""
    packages = {
        "accelerate": is_trainer(system),
        "deepspeed": settings.engine == "deepspeed",
        "triton": settings.compile is True,
        "liger_kernel": settings.loss_kernel == "liger",
    }
    return next(
        (name for name, needs in packages.items() if needs and not importlib.util.find_spec(name)), None
    )


def run_task(task: str, job: dict[str, Any], folder: Path) -> bool:
    """Run a task of training_systems.py in processes of its own, with its output in `folder`.

    Returns False if it runs out of memory. Raises UserError with the end of its log if it fails for another
    reason.
    """
    write_json(folder / "job.json", job)
    command = [sys.executable]
    if task == "train" and job["processes"] > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job['processes']}"]
    command += [str(Path(__file__).with_name("training_systems.py"))]
    command += arguments(task=task, job=folder / "job.json", folder=folder)
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1"}
    with open(folder / "log", "w") as file:
        status = subprocess.run(command, stdout=file, stderr=file, env=environment).returncode
    log = (folder / "log").read_text(errors="replace")
    if status and status != -9 and not any(message in log for message in OUT_OF_MEMORY):
        raise UserError(f"{task} of {job['system']} failed:\n{log[-3000:]}")
    return status == 0


def measure_system(
    system: str, settings: Train, job: dict[str, Any], root: Path, logits: bool
) -> dict[str, Any] | None:
    """Returns a run's results, with `logits` also the peak memory of its loss; None if out of memory."""
    folder = Path(tempfile.mkdtemp(dir=root))
    own = job | {"system": system, "settings": settings.model_dump()}
    ledger = read_json(Path(job["packed"]) / "ledger.json")
    length = ledger["sequence_length"]
    plan = make_plan("benchmark", ledger["tokens"], job["processes"], settings, [ledger], length)
    write_json(folder / "plan.json", plan)
    result = None
    if run_task("train", own, folder):
        logits_mb = read_json(folder / "logits.json") if logits and run_task("logits", own, folder) else 0.0
        result = read_json(folder / "result.json") | {"logits_mb": logits_mb}
    shutil.rmtree(folder)
    return result


def row_of(
    system: str, runs: list[dict[str, Any]], job: dict[str, Any], peak_flops: float | None
) -> dict[str, str | float]:
    """Returns a system's row of the table: medians of its runs. `peak_flops` is per second; None: unknown."""
    tokens = job["global_batch"] * job["sequence_length"] / job["processes"]
    cpu = job["device"] == "cpu"

    def median(values: list[float], digits: int) -> float:
        return round(statistics.median(values), digits)

    speeds = [tokens / one["step_cpu_seconds" if cpu else "step_seconds"] for one in runs]
    flops = [speed * one["flops_per_token"] for speed, one in zip(speeds, runs, strict=True)]
    parts = {f"{part}_mb": median([one["parts_mb"][part] for one in runs], 1) for part in PARTS}
    logits = median([one["logits_mb"] for one in runs], 1)
    rest = [one["peak_mb"] - one["baseline_mb"] - sum(one["parts_mb"].values()) for one in runs]
    return {
        "system": system,
        "precision": runs[0]["precision"],
        "tokens_per_second": median([tokens * job["processes"] / one["step_seconds"] for one in runs], 1),
        "tokens_per_cpu_second": median(speeds, 1) if cpu else "",
        "mfu": median([each / peak_flops for each in flops], 4) if peak_flops else "",
        "peak_memory_mb": median([one["peak_mb"] for one in runs], 1),
        "baseline_mb": median([one["baseline_mb"] for one in runs], 1),
        **parts,
        "activations_mb": round(median(rest, 1) - logits, 1),
        "logits_mb": logits,
        "measured_on": runs[0]["measured_on"],
    }


def log_table(rows: list[dict[str, Any]], speed: str) -> None:
    """Log the table, where it was measured, and our speed and peak memory relative to the Trainer's."""
    columns = [column for column in rows[0] if column != "measured_on"]
    lines = [columns, ["---", "---", *["---:"] * (len(columns) - 2)]]
    cells = [[row[column] for column in columns] for row in rows]
    lines += [[f"{value:,}" if isinstance(value, float) else value for value in row] for row in cells]
    logging.info("measured on %s", rows[0]["measured_on"])
    logging.info("\n".join(f"| {' | '.join(line)} |" for line in lines))
    for trainer in (row for row in rows if is_trainer(row["system"])):
        for ours in (row for row in rows if not is_trainer(row["system"])):
            logging.info(
                "%s: %.2f times the %s of %s (target: %.2f), %.0f %% of its peak memory (target: %.0f %%)",
                ours["system"],
                ours[speed] / trainer[speed],
                speed,
                trainer["system"],
                SPEED_TARGET,
                100 * ours["peak_memory_mb"] / trainer["peak_memory_mb"],
                100 * MEMORY_TARGET,
            )


def draw(rows: list[dict[str, Any]], speed: str, title: str, outputs: Sequence[Path]) -> None:
    """Draw bars for each system: speed on the left, peak memory split by part on the right."""
    from cpt.report import style

    colours = {
        "baseline_mb": "#bbbbbb",
        "weights_mb": style.BLUE,
        "gradients_mb": style.SKY,
        "optimizer_mb": style.PURPLE,
        "activations_mb": style.YELLOW,
        "logits_mb": style.ORANGE,
    }
    with style.figure(1.15 + 0.27 * len(rows), outputs) as drawn:
        left, right = drawn.subplots(1, 2, sharey=True)
        for place, row in enumerate(rows):
            colour = style.GREY if is_trainer(row["system"]) else style.GREEN
            left.barh(place, row[speed], 0.68, color=colour)
            left.text(row[speed], place, f" {row[speed]:,.0f}", va="center", fontsize=7.5)
            begin = 0.0
            for part, shade in colours.items():
                label = (
                    part.removesuffix("_mb").replace("baseline", "before the model") if place == 0 else None
                )
                # If torch reuses fragments of memory, the rest of the peak can be just below 0.
                width = max(0.0, row[part])
                right.barh(place, width, 0.68, begin, color=shade, label=label)
                begin += width
            right.text(begin, place, f" {row['peak_memory_mb']:,.0f}", va="center", fontsize=7.5)
        left.set_yticks(range(len(rows)), [row["system"] for row in rows])
        left.invert_yaxis()
        left.set_xlabel(speed.replace("_", " ").capitalize().replace("cpu", "CPU"))
        right.set_xlabel("Peak memory (MB)")
        for axes in (left, right):
            axes.grid(axis="y", visible=False)
            axes.margins(x=0.3)
            axes.locator_params(axis="x", nbins=4)
            axes.xaxis.set_major_formatter("{x:,.0f}")
        drawn.suptitle(title, fontsize=8.5)
        drawn.legend(
            loc="outside lower center", ncols=6, columnspacing=0.8, handlelength=1.0, handletextpad=0.5
        )


def training(
    table: Path,
    figure: Sequence[Path] = (),
    shape: Literal["125m", "135m", "small"] = "small",
    device: Literal["cpu", "cuda"] = "cpu",
    sequence_length: int = 2_000,
    micro_batch: int = 1,
    accumulate: int = 1,
    steps: int = 4,
    warm_up_steps: int = 1,
    repeats: int = 3,
    processes: int = 1,
    threads: int = 1,
    systems: Sequence[str] = (),
    settings: dict[str, Any] | None = None,
    logits: bool = True,
) -> None:
    """Measure speed and memory of training: from the paper's settings to ours, and the Hugging Face Trainer.

    A Llama with random weights trains on random tokens. Every run is a process of its own (or several under
    torchrun); ours is scripts/train.py with a usual plan. The systems take turns; the table has the medians
    of the repeats. A step lasts from the end of the previous one; the first steps are skipped.

    On a CPU that others use too, wall time says little, so the table also has tokens per CPU second of a
    core, to which the targets apply. With several processes, memory and CPU time are the first one's.

    Peak memory is measured until the last step ends, so that saving the model doesn't count. On a CPU it is
    resident memory, of which `baseline_mb` was used before the model (Python, torch, transformers); on a GPU
    it is what torch has allocated there. Weights, gradients and optimizer are measured between the last
    step's backward pass and its update. A process that computes only head and loss of a micro-batch measures
    the logits and all that the loss makes of them. Activations are the rest of the peak.

    MFU is the share of the peak speed that the model's own operations reach. A GPU's peak is that of its data
    sheet. On a CPU both count per CPU second of a core: each run ends with products of 2,048 x 2,048 matrices
    in its precision on the same number of threads, and the best of all runs in a precision is its peak.

    On a CPU, `ours-bf16` has `precision: bf16`: training uses bfloat16 if it is faster on this processor.
    `hf-trainer-bf16` uses the Trainer's autocast on any processor. The column `precision` says what was used.
    `ours-bf16-moments-bf16` and `-8bit` differ from `ours-bf16` only in `moments`.

    Args:
        table: table to write (CSV).
        figure: files of the figure to write (.png, .pdf, .svg).
        shape: shape of the model.
        device: where each process computes.
        sequence_length: tokens per sequence.
        micro_batch: sequences per process and forward pass.
        accumulate: micro-batches per step and process.
        steps: measured steps.
        warm_up_steps: steps before the measured ones.
        repeats: runs of each system.
        processes: processes of every system; one per GPU.
        threads: threads per process, on a CPU.
        systems: systems to measure, in this order; default: all that fit the device.
        settings: train settings for all systems.
        logits: measure the loss's memory apart from activations, by one more process per run.
    """
    if warm_up_steps < 1 or steps < 1 or repeats < 1:
        raise UserError("--steps, --warm-up-steps and --repeats: 1 or more each")
    if unknown := set(systems) - SYSTEMS.keys():
        raise UserError(f"--systems: {min(unknown)} is none of {', '.join(SYSTEMS)}")
    changes = {"micro_batch": micro_batch, "accumulate": accumulate, "global_batch": None}
    changes |= {"precision": "bf16" if device == "cuda" else "float32"} | (settings or {})
    fitting: dict[str, Train] = {}
    for system in systems or [name for name in SYSTEMS if ON_ONE_DEVICE.get(name, device) == device]:
        train = settings_of(system, changes)
        if missing := missing_package(system, train):
            logging.warning("%s is skipped: the package %s isn't installed", system, missing)
        else:
            fitting[system] = train
    runs: dict[str, list[dict[str, Any]]] = {system: [] for system in fitting}
    with tempfile.TemporaryDirectory(prefix="bench-training.") as temporary:
        root = Path(temporary)
        job = {
            "system": "all systems",
            "shape": dict(zip(SHAPE_KEYS, SHAPES[shape], strict=True)),
            "sequence_length": sequence_length,
            "global_batch": micro_batch * accumulate * processes,
            "steps": warm_up_steps + steps,
            "warm_up_steps": warm_up_steps,
            "processes": processes,
            "threads": threads,
            "device": device,
            "model": str(root / "model"),
            "packed": str(root / "packed"),
        }
        run_task("prepare", job, root)
        for repeat in range(repeats):
            for system in list(runs):
                if result := measure_system(system, fitting[system], job, root, logits):
                    runs[system].append(result)
                    logging.info("repeat %d, %s: %s", repeat + 1, system, json.dumps(result))
                else:
                    logging.warning("%s is skipped: it needs more memory than there is", system)
                    del runs[system]
    if not runs:
        raise UserError("no system could be measured; the warnings above say why")
    peaks: dict[str, float] = {}
    for one in (one for results in runs.values() for one in results):
        peaks[one["precision"]] = max(peaks.get(one["precision"], 0.0), one["peak_flops"] or 0.0)
    rows = [row_of(*run, job, peaks[run[1][0]["precision"]] or None) for run in runs.items()]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, text.getvalue())
    speed = "tokens_per_cpu_second" if device == "cpu" else "tokens_per_second"
    log_table(rows, speed)
    if figure:
        title = (
            f"{shape}, {job['global_batch']} x {sequence_length:,} tokens per step\n{rows[0]['measured_on']}"
        )
        draw(rows, speed, title, figure)


if __name__ == "__main__":
    run(training)
