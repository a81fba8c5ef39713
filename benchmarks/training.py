"""Speed and memory of training, one change at a time from the paper's configuration to ours, and beside it
the Hugging Face Trainer on the same model and data.

A Llama with random weights trains on random tokens. Every run is a process of its own (or several of
torchrun): ours is scripts/train.py with a plan like any other. The systems take turns; the medians of the
repeats go into the table. A step lasts from the end of the one before it; the first steps are left out.

On a CPU that others use as well, wall time says little, so tokens per CPU second of a core are told too, and
the bars of the comparison are about these. With several processes, memory is the first one's, and the CPU
time of all is taken to be as much as the first one's for each.

Peak memory lasts until the last step ends, so that saving the model doesn't count: on a CPU it is resident
memory, of which `baseline_mb` was there before the model (Python, torch, transformers); on a GPU what torch
has allocated there. Weights, gradients and optimizer are what is held between the last step's backward pass
and its update. Logits, with all that the loss makes of them, are measured in a process that computes nothing
but head and loss of a micro-batch. Activations are all that is left of the peak.

MFU is the share of the peak speed that the model's own operations reach. The peak of a GPU is its data
sheet's. On a CPU both count per CPU second of a core: each run ends with float32 matrix products of 2,048^3
on the same number of threads, and the best of all runs is the peak.

Needs only torch, transformers and numpy. Systems that need more are left out where it isn't installed, and
so is the figure.
"""

import argparse
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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from cpt.command import command_parser, json_value, run
from cpt.errors import UserError
from cpt.files import read_json, write_json, write_text
from cpt.train.plan import make_plan

SHAPES = {
    "125m": (30, 576, 1536, 9, 3, 32_000),  # MobileLLM-125M
    "135m": (30, 576, 1536, 9, 3, 49_152),  # SmolLM2-135M
    "small": (8, 256, 688, 4, 2, 32_000),
}
SHAPE_KEYS = (
    *("num_hidden_layers", "hidden_size", "intermediate_size"),
    *("num_attention_heads", "num_key_value_heads", "vocab_size"),
)
# The `train` section of config.yaml, which can't be read without yaml; less what the options set, and with
# neither checkpoints nor, in the paper's configuration, lean or compiled layers.
SETTINGS = {
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.005,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "gradient_clip": 1.0,
    "document_masking": False,
    "selection": None,
    "l2_to_start": 0.0,
    "schedule": "cosine",
    "minimum_learning_rate": 0.0,
    "warmup": 0.1,
    "engine": "deepspeed",
    "zero_stage": 3,
    "offload": ["optimizer", "parameters"],
    "gradient_checkpointing": True,
    "lean_layers": False,
    "compile": False,
    "loss_kernel": "pytorch",
    "seed": 0,
    "checkpoint_every": 1_000_000,
    "keep_checkpoints": 1,
    "on_bad_step": "stop",
    "held_out": None,
}
# Each changes the one before it; the first is the paper's.
WATERFALL: list[tuple[str, dict[str, Any]]] = [
    ("ours-zero3-offload-checkpointing", {}),
    ("ours-checkpointing", {"engine": "ddp", "offload": []}),
    ("ours-ddp", {"gradient_checkpointing": False}),
    ("ours-lean", {"lean_layers": True}),
    ("ours-compiled", {"compile": True}),
    ("ours-liger", {"loss_kernel": "liger"}),
]
# lean_layers changes nothing on a GPU; on a CPU, compiling takes minutes and takes their place.
ON_ONE_KIND = {
    "ours-lean": "cpu",
    "ours-compiled": "cuda",
    "ours-liger": "cuda",
    "hf-trainer-onednn": "cpu",
}
# The last one has its float32 products computed by the library that computes ours.
TRAINER: dict[str, dict[str, bool]] = {
    "hf-trainer-checkpointing": {"gradient_checkpointing": True, "onednn": False},
    "hf-trainer": {"gradient_checkpointing": False, "onednn": False},
    "hf-trainer-onednn": {"gradient_checkpointing": False, "onednn": True},
}
SYSTEMS = [*(name for name, _ in WATERFALL), *TRAINER]
# Against the Trainer on a CPU at sequences of 2,000: at least so many times its speed, at most so much of
# its memory.
SPEED_BAR, MEMORY_BAR = 1.15, 0.60
PARTS = ("weights", "gradients", "optimizer")
OUT_OF_MEMORY = ("OutOfMemoryError", "out of memory", "can't allocate memory")


