"""The training loop, to be read from top to bottom."""

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM

from cpt.digest import settings_digest
from cpt.errors import UserError
from cpt.mixtures import PACKED_DIGESTS
from cpt.model_folders import weights_digest
from cpt.progress import Progress
from cpt.provenance import provenance
from cpt.sizes import MOMENTS_BYTES_PER_PARAMETER
from cpt.train import automatic, checkpoints, memory
from cpt.train.bad_steps import BadSteps
from cpt.train.batches import PackedSequences, micro_batches, on_device, rows_of_step
from cpt.train.continuation import load_optimizer, save_optimizer, save_points
from cpt.train.dropout import dropout_of, warn_of_dropout
from cpt.train.engines import make_engine
from cpt.train.flops import flops_per_token
from cpt.train.memory import chosen_micro_batch
from cpt.train.metrics import MetricsFile, peak_flops, peak_memory_mb
from cpt.train.precision import chosen_precision
from cpt.train.processes import (
    EXIT_INTERRUPTED,
    Interruption,
    end_at_once,
    lock,
    start_processes,
    wait_for_first,
)
from cpt.train.results import save_model
from cpt.train.schedules import learning_rate
from cpt.train.selection import SelectiveSequences
from cpt.train.set_aside import Identity
from cpt.train.validation import HeldOutLosses


