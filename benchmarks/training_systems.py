import os
import resource
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cpt.command import run
from cpt.cpu import processor, set_up_products
from cpt.files import read_json, sha256_of, write_json
from cpt.train.flops import flops_per_token
from cpt.train.metrics import MetricsFile, peak_flops
from cpt.train.moments import MOMENTS
from cpt.train.optimizer import bytes_by_device

MATRIX = 2048  # rows and columns of the product that gives a CPU's peak


def status_megabytes(key: str) -> float:
    """Returns VmRSS (memory now) or VmHWM (peak so far) of this process in MB (10^6 bytes).

    getrusage's peak would be wrong: a process inherits it from the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e6
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


class Meter:
    """Notes when a run's steps end, and the peak memory until the last of them."""

    def __init__(self, device: torch.device):
        self.device = device
        self.baseline_mb = 0.0 if device.type == "cuda" else status_megabytes("VmRSS")
        self.peak_mb = 0.0
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def step_ends(self) -> None:
        """Note the end of a step: call it after the step's work, which it waits for on a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            self.peak_mb = torch.cuda.max_memory_allocated() / 1e6
        else:
            self.peak_mb = status_megabytes("VmHWM")
        self.wall.append(time.monotonic())
        self.cpu.append(time.process_time())

    def write(
        self, file: Path, held: dict[str, dict[str, int]], flops: float, warm_up: int, precision: str
    ) -> None:
        """Write what training.py reads. `held` is as Engine.held_bytes gives it, `flops` are per token."""
        cuda = self.device.type == "cuda"
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        result = {
            "precision": precision,
            "measured_on": torch.cuda.get_device_name(self.device) if cuda else processor(),
            "step_seconds": statistics.median(np.diff(self.wall[warm_up - 1 :])),
            "step_cpu_seconds": statistics.median(np.diff(self.cpu[warm_up - 1 :])),
            "peak_mb": self.peak_mb,
            "baseline_mb": self.baseline_mb,
            "parts_mb": {part: held[part].get(self.device.type, 0) / 1e6 for part in held},
            "flops_per_token": flops,
            "peak_flops": peak_flops(self.device) if cuda else matmul_flops(dtype),
        }
        if os.environ.get("RANK", "0") == "0":
            write_json(file, result)


def matmul_flops(dtype: torch.dtype) -> float:
    """Returns matrix products' FLOPs per CPU second: the median of 5, on torch's number of threads."""
    left, right = torch.rand(MATRIX, MATRIX).to(dtype), torch.rand(MATRIX, MATRIX).to(dtype)
    seconds = []
    for _ in range(6):
        began = time.process_time()
        left @ right
        seconds.append(time.process_time() - began)
    return 2 * MATRIX**3 / statistics.median(seconds[1:])


def prepare(job: dict[str, Any], folder: Path) -> None:
    """Write a Llama with random weights and as many packed sequences of random tokens as a run reads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, length = job["shape"], job["sequence_length"]
    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=max(2048, length), tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    packed = folder / "packed"
    packed.mkdir()
    count = job["global_batch"] * job["steps"]
    rows = np.random.default_rng(0).integers(0, shape["vocab_size"], (count, length)).astype(np.uint16)
    rows.tofile(packed / "sequences.bin")
    np.save(packed / "boundaries.npy", np.zeros(count, np.uint32))
    np.save(packed / "boundary_offsets.npy", np.arange(count + 1, dtype=np.uint64))
    np.save(packed / "lengths.npy", np.full(count, length, np.uint32))
    ledger = {
        "mixture": "random",
        "dtype": "uint16",
        "sequences": count,
        "sequence_length": length,
        "tokens": rows.size,
        "sequences_sha256": sha256_of(packed / "sequences.bin"),
    }
    write_json(packed / "ledger.json", ledger)


def ours(job: dict[str, Any], folder: Path, device: torch.device) -> None:
    """Run scripts/train.py itself; a step ends with its row of metrics.csv."""
    import transformers.models.llama.modeling_llama  # noqa: F401 (counts as memory before the model)

    from cpt.train.deepspeed_engine import import_deepspeed
    from train import train

    if job["settings"]["engine"] == "deepspeed":
        import_deepspeed(device)
    meter = Meter(device)
    write = MetricsFile.write

    def clocked(file: MetricsFile, **values: float | None) -> None:
        write(file, **values)
        meter.step_ends()

    MetricsFile.write = clocked
    # Training sets one thread per process on a CPU; here it gets as many as the Trainer.
    torch.set_num_threads = lambda _: None
    train(
        plan=folder / "plan.json",
        packed=[Path(job["packed"])],
        start=Path(job["model"]),
        work=folder / "work",
        model=folder / "trained",
        metrics=folder / "metrics.csv",
        held_out_losses=folder / "held_out.csv",
        document_losses=folder / "held_out_documents.csv",
        summary=folder / "run.json",
        device=device.type,
    )
    if os.environ.get("RANK", "0") == "0":
        summary = read_json(folder / "run.json")
        held, flops = summary["held_bytes"], summary["flops_per_token"]
        precision = summary["settings"]["precision"]
        meter.write(folder / "result.json", held, flops, job["warm_up_steps"], precision)