def settings_of(system: str, common: dict[str, Any]) -> dict[str, Any]:
    """The train settings of a system of ours: all changes up to its own."""
    settings = dict(common)
    for name, changes in WATERFALL:
        settings |= changes
        if name == system:
            return settings
    raise KeyError(system)


def missing_package(system: str, common: dict[str, Any]) -> str | None:
    """The package that a system needs and that isn't installed."""
    if system in TRAINER:
        needed = "accelerate"
    else:
        settings = settings_of(system, common)
        packages = {"engine": ("deepspeed", "deepspeed"), "loss_kernel": ("liger", "liger_kernel")}
        needed = next((name for key, (value, name) in packages.items() if settings[key] == value), None)
    return needed if needed and importlib.util.find_spec(needed) is None else None


def started(task: str, job: dict[str, Any], folder: Path) -> subprocess.CompletedProcess:
    """Run training_systems.py in processes of its own; its output goes to `log` in the folder."""
    write_json(folder / "job.json", job)
    command = [sys.executable]
    if task in ("ours", "hf") and job["processes"] > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(job["processes"])]
    command += [str(Path(__file__).with_name("training_systems.py")), task]
    environment = {"OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1"}
    with open(folder / "log", "w") as log:
        return subprocess.run(
            [*command, str(folder / "job.json"), str(folder)],
            stdout=log,
            stderr=log,
            env=os.environ | environment,
        )


def logits_megabytes(systems: list[str], job: dict[str, Any], folder: Path) -> dict[str, float]:
    """Peak memory of each system's loss of a micro-batch; systems of the same loss share a measurement.

    The Trainer's is 0 where memory isn't enough for it.
    """
    found: dict[str, float] = {}
    of_systems = {}
    for system in systems:
        settings = job["settings"] if system in TRAINER else settings_of(system, job["settings"])
        kind = "hf" if system in TRAINER else "ours"
        loss = f"{kind} {settings['compile']} {settings['loss_kernel']}"
        if loss not in found:
            failed = started(f"logits-{kind}", job | {"settings": settings}, folder).returncode
            if failed and kind == "ours":
                raise UserError(f"the loss couldn't be measured:\n{(folder / 'log').read_text()[-3000:]}")
            found[loss] = 0.0 if failed else read_json(folder / f"logits-{kind}.json")
        of_systems[system] = found[loss]
    return of_systems


def measured(system: str, job: dict[str, Any], root: Path) -> dict[str, Any] | None:
    """One run of a system; None if the memory wasn't enough for it.

    Raises UserError with the end of its output if it failed for another reason.
    """
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        if system in TRAINER:
            own = TRAINER[system]
        else:
            settings = settings_of(system, job["settings"])
            own = {"engine": settings["engine"]}
            ledger = read_json(Path(job["packed"]) / "ledger.json")
            budget, length = ledger["tokens"], ledger["sequence_length"]
            plan = make_plan("benchmark", budget, job["processes"], settings, ledger, length)
            write_json(folder / "plan.json", plan)
        done = started("hf" if system in TRAINER else "ours", job | own, folder)
        if done.returncode:
            log = (folder / "log").read_text(errors="replace")
            if done.returncode == -9 or any(message in log for message in OUT_OF_MEMORY):
                logging.warning("%s is left out: it needs more memory than there is", system)
                return None
            raise UserError(f"benchmark of {system} failed:\n{log[-3000:]}")
        return read_json(folder / "result.json")
    finally:
        shutil.rmtree(folder)