def train(
    plan: dict[str, Any],
    model_folder: Path,
    sequences_folders: Sequence[Path],
    work: Path,
    kind: str,
    held_out: dict[str, Path] | None = None,
    keep_optimizer: bool = False,
    reference_losses: Sequence[Path] = (),
) -> dict[str, Any] | None:
    """Train as planned, resuming from the newest checkpoint in `work`.

    Args:
        plan: plan.json of the run (cpt.train.plan_run).
        model_folder: Hugging Face folder that training starts from.
        sequences_folders: the packed mixture of each of the plan's stages.
        work: for checkpoints, metrics.csv, held_out.csv, held_out_documents.csv and the final `model` folder.
        kind: of device, "cuda" or "cpu".
        held_out: held-out tokens (.npz) by corpus; the plan says when to measure on them.
        keep_optimizer: leave AdamW's moments in the model's folder, for a run that continues this one.
        reference_losses: of each mixture, if the plan trains on selected targets (cpt.train.selection).

    Returns:
        On rank 0 the summary for run.json, else None. Exits with EXIT_INTERRUPTED after SIGTERM or
        SIGUSR1, once a checkpoint is written.

    Raises:
        UserError: no GPU, no memory, a work folder that can't be written, packed data that changed since
            planning, no optimizer state to continue from, or a loss or gradient that isn't finite.
    """
    began = time.monotonic()
    interruption = Interruption()
    settings = plan["learning"] | plan["execution"]
    rank, world_size, device = start_processes(settings["engine"], kind)
    first = rank == 0
    held = lock(work, lambda: interruption.noticed) if first else None  # noqa: F841 (until the process ends)
    automatic.resolve(settings, device, work)

    packed = open_sequences(settings, sequences_folders, reference_losses)
    for folder, sequences, stage in zip(sequences_folders, packed, plan["stages"], strict=True):
        if any(sequences.ledger.get(digest) != stage.get(digest) for digest in PACKED_DIGESTS):
            raise UserError(f"{folder}: packed again since {plan['run']} was planned; plan the run again")
    learned = {key: value for key, value in plan.items() if key not in ("execution", "kept")}
    kept = set(plan.get("kept", {}).values())
    files = [weights_digest(model_folder)[:16]]
    files += [sequences.reference["losses_sha256"][:16] for sequences in packed if sequences.reference]
    digest = "-".join([settings_digest(learned), *files])
    identity = Identity(digest, learned | {"start_model_and_reference_losses": files})

    # Start from the model (with the moments of the run that it continues) or from the newest checkpoint.
    torch.manual_seed(settings["seed"])
    checkpoint_root = work / "checkpoints"
    checkpoint = checkpoints.newest(checkpoint_root, identity, kept) if first else None
    if world_size > 1:
        shared = [checkpoint]
        dist.broadcast_object_list(shared, src=0)
        checkpoint = shared[0]
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    model.train()
    dropout = dropout_of(model.config)
    if first:
        warn_of_dropout(dropout)
    settings["precision"] = chosen_precision(plan, model, work, device, rank)
    pull = settings.get("l2_to_start", 0.0)
    start = {name: p.detach().clone() for name, p in model.named_parameters()} if pull else {}
    weights, moments, steps_done, earlier_updates = {}, {}, 0, 0
    if plan["continues"]:
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        moments, earlier_updates = load_optimizer(model_folder, settings["moments"])
    updates = earlier_updates
    if checkpoint is not None:
        state, weights, moments = checkpoints.load(checkpoint)
        steps_done, updates = state["step"], state["updates"]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        logging.info("continuing after step %d from %s", steps_done, checkpoint)
    parameters = sum(p.numel() for p in model.parameters())
    out_of_memory_explained = partial(memory.explain_memory_errors, plan, settings, rank, world_size, device)
    with out_of_memory_explained():
        engine = make_engine(model, settings, device, world_size)
        if moments:
            engine.load(weights, moments, updates)
        if pull:
            engine.pull_to(start, pull)
    del weights, moments, start
    if settings["micro_batch"] == "auto":

        def trial(size: int) -> None:
            batch = packed[0].batch(np.zeros(size, np.int64), np.ones(size, np.float32))
            engine.trial(*on_device(batch, device))

        moment_bytes = MOMENTS_BYTES_PER_PARAMETER[settings["moments"]] * parameters
        settings["micro_batch"] = chosen_micro_batch(work, plan, trial, moment_bytes, world_size, device)

    flops = flops_per_token(model.config, parameters, plan["sequence_length"])
    peak = peak_flops(device)
    metrics = MetricsFile(work / "metrics.csv", steps_done) if first else None
    micro_batch = settings["micro_batch"]
    curves = (work / "held_out.csv", work / "held_out_documents.csv")
    held_out_losses = HeldOutLosses(
        held_out or {}, plan, micro_batch, engine, model, device, *curves, steps_done
    )
    steps = plan["steps"]
    earlier = [rows_of_step(step, plan) for step in range(steps_done)]
    tokens_done = tokens_before = sum(packed[stage].tokens(rows) for stage, rows in earlier)
    final_loss = None
    bad_steps = BadSteps(plan["run"], settings["on_bad_step"] == "skip", writes_warnings=first)
    writer = (
        checkpoints.Writer(checkpoint_root, identity, settings["keep_checkpoints"], checkpoint, kept)
        if first
        else None
    )
    progress = Progress(f"train {plan['run']}", total=steps, unit="step", done=steps_done)

    with out_of_memory_explained(), writer or nullcontext(), progress:
        if steps_done == 0:
            held_out_losses.after(0, 0, 0)
        for step in range(steps_done, steps):
            step_began = time.monotonic()

            # Batch, forward, loss, backward: micro-batch by micro-batch. Random numbers (dropout's) are a
            # function of the step too, counted from the start of the first run of a chain.
            number_of_step = (settings["seed"] << 32) + plan.get("steps_before", 0) + step
            torch.manual_seed((number_of_step * world_size + rank) % 2**63)
            stage, rows = rows_of_step(step, plan)
            tokens, targets = packed[stage].tokens(rows), packed[stage].targets(rows)
            selected = packed[stage].selected(rows)  # targets to train on: all, or a share
            micros = list(micro_batches(rows, rank, world_size, micro_batch))
            loss_sums = torch.zeros(2, device=device)
            for number, (numbers, weights) in enumerate(micros):
                batch = packed[stage].batch(numbers, weights)
                last = number == len(micros) - 1
                losses = engine.loss(*on_device(batch, device), last=last).expand(2)
                engine.backward(losses[0] / max(1, selected))
                loss_sums += losses.detach()

            # Clip, step, schedule. So far a GPU only received work; reading the norm waits until it is done.
            rate = learning_rate(step, plan)
            if step + 1 == steps:
                held_bytes = engine.held_bytes()
            gradient_norm = engine.step(rate)

            # Bad steps stop the run or are skipped.
            if world_size > 1:
                dist.all_reduce(loss_sums)
            selected_loss = loss_sums[0].item() / max(1, selected)
            loss_value = loss_sums[1].item() / max(1, targets)
            skipped = bad_steps.is_bad(step + 1, rows, sequences_folders[stage], loss_value, gradient_norm)
            if not skipped:
                updates += 1
                final_loss = loss_value

            # Log.
            seconds = time.monotonic() - step_began
            tokens_per_second = tokens / seconds
            tokens_done += tokens
            utilization = tokens_per_second * flops / (peak * world_size) if peak else None
            if metrics is not None:
                metrics.write(
                    step=step + 1,
                    tokens=tokens_done,
                    loss=loss_value,
                    learning_rate=rate,
                    gradient_norm=gradient_norm,
                    tokens_per_second=round(tokens_per_second, 1),
                    model_flops_utilization=utilization and round(utilization, 4),
                    peak_memory_mb=round(peak_memory_mb(device), 1),
                    skipped=int(skipped),
                    selected_loss=selected_loss if packed[stage].reference else None,
                )
            figures = {"loss": f"{loss_value:.3f}", "tokens/s": f"{tokens_per_second:,.0f}"}
            if utilization is not None:
                figures["MFU"] = f"{utilization:.1%}"
            progress.note(figures | {"memory": f"{peak_memory_mb(device) / 1e3:.1f} GB"})
            progress.advance()
            held_out_losses.after(step + 1, tokens_done - tokens, tokens_done)

            # Checkpoint. If the first process waits for the write before, the others wait for it here.
            due = (step + 1) % settings["checkpoint_every"] == 0 or step + 1 in kept
            due &= step + 1 < steps
            since = time.monotonic()
            if due and writer is not None:
                writer.wait_turn(step + 1)
            stop = interruption.on_any_process(device) and step + 1 < steps
            if step + 1 in kept and not updates:
                raise UserError(
                    f"runs.{plan['run']}.keep_every: there is no state to keep after step {step + 1}, as no "
                    "step before made an update; check the model and these rows, or raise keep_every"
                )
            if (stop or due) and updates:
                state = engine.state()
                if writer is not None:
                    writer.write(step + 1, updates, *state, since)
                del state  # only the writer holds it now
            if writer is not None:
                writer.check()
            if stop:
                if writer is not None:
                    writer.wait()
                    kept = writer.good.name if writer.good else "none"
                    logging.warning(
                        "interrupted after step %d; newest checkpoint: %s; start again to resume",
                        step + 1,
                        kept,
                    )
                wait_for_first()
                end_at_once(EXIT_INTERRUPTED)
                sys.exit(EXIT_INTERRUPTED)

    training_seconds = time.monotonic() - progress.start - held_out_losses.seconds
    weights, moments = engine.state()
    if not first:
        return None
    metrics.close()
    held_out_losses.close()
    with_room = partial(checkpoints.with_room, checkpoint_root, kept=kept)
    with_room(lambda: save_model(weights, model_folder, work / "model"))
    if keep_optimizer:
        save_optimizer(work / "model", moments, updates)
    with_room(lambda: save_points(plan, checkpoint_root, model_folder, work / "model"))
    wall_seconds = time.monotonic() - began
    session_tokens = tokens_done - tokens_before
    return {
        "run": plan["run"],
        "tokens": tokens_done,
        "padding_tokens": plan["tokens"] - tokens_done,
        **{
            key: plan[key]
            for key in ("stages", "sequences", "sequence_length", "global_batch", "steps", "warmup_steps")
        },
        "processes": world_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "engine": settings["engine"],
        "settings": settings,
        "dropout": dropout,
        "parameters": parameters,
        "tokens_per_parameter": tokens_done / parameters,
        "flops_per_token": flops,
        "flops_formula": "6 N + 6 L d S (causal attention)",
        "peak_flops_per_process": peak,
        "final_loss": final_loss,
        "skipped_steps": steps - (updates - earlier_updates),
        "checkpoints": writer.summary(),
        "resumed_after_step": steps_done or None,
        "tokens_this_session": session_tokens,
        "wall_seconds": round(wall_seconds, 1),
        "held_out_seconds": round(held_out_losses.seconds, 1),
        "tokens_per_second": round(session_tokens / training_seconds, 1),
        "peak_memory_mb": round(peak_memory_mb(device), 1),
        "held_bytes": held_bytes,
        "provenance": provenance(plan, {"train": settings["seed"]}),
    }


def open_sequences(
    settings: dict[str, Any], folders: Sequence[Path], reference_losses: Sequence[Path]
) -> list[PackedSequences]:
    """Open the packed mixtures, with the reference's losses if only a part of the targets is trained on.

    Raises UserError if the losses are missing or belong to other mixtures.
    """
    masking, selection = settings["document_masking"], settings.get("selection")
    if selection is None:
        return [PackedSequences(folder, masking) for folder in folders]
    if len(reference_losses) != len(folders):
        raise UserError(
            f"train.selection: the reference's losses are needed for each of {len(folders)} mixture(s), and "
            f"{len(reference_losses)} were given; name their folders after --reference-losses"
        )
    return [
        SelectiveSequences(folder, masking, losses, selection["share"])
        for folder, losses in zip(folders, reference_losses, strict=True)
    ]
