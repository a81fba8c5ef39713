"""The plan of a whole experiment as a page: tokens, steps, time, memory, disk, and what looks wrong.

It needs only the config. What isn't known before the downloads is marked as unknown.
"""

import math
from fractions import Fraction
from typing import Any

from cpt import sizes
from cpt.config import Config
from cpt.train import costs
from cpt.train.assumptions import ASSUMPTIONS
from cpt.train.costs import Shape
from cpt.train.plan_checks import access_warnings, gpu_warnings, rate_warnings, scoring_hours
from cpt.train.plan_run import global_batch, phases
from cpt.train.plan_text import count, in_gigabytes, table
from cpt.train.recommendation import FILLED, GPU_GIGABYTES, Setting, recommended

FEW_STEPS = 50  # a shorter schedule is mostly warmup and rounding
COMMON_GIGABYTES, SMALL_GIGABYTES = 80, 24  # an A100's or H100's, and an RTX 4090's


class ExperimentPlan:
    """What an experiment needs: tokens, steps, time, memory and disk.

    Args:
        config: validated.
        shape: of the base model; None: not known yet.
        local_bytes: bytes of the files on this disk, for each corpus of kind `local`.
        adds_bos: whether BOS precedes each document; None: not known yet.
        gpus: number on this machine; None: not checked.
        cluster: whether this machine has Slurm.
    """

    def __init__(
        self,
        config: Config,
        shape: Shape | None,
        local_bytes: dict[str, int],
        adds_bos: bool | None = None,
        gpus: int | None = None,
        cluster: bool = False,
    ):
        self.gpus, self.cluster = gpus, cluster
        self.config, self.shape, self.adds_bos = config, shape, adds_bos
        self.local_bytes = local_bytes
        self.length = config.packing.sequence_length
        self.train = {run: config.train_settings(run) for run in config.trained_runs}

    # ------------------------------------------------------------------------------------------ runs
    def global_batch(self, run: str) -> int:
        """Sequences per step."""
        return global_batch(self.train[run], self.config.runs[run].processes)

    def steps(self, run: str) -> int:
        """Steps of a run."""
        return math.ceil(self.config.runs[run].tokens // self.length / self.global_batch(run))

    def micro_batch(self, run: str) -> int:
        """Sequences per process and pass; with `auto`, the most that may be chosen."""
        share = math.ceil(self.global_batch(run) / self.config.runs[run].processes)
        setting = self.train[run].micro_batch
        return share if setting == "auto" else min(setting, share)

    def hours(self, run: str, speed: costs.Speed | None = None) -> float | None:
        """Device-hours of a run at `speed`, or at the speed closest to its settings; None: not known."""
        if self.shape is None:
            return None
        train, settings = self.train[run], self.config.runs[run]
        speed = speed or costs.speed_of(train.offload, bool(settings.gpus))
        checkpointing = train.gradient_checkpointing
        return speed.hours(settings.tokens, self.shape, self.length, checkpointing)

    def memory(self, run: str, engine: str, zero_stage: int, offload: list[str]) -> dict[str, float]:
        """Bytes of one process: by part, `gpu` (all that isn't offloaded) and `cpu` (offloaded)."""
        train, settings = self.train[run], self.config.runs[run]
        moments = "float32" if engine == "deepspeed" else train.moments
        state = costs.state_bytes(
            self.shape, engine, zero_stage, offload, settings.processes, train.precision, moments
        )
        step = costs.step_bytes(
            self.shape,
            self.micro_batch(run),
            self.length,
            train.gradient_checkpointing,
            train.precision,
            bool(settings.gpus),
        )
        total = state["gpu"] + sum(step.values())
        return {"state": state["gpu"], **step, "gpu": total, "cpu": state["cpu"]}

    def recommended(self, run: str, gigabytes: float) -> Setting | None:
        """The fastest setting for a run that fits on GPUs of this size, with the same sequences per step."""
        processes = self.config.runs[run].processes
        share = math.ceil(self.global_batch(run) / processes)
        precision = self.train[run].precision
        return recommended(self.shape, gigabytes * 1e9, share, self.length, processes, precision)

    def _own_engine(self, run: str) -> tuple[str, int, list[str]]:
        train = self.train[run]
        stage = train.zero_stage if train.engine == "deepspeed" else 0
        return train.engine, stage, sorted(train.offload)

    # ---------------------------------------------------------------------------------------- corpora
    def estimate(self, corpus: str) -> float | None:
        """Expected training tokens of a corpus; None: not known."""
        source = self.config.corpora[corpus]
        if source.source == "hub" and source.tokens_per_shard:
            return float(source.tokens_per_shard * self.config.shards_of(corpus))
        if self.local_bytes.get(corpus):
            return self.local_bytes[corpus] / sizes.TEXT_BYTES_PER_TOKEN
        return None

    def needs(self) -> dict[str, tuple[float, str]]:
        """For each training corpus, the most tokens of it that one run reads, and that run."""
        needs: dict[str, tuple[float, str]] = {}
        for run in self.config.trained_runs:
            for mixture, tokens in self.config.reach_of(run).items():
                for corpus, share in self.config.mixtures[mixture].items():
                    need = float(tokens * Fraction(str(share)))
                    if need > needs.get(corpus, (0.0, ""))[0]:
                        needs[corpus] = (need, run)
        return needs

    def disk(self) -> dict[str, float | None]:
        """Bytes by kind of file; None: not known."""
        config, shape = self.config, self.shape
        tokens = [self.estimate(corpus) for corpus in config.used_corpora]
        corpus_tokens = sum(estimate for estimate in tokens if estimate)
        downloaded = [
            self.estimate(corpus) or 0.0
            for corpus in config.used_corpora
            if config.corpora[corpus].source == "hub"
        ]
        size = sizes.token_bytes(shape.vocab_size if shape else None)
        packed = sum(
            sum(self.estimate(corpus) or 0.0 for corpus in config.mixtures[mixture])
            for mixture in {name for run in config.trained_runs for name in config.mixtures_of(run)}
        )
        models = sizes.MODEL_BYTES_PER_PARAMETER * (len(config.merged_runs) + 1)
        checkpoints = 0  # of the largest run, without its model
        for run, train in self.train.items():
            states = sizes.kept_states(config.runs[run].tokens, config.runs[run].keep_every)
            model = sizes.model_bytes_per_parameter(train.moments, states)
            most = sizes.training_bytes_per_parameter(train.moments, train.keep_checkpoints, states)
            models, checkpoints = models + model, max(checkpoints, most - model)
        return {
            "downloads": sum(downloaded) * sizes.PARQUET_BYTES_PER_TOKEN,
            "kept text": corpus_tokens * sizes.PARQUET_BYTES_PER_TOKEN,
            "token ids": (corpus_tokens + packed) * size,
            "checkpoints, per run under way": float(checkpoints * shape.parameters) if shape else None,
            "models": float(models * shape.parameters) if shape else None,
        }

    # --------------------------------------------------------------------------------------- warnings
    def warnings(self) -> list[str]:
        """Everything that looks wrong, each with the key to change."""
        messages = []
        for corpus, (need, run) in self.needs().items():
            estimate, epochs = self.estimate(corpus), self.config.packing.maximum_epochs
            if estimate is not None and need > estimate * epochs:
                messages.append(
                    f"runs.{run}.tokens: it takes {count(need)} tokens of {corpus}, which is expected to "
                    f"have {count(estimate)}{f' in each of {epochs} epochs' if epochs > 1 else ''}; lower "
                    f"the budget, give the corpus more text (corpora.{corpus}.shards or files), or raise "
                    "packing.maximum_epochs"
                )
        if self.shape and (problem := sizes.over_context(self.length, self.shape.max_position_embeddings)):
            messages.append(problem)
        scored = self.config.evaluate.add_bos_token
        if self.adds_bos is not None and self.adds_bos != scored:
            messages.append(
                f"evaluate.add_bos_token: {str(scored).lower()}, but documents are trained on "
                f"{'with' if self.adds_bos else 'without'} BOS before them (packing.add_bos); scores are "
                "comparable with published ones only if those were measured so"
            )
        messages += access_warnings(self.config) + rate_warnings(self.train)
        if self.gpus is not None:
            messages += gpu_warnings(self.config, self.gpus, self.cluster)
        for run in self.config.trained_runs:
            messages += self._warnings_of(run)
        return messages + self._unlike_batches()

    def _warnings_of(self, run: str) -> list[str]:
        messages, steps, batch = [], self.steps(run), self.global_batch(run)
        train, settings = self.train[run], self.config.runs[run]
        planned = phases(train, steps)
        if settings.tokens // self.length < batch:
            messages.append(
                f"runs.{run}.tokens: {count(settings.tokens)} don't fill one global batch of {batch} "
                f"sequences ({count(batch * self.length)} tokens); raise tokens or lower train.global_batch"
            )
        elif steps < FEW_STEPS:
            messages.append(
                f"runs.{run}: {steps} steps are few for a learning-rate schedule; lower train.global_batch "
                f"({batch} sequences) or raise tokens"
            )
        if planned["warmup_steps"] and planned["warmup_steps"] * 2 > steps:
            messages.append(
                f"runs.{run}.train.warmup: {planned['warmup_steps']} of {steps} steps are warmup; lower it"
            )
        if batch % settings.processes:
            messages.append(
                f"runs.{run}: {batch} sequences per step can't be dealt out evenly over {settings.processes} "
                "processes, so some wait; set train.global_batch to a multiple"
            )
        if self.shape is not None and settings.gpus:
            messages += self._warnings_of_memory(run)
        return messages

    def _warnings_of_memory(self, run: str) -> list[str]:
        total = self.memory(run, *self._own_engine(run))["gpu"]
        if total > FILLED * COMMON_GIGABYTES * 1e9:
            better = self.recommended(run, COMMON_GIGABYTES)
            instead = (
                f"with runs.{run}.train: {better.keys(self.global_batch(run))} they would be "
                f"{in_gigabytes(better.gpu_bytes)}"
                if better
                else "and no engine fits; take more GPUs, or lower packing.sequence_length"
            )
            return [
                f"runs.{run}.train.micro_batch: about {in_gigabytes(total)} GB per GPU are expected, and an "
                f"A100 or H100 has {COMMON_GIGABYTES}; {instead}"
            ]
        train, least = self.train[run], self.recommended(run, SMALL_GIGABYTES)
        whole = train.gradient_checkpointing is True
        if train.engine == "ddp" and whole and least and not least.checkpointing:
            return [
                f"runs.{run}.train.gradient_checkpointing: its second forward pass costs about a quarter of "
                f"the speed, and without it a GPU of {SMALL_GIGABYTES} GB has room for micro_batch: "
                f"{least.micro_batch}; set it to false, with the micro_batch that plan.md recommends"
            ]
        return []

    def _unlike_batches(self) -> list[str]:
        batches = {run: self.global_batch(run) for run in self.config.trained_runs}
        if len(set(batches.values())) < 2:
            return []
        listed = ", ".join(f"{run} {batch}" for run, batch in batches.items())
        return [
            f"train.global_batch: runs to be compared have steps of different size ({listed} sequences), so "
            "they differ in more than their budget; set it (the paper's runs do differ so)"
        ]

    # ------------------------------------------------------------------------------------------- page
    def markdown(self) -> str:
        """The page, as Markdown."""
        config, shape = self.config, self.shape
        name = getattr(config.base, "repo", None) or config.base.label or config.base.source
        size = (
            f"{count(shape.parameters)} parameters, {shape.num_hidden_layers} layers of width "
            f"{shape.hidden_size}"
            if shape
            else "its size isn't known: ask for the plan again once it is imported "
            f"({config.results}/models/base.json)"
        )
        bos = {None: "as the base model was trained, which its import finds out", True: "yes", False: "no"}
        lines = [f"# Plan of {config.name}", "", f"Base model: {name}; {size}.", ""]
        lines += [f"BOS before each document: {bos[self.adds_bos]}.", "", "## Warnings", ""]
        lines += [f"- {warning}" for warning in self.warnings()] or ["None."]
        lines += ["", "## Runs", "", *self._runs(), *self._corpora(), *self._engines()]
        lines += [*self._recommended(), *self._disk()]
        return "\n".join([*lines, "## Assumptions", "", ASSUMPTIONS])

    def _runs(self) -> list[str]:
        rows, total = [], {"GPU": 0.0, "CPU": 0.0}
        for run in self.config.trained_runs:
            settings, hours = self.config.runs[run], self.hours(run)
            device = "GPU" if settings.gpus else "CPU"
            total[device] += hours or 0.0
            rows.append(
                [
                    run,
                    count(settings.tokens),
                    count(settings.tokens / self.shape.parameters) if self.shape else "?",
                    f"{self.global_batch(run)} ({count(self.global_batch(run) * self.length)})",
                    str(self.steps(run)),
                    str(phases(self.train[run], self.steps(run))["warmup_steps"]),
                    f"{settings.processes} {device}",
                    "?" if hours is None else f"{hours:.3g}",
                    "?" if hours is None else f"{hours / settings.processes:.3g}",
                ]
            )
        columns = ["run", "tokens", "tokens per parameter", "sequences (tokens) per step", "steps", "warmup"]
        columns += ["processes", "device-hours", "hours"]
        summed = ", ".join(f"{hours:.3g} {device}-hours" for device, hours in total.items() if hours)
        lines = [*table(columns, rows), *([f"Together about {summed}.", ""] if summed else [])]
        if self.shape and (proxies := self.config.proxies):
            tokens = sum(proxy.tokens for proxy in proxies.values())
            hours = self.hours(self.config.like) * tokens / self.config.runs[self.config.like].tokens
            lines += [f"{len(proxies)} proxies: {count(tokens)} tokens, about {hours:.3g} device-hours.", ""]
        if self.shape and (scoring := scoring_hours(self.config, self.shape)):
            lines += [f"Scoring all runs: about {scoring:.3g} core-hours on CPUs, on top of these.", ""]
        return lines

    def _corpora(self) -> list[str]:
        needs = self.needs()
        rows = []
        for corpus in self.config.used_corpora:
            need, run = needs.get(corpus, (0.0, "only measured on"))
            estimate = self.estimate(corpus)
            rows.append(
                [
                    corpus,
                    self.config.corpora[corpus].source,
                    str(self.config.shards_of(corpus)),
                    "unknown" if estimate is None else count(estimate),
                    f"{count(need)} ({run})" if need else run,
                    f"{need / estimate:.2g}" if estimate and need else "",
                ]
            )
        columns = ["corpus", "source", "shards", "tokens expected", "most that a run takes", "epochs"]
        return ["## Corpora", "", *table(columns, rows)]

    def _engines(self) -> list[str]:
        if self.shape is None:
            return []
        lines = ["## Memory of a process, and device-hours, by engine", ""]
        groups: dict[Any, list[str]] = {}
        for run in self.config.trained_runs:
            train, settings = self.train[run], self.config.runs[run]
            key = (settings.gpus, settings.cpus, self.micro_batch(run), self._own_engine(run)[:2])
            key += (str(train.offload), train.gradient_checkpointing, train.precision)
            groups.setdefault(key, []).append(run)
        for runs in groups.values():
            run, settings = runs[0], self.config.runs[runs[0]]
            own, rows = self._own_engine(run), []
            engines = [(engine, stage, sorted(offload)) for engine, stage, offload in costs.ENGINES]
            for engine in engines if own in engines else [own, *engines]:
                engine_name, stage, offload = engine
                speed = costs.speed_of(offload, bool(settings.gpus))
                memory = self.memory(run, *engine)
                label = engine_name + (f", zero_stage {stage}" if engine_name == "deepspeed" else "")
                label += f", offload {' and '.join(offload)}" if offload else ""
                rows.append([f"**{label}** (set)" if engine == own else label])
                rows[-1] += [
                    in_gigabytes(memory[part]) for part in ("state", "activations", "logits", "gpu", "cpu")
                ]
                rows[-1].append(" / ".join(f"{self.hours(each, speed):.3g}" for each in runs))
            columns = ["engine", "state GB", "activations GB", "logits GB", "together GB", "offloaded GB"]
            micro_batch = self.micro_batch(run)
            checkpointing = {True: "with", False: "without"}.get(
                self.train[run].gradient_checkpointing, "with selective"
            )
            kind = "GPU" if settings.gpus else "CPU"
            lines += [
                f"{', '.join(runs)}: {settings.processes} {kind} processes, micro-batch {micro_batch} x "
                f"{self.length} tokens, {checkpointing} gradient checkpointing:",
                "",
                *table([*columns, f"{kind}-hours"], rows),
            ]
        return lines

    def _recommended(self) -> list[str]:
        alike: dict[tuple[int, int, str], list[str]] = {}
        for run in self.config.trained_runs if self.shape else []:
            if gpus := self.config.runs[run].gpus:
                alike.setdefault((gpus, self.global_batch(run), self.train[run].precision), []).append(run)
        if not alike:
            return []
        lines = [
            "## Recommended on a GPU",
            "",
            "The fastest settings that fit, by the assumptions below. A step has the same sequences with "
            "each, so they change speed and memory alone, but for `moments` below float32, which change the "
            "losses a little and are recommended where else the optimizer would be offloaded "
            "(docs/training-memory.md). Paste the row of your GPU: "
            f"`runs: {{{next(iter(alike.values()))[0]}: {{train: SETTINGS}}}}`.",
            "",
        ]
        for (gpus, batch, _), runs in alike.items():
            rows = []
            for gigabytes in GPU_GIGABYTES:
                row = [f"{gigabytes} GB"]
                if setting := self.recommended(runs[0], gigabytes):
                    speed = costs.speed_of(setting.offload, gpu=True)
                    tokens = (self.config.runs[run].tokens for run in runs)
                    hours = [speed.hours(t, self.shape, self.length, setting.checkpointing) for t in tokens]
                    row += [f"`{setting.keys(batch)}`", str(math.ceil(batch / gpus / setting.micro_batch))]
                    row += [in_gigabytes(setting.gpu_bytes), in_gigabytes(setting.cpu_bytes)]
                    row.append(" / ".join(f"{each:.3g}" for each in hours))
                else:
                    row += ["nothing fits: more GPUs, or a lower packing.sequence_length", *[""] * 4]
                rows.append(row)
            columns = ["each GPU has", "settings", "micro-batches", "GB of it", "GB offloaded", "GPU-hours"]
            lines += [f"{', '.join(runs)}, {gpus} GPU:", "", *table(columns, rows)]
        return lines

    def _disk(self) -> list[str]:
        bytes_by_kind = self.disk()
        rows = [
            [kind, "unknown" if size is None else in_gigabytes(size)] for kind, size in bytes_by_kind.items()
        ]
        rows.append(
            ["together, one run under way", in_gigabytes(sum(size or 0.0 for size in bytes_by_kind.values()))]
        )
        unknown = [name for name in self.config.used_corpora if self.estimate(name) is None]
        note = [f"Without {', '.join(unknown)}, whose size isn't known.", ""] if unknown else []
        return ["## Disk", "", *table(["what", "GB"], rows), *note]