def hugging_face(job: dict[str, Any], folder: Path, device: torch.device) -> None:
    """Run the Trainer on the same model, rows, optimizer and precision, without saves, logs or reports."""
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    if job["system"].endswith("onednn"):
        set_up_products()
    meter = Meter(device)
    settings, length = job["settings"], job["sequence_length"]
    rows = np.memmap(Path(job["packed"]) / "sequences.bin", np.uint16, "r").reshape(-1, length)
    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=torch.float32, attn_implementation="sdpa"
    )
    held = {}

    class Clock(TrainerCallback):
        """Notes the bytes held before the last update, and the ends of steps."""

        def on_pre_optimizer_step(self, args, state, control, optimizer=None, **_: Any) -> None:
            if state.global_step + 1 == state.max_steps:
                held.update(trainer_bytes(model.parameters(), optimizer))

        def on_step_end(self, args, state, control, **_: Any) -> None:
            meter.step_ends()

    training_arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=settings["micro_batch"],
        gradient_accumulation_steps=settings["accumulate"],
        max_steps=job["steps"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        adam_beta1=settings["beta1"],
        adam_beta2=settings["beta2"],
        adam_epsilon=settings["epsilon"],
        max_grad_norm=settings["gradient_clip"],
        lr_scheduler_type="cosine",
        warmup_steps=1,
        optim="adamw_torch_fused",
        gradient_checkpointing=settings["gradient_checkpointing"],
        gradient_checkpointing_kwargs={"use_reentrant": False},
        bf16=settings["precision"] == "bf16",
        use_cpu=device.type == "cpu",
        ddp_backend=("gloo" if device.type == "cpu" else "nccl") if job["processes"] > 1 else None,
        dataloader_pin_memory=device.type == "cuda",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    Trainer(model=model, args=training_arguments, train_dataset=PackedRows(rows), callbacks=[Clock()]).train()
    flops = flops_per_token(model.config, sum(p.numel() for p in model.parameters()), length)
    meter.write(folder / "result.json", held, flops, job["warm_up_steps"], settings["precision"])


def logits_megabytes(job: dict[str, Any], device: torch.device) -> float:
    """Returns the peak memory (MB) of head and loss of a micro-batch, less the gradients that they leave."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    from cpt.train.losses import HeadLoss
    from cpt.train.softmax import chosen_softmax

    width, vocabulary = job["shape"]["hidden_size"], job["shape"]["vocab_size"]
    sequences, length = job["settings"]["micro_batch"], job["sequence_length"]
    hidden = torch.randn(sequences, length, width, device=device, requires_grad=True)
    head = torch.nn.Linear(width, vocabulary, bias=False, device=device)
    ids = torch.randint(0, vocabulary, (sequences, length), device=device)
    weights = torch.ones(sequences * (length - 1), device=device)
    cuda = device.type == "cuda"
    before = torch.cuda.memory_allocated() / 1e6 if cuda else status_megabytes("VmRSS")
    with torch.autocast(device.type, torch.bfloat16, enabled=job["settings"]["precision"] == "bf16"):
        if job["system"].startswith("hf-"):
            loss = ForCausalLMLoss(head(hidden), ids, vocabulary)
        else:
            head_loss = HeadLoss(head, chosen_softmax(job["settings"], device))
            loss = head_loss(hidden[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), weights)
    loss.backward()
    peak = torch.cuda.max_memory_allocated() / 1e6 if cuda else status_megabytes("VmHWM")
    gradients = sum(tensor.grad.nbytes for tensor in (hidden, head.weight)) / 1e6
    return max(0.0, peak - before - gradients)


class PackedRows(torch.utils.data.Dataset):
    """Packed rows for the Trainer: token ids, and the same ids as labels (the model shifts them)."""

    def __init__(self, rows: np.ndarray):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self.rows[number].astype(np.int64))
        return {"input_ids": ids, "labels": ids.clone()}


def trainer_bytes(parameters: Iterable[torch.nn.Parameter], optimizer: Any) -> dict[str, dict[str, int]]:
    """Returns the same as Engine.held_bytes; `optimizer` is accelerate's wrapper of AdamW."""
    parameters = list(parameters)
    states = optimizer.optimizer.state.values()
    return {
        "weights": bytes_by_device(parameters),
        "gradients": bytes_by_device(p.grad for p in parameters if p.grad is not None),
        "optimizer": bytes_by_device(state[key] for state in states for key in MOMENTS),
    }


def training_systems(task: Literal["prepare", "train", "logits"], job: Path, folder: Path) -> None:
    """Run one system of training.py in this process, or in one of several that torchrun started.

    Needs only torch, transformers and numpy, and the packages of the system itself.

    Args:
        task: `prepare` model and data, `train` the system, or measure the memory of its loss (`logits`).
        job: what to run, written by training.py (JSON).
        folder: folder for results; training reads plan.json there.
    """
    todo = read_json(job)
    torch.set_num_threads(todo["threads"])
    device = torch.device("cpu")
    if todo["device"] == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if task == "prepare":
        prepare(todo, folder)
    elif task == "logits":
        write_json(folder / "logits.json", logits_megabytes(todo, device))
    elif todo["system"].startswith("hf-"):
        hugging_face(todo, folder, device)
    else:
        ours(todo, folder, device)


if __name__ == "__main__":
    run(training_systems)