def row_of(
    system: str, runs: list[dict[str, Any]], job: dict[str, Any], peak: float | None, logits_mb: float
) -> dict[str, str | float]:
    """A system's line of the table: the medians of its runs. `peak` is in FLOP/s, None where not known."""
    tokens = job["global_batch"] * job["sequence_length"]
    cores = job["processes"]
    cpu = job["device"] == "cpu"

    def speed(one: dict[str, Any]) -> float:
        return tokens / (one["step_cpu_seconds"] * cores if cpu else one["step_seconds"] * cores)

    def median(values: list[float], digits: int) -> float:
        return round(statistics.median(values), digits)

    parts = {part: median([one["parts_mb"][part] for one in runs], 1) for part in PARTS}
    rest = [one["peak_mb"] - one["baseline_mb"] - sum(one["parts_mb"].values()) for one in runs]
    return {
        "system": system,
        "tokens_per_second": median([tokens / one["step_seconds"] for one in runs], 1),
        "tokens_per_cpu_second": median([speed(one) for one in runs], 1) if cpu else "",
        "mfu": median([speed(one) * one["flops_per_token"] / peak for one in runs], 4) if peak else "",
        "peak_memory_mb": median([one["peak_mb"] for one in runs], 1),
        "baseline_mb": median([one["baseline_mb"] for one in runs], 1),
        **{f"{part}_mb": size for part, size in parts.items()},
        "activations_mb": round(median(rest, 1) - logits_mb, 1),
        "logits_mb": round(logits_mb, 1),
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [list(rows[0]), ["---", *["---:"] * (len(rows[0]) - 1)]]
    lines += [[f"{value:,}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def log_ratios(rows: list[dict[str, Any]], device: str) -> None:
    """Log speed and peak memory of our systems against the Trainer's, beside the bars."""
    speed = "tokens_per_cpu_second" if device == "cpu" else "tokens_per_second"
    for other in (row for row in rows if row["system"] in TRAINER):
        for ours in (row for row in rows if row["system"] not in TRAINER):
            logging.info(
                "%s: %.2f times the %s of %s (bar: %.2f), %.0f %% of its peak memory (bar: %.0f %%)",
                *(ours["system"], ours[speed] / other[speed], speed, other["system"], SPEED_BAR),
                *(100 * ours["peak_memory_mb"] / other["peak_memory_mb"], 100 * MEMORY_BAR),
            )


def draw(rows: list[dict[str, Any]], device: str, title: str, outputs: list[Path]) -> None:
    """The waterfall. Bars of each system: speed on the left, peak memory split by part on the right."""
    from cpt.report import style

    speed = "tokens_per_cpu_second" if device == "cpu" else "tokens_per_second"
    colours = {
        "baseline_mb": "#bbbbbb",
        "weights_mb": style.BLUE,
        "gradients_mb": style.SKY,
        "optimizer_mb": style.PURPLE,
        "activations_mb": style.YELLOW,
        "logits_mb": style.ORANGE,
    }
    places = range(len(rows))
    with style.figure(height=1.15 + 0.27 * len(rows)) as drawn:
        left, right = drawn.subplots(1, 2, sharey=True)
        for place, row in zip(places, rows, strict=True):
            colour = style.GREY if row["system"] in TRAINER else style.GREEN
            left.barh(place, row[speed], 0.68, color=colour)
            left.text(row[speed], place, f" {row[speed]:,.0f}", va="center", fontsize=7.5)
            begin = 0.0
            for part, shade in colours.items():
                label = part.removesuffix("_mb").replace("baseline", "before the model")
                label = label if place == 0 else None
                # Where fragments are reused, what is left of the peak can come out just under 0.
                width = max(0.0, row[part])
                right.barh(place, width, 0.68, begin, color=shade, label=label)
                begin += width
            right.text(begin, place, f" {row['peak_memory_mb']:,.0f}", va="center", fontsize=7.5)
        left.set_yticks(list(places), [row["system"] for row in rows])
        left.invert_yaxis()
        left.set_xlabel("Tokens per CPU second" if device == "cpu" else "Tokens per second")
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
        for output in outputs:
            style.save(drawn, output.with_suffix(""), [output.suffix[1:]])


def main(arguments: argparse.Namespace) -> None:
    """Run all systems in turn, `repeats` times; write the table, log it, and draw it."""
    if arguments.warm_up_steps < 1 or arguments.steps < 1 or arguments.repeats < 1:
        raise UserError("--steps, --warm-up-steps and --repeats: 1 or more each")
    device = arguments.device or default_device()
    common = (
        SETTINGS
        | {
            "micro_batch": arguments.micro_batch,
            "accumulate": arguments.accumulate,
            "precision": "bf16" if device == "cuda" else "float32",
        }
        | arguments.settings
    )
    systems = []
    for system in arguments.systems or [name for name in SYSTEMS if ON_ONE_KIND.get(name, device) == device]:
        if missing := missing_package(system, common):
            logging.warning("%s is left out: it needs the package %s, which isn't installed", system, missing)
        else:
            systems.append(system)
    with tempfile.TemporaryDirectory(prefix="bench-training.") as temporary:
        root = Path(temporary)
        job = {
            "shape": dict(zip(SHAPE_KEYS, SHAPES[arguments.shape], strict=True)),
            "sequence_length": arguments.sequence_length,
            "settings": common,
            "global_batch": arguments.micro_batch * arguments.accumulate * arguments.processes,
            "steps": arguments.warm_up_steps + arguments.steps,
            "warm_up_steps": arguments.warm_up_steps,
            "processes": arguments.processes,
            "threads": arguments.threads,
            "device": device,
            "model": str(root / "model"),
            "packed": str(root / "packed"),
        }
        if started("prepare", job, root).returncode:
            raise UserError(f"model and data couldn't be made:\n{(root / 'log').read_text()[-3000:]}")
        logits_mb = logits_megabytes(systems, job, root)
        runs: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
        for repeat in range(arguments.repeats):
            for system in [name for name in systems if name in runs]:
                found = measured(system, job, root)
                if found is None:
                    del runs[system]
                    continue
                runs[system].append(found)
                logging.info("repeat %d, %s: %s", repeat + 1, system, json.dumps(found))
    if not runs:
        raise UserError("no system could be measured; the warnings above say why")
    peak = max(one["peak_flops"] or 0.0 for found in runs.values() for one in found)
    rows = [row_of(system, found, job, peak or None, logits_mb[system]) for system, found in runs.items()]
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(arguments.output, table.getvalue())
    title = (
        f"{arguments.shape}, {job['global_batch']} x {arguments.sequence_length:,} tokens per step, {device}"
    )
    logging.info("%s\n%s", title, markdown(rows))
    log_ratios(rows, device)
    if arguments.figure and importlib.util.find_spec("matplotlib") is None:
        logging.warning("no figure: it needs the package matplotlib, which isn't installed")
    elif arguments.figure:
        draw(rows, device, title, arguments.figure)


def default_device() -> str:
    """ "cuda" where there is a GPU; asked of another process, so that this one stays small."""
    code = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is a GPU")
    parser.add_argument("--sequence-length", type=int, default=2_000, help="tokens")
    parser.add_argument("--micro-batch", type=int, default=1, help="sequences per process and forward pass")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches per step and process")
    parser.add_argument("--steps", type=int, default=4, help="that are measured")
    parser.add_argument("--warm-up-steps", type=int, default=1, help="before them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="of every system; one per GPU")
    parser.add_argument("--threads", type=int, default=1, help="per process, on a CPU")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, help="default: all that fit the device")
    parser.add_argument("--settings", type=json_value, default={}, help="train settings for all of ours")
    parser.add_argument("--figure", type=Path, nargs="+", help="waterfall (.png, .pdf or .svg)")
    parser.add_argument("--output", type=Path, required=True, help="the table (.csv)")
    run(main, parser)
