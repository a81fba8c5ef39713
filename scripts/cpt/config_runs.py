"""The sections of the config about training and runs: keys, units, what fits together inside a section."""

import math
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cpt.config_sections import Section
from cpt.config_values import MODEL, Count, Positive, Seed, Share, parse_count

# The keys that a schedule needs in addition to learning_rate, minimum_learning_rate and warmup.
SCHEDULE_KEYS: dict[str, tuple[str, ...]] = {
    "cosine": (),
    "linear": (),
    "infinite": ("constant_learning_rate", "cooldown", "decay"),
    "warmup_stable_decay": ("decay",),
}


# The allowed values of `offload` (what an engine keeps on the CPU), by `engine` or, for deepspeed, by
# `zero_stage`.
OFFLOADS: dict[str | int, list[list[str]]] = {
    "ddp": [[]],
    "fsdp": [[], ["optimizer", "parameters"]],
    0: [[]],
    1: [[], ["optimizer"]],
    2: [[], ["optimizer"]],
    3: [[], ["optimizer"], ["parameters"], ["optimizer", "parameters"]],
}


class HeldOutLoss(Section):
    """Loss on held-out text while training."""

    every: Annotated[Count, Field(gt=0)] = Field(description="training tokens between two measurements")
    tokens: Annotated[Count, Field(gt=0)] = Field(description="held-out tokens of each corpus")
    first_steps: int = Field(ge=0, description="also measured after each of this many first steps")


class Selection(Section):
    """Selective language modelling (Lin et al. 2024)."""

    reference: str = Field(
        description="the model whose loss is subtracted: a run, `base`, or one of `reference_models`"
    )
    share: float = Field(gt=0, le=1, description="of each sequence's targets: those of highest excess loss")


class Train(Section):
    optimizer: Literal["adamw"] = Field(description="AdamW (Loshchilov and Hutter 2019)")
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(
        ge=0,
        description="share of each matrix, times the learning rate, that a step takes off; vectors have none",
    )
    decay_embeddings: bool = Field(True, description="false: weight decay spares the embeddings")
    beta1: float = Field(ge=0, lt=1, description="share of AdamW's mean gradient that a step keeps")
    beta2: float = Field(ge=0, lt=1, description="the same of the mean squared gradient")
    epsilon: float = Field(gt=0, description="added to its root, by which the mean gradient is divided")
    gradient_clip: float = Field(gt=0, description="maximum global L2 norm of the gradient")
    document_masking: bool = Field(description="no attention and no loss across document boundaries")
    selection: Selection | None = Field(None, description="null: on all targets")
    l2_to_start: float = Field(
        0.0, ge=0, description="coefficient of half the squared distance from the start model's weights"
    )
    schedule: Literal["cosine", "linear", "infinite", "warmup_stable_decay"]
    minimum_learning_rate: float = Field(ge=0, description="at which the schedule ends")
    constant_learning_rate: float | None = Field(None, gt=0, description="of the infinite schedule")
    warmup: Share = Field(description="share of the steps")
    cooldown: Share | None = Field(None, description="share of the steps; infinite: to the constant rate")
    decay: Share | None = Field(
        None, description="share of the steps, the last ones; infinite, warmup_stable_decay: to the minimum"
    )
    micro_batch: Positive | Literal["auto"] = Field(
        description="sequences per process and forward pass; auto: as many as fit into memory"
    )
    accumulate: Positive | None = Field(None, description="micro-batches per step and process")
    global_batch: Positive | None = Field(
        None, description="sequences per step over all processes; null: micro_batch * accumulate * processes"
    )
    engine: Literal["ddp", "fsdp", "deepspeed"]
    zero_stage: Literal[0, 1, 2, 3] = Field(description="of the deepspeed engine")
    offload: list[Literal["optimizer", "parameters"]] = Field(description="what is kept on the CPU")
    gradient_checkpointing: bool | Literal["selective"]
    compile: bool | Literal["auto"] = Field(
        description="torch.compile of layers (ddp and fsdp) and loss; auto: on a GPU, where it's possible"
    )
    loss_kernel: Literal["auto", "liger", "pytorch"] = Field(
        description="of the cross-entropy; auto: liger-kernel's on a GPU where it is installed"
    )
    precision: Literal["bf16", "float32", "auto"]
    moments: Literal["float32", "bf16", "8bit"] = Field(
        "float32", description="how AdamW's two moments are stored: 8, 4 or 2 bytes per parameter"
    )
    seed: Seed = Field(
        description="of dropout, and of the rounding of `moments`; packing.seed has the order of the text",
    )
    checkpoint_every: Positive = Field(description="steps")
    keep_checkpoints: Positive = Field(description="newest ones, while a run trains")
    on_bad_step: Literal["stop", "skip"] = Field(
        description="if a loss or gradient isn't finite: stop the run, or skip the update"
    )
    held_out: HeldOutLoss | None = Field(None, description="null: not measured while training")

    @model_validator(mode="after")
    def _batch(self) -> "Train":
        if self.global_batch is None and self.accumulate is None:
            raise ValueError("set accumulate, or set global_batch and let accumulate follow from it")
        if self.micro_batch == "auto" and self.global_batch is None:
            raise ValueError(
                "micro_batch: auto needs global_batch, which the batch of a step then follows from"
            )
        if self.micro_batch == "auto" and self.engine != "ddp":
            raise ValueError(
                f"micro_batch: auto can't be tried out with engine: {self.engine}, whose processes pass "
                "parts of the model to one another; set a number"
            )
        return self

    @model_validator(mode="after")
    def _compile(self) -> "Train":
        if self.compile is True and self.engine == "deepspeed":
            raise ValueError(
                "compile: true isn't possible with engine: deepspeed; choose engine: ddp or fsdp, or "
                "compile: auto"
            )
        return self

    @model_validator(mode="after")
    def _moments(self) -> "Train":
        if self.moments != "float32" and self.engine == "deepspeed":
            raise ValueError(
                f"moments: {self.moments} isn't possible with engine: deepspeed, whose optimizers keep "
                "float32; choose engine: ddp or fsdp, or moments: float32"
            )
        return self

    @model_validator(mode="after")
    def _offload(self) -> "Train":
        deepspeed = self.engine == "deepspeed"
        possible = OFFLOADS[self.zero_stage if deepspeed else self.engine]
        if sorted(self.offload) not in possible:
            engine = f"engine: {self.engine}" + (f", zero_stage: {self.zero_stage}" if deepspeed else "")
            *others, last = (f"[{', '.join(parts)}]" for parts in possible)
            raise ValueError(
                f"offload: [{', '.join(self.offload)}] isn't possible with {engine}, which takes "
                f"{', '.join(others)}{' or ' if others else ''}{last}"
            )
        return self

    @model_validator(mode="after")
    def _schedule(self) -> "Train":
        needed = SCHEDULE_KEYS[self.schedule]
        for key in ("constant_learning_rate", "cooldown", "decay"):
            is_set = getattr(self, key) is not None
            if is_set and key not in needed:
                raise ValueError(f"{key}: has no effect with schedule: {self.schedule}; remove it (null)")
            if not is_set and key in needed:
                raise ValueError(f"{key}: schedule: {self.schedule} needs it")
        rates = [self.minimum_learning_rate, self.constant_learning_rate, self.learning_rate]
        if sorted(rates := [rate for rate in rates if rate is not None]) != rates:
            raise ValueError(
                "minimum_learning_rate must not be over constant_learning_rate, nor that over "
                "learning_rate; correct them"
            )
        if self.schedule == "infinite" and self.decay and not self.minimum_learning_rate:
            raise ValueError(
                "minimum_learning_rate: the infinite schedule decays exponentially, which never comes to 0; "
                "set it above 0, such as a tenth of constant_learning_rate, or decay to 0"
            )
        if self.warmup + (self.cooldown or 0) + (self.decay or 0) > 1 + 1e-9:
            raise ValueError(
                "warmup, cooldown and decay are shares of one run, but add up to more than 1; lower them"
            )
        return self


def parse_coefficient(value: Any) -> float:
    """Read a coefficient of a sum of models: a number or a fraction such as 1/3, but not 0.

    Raises ValueError for anything else.
    """
    try:
        number = float(Fraction(value)) if isinstance(value, str) and "/" in value else float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"expected a number or a fraction such as 1/3, but {value!r} was given")
    if number == 0:
        raise ValueError("0 has no effect; leave the model out of the sum")
    return number


Coefficient = Annotated[float, BeforeValidator(parse_coefficient)]
Model = Annotated[str, Field(pattern=MODEL)]


def split_point(model: str) -> tuple[str, int]:
    """Split `trunk@200M` into ("trunk", 200000000); 0 without `@`. Raises ValueError for a wrong count."""
    name, _, tokens = model.partition("@")
    return name, parse_count(tokens) if tokens else 0


class Switch(Section):
    """A second mixture for the end of a run (Parmar et al. 2024)."""

    mixture: str = Field(description="name in `mixtures`")
    at: float = Field(gt=0, lt=1, description="share of the steps before it")


class Run(Section):
    """One row of Table 1: a trained model, a sum of models, or (neither) the base model itself."""

    tokens: Count = Field(0, description="to train on, without those of `start_from`")
    gpus: int = Field(0, ge=0, description="training processes, one per GPU")
    cpus: int = Field(0, ge=0, description="training processes of one thread each, without a GPU")
    nodes: Positive = Field(1, description="machines that the processes are spread over, on a cluster")
    mixture: str | None = Field(None, description="name in `mixtures`; null: `domain`, or the only one")
    finetune: str | None = Field(
        None,
        description="instead of `mixture`: a corpus of conversations, or a mixture of such; documents are "
        "masked unless train.document_masking says otherwise",
    )
    switch: Switch | None = Field(None, description="another mixture for the last steps; null: none")
    start_from: Model | None = Field(
        None,
        description="the run whose model this one starts from, or RUN@TOKENS, a state that the run keeps; "
        "null: base",
    )
    continues: bool = Field(
        False, description="also continue with AdamW's moments and the place in the mixture of `start_from`"
    )
    train: dict[str, Any] = Field({}, description="keys of `train` that differ in this run")
    keep_every: Count = Field(
        0, description="training tokens between two states that are kept, to branch from or to merge; 0: none"
    )
    merge: dict[Model, Coefficient] | None = Field(
        None,
        description="instead of training, a sum of models, weight by weight: coefficients that add up to 1, "
        "by name (a run, RUN@TOKENS, `base`, one of `reference_models`); or {last_checkpoints: 3, of: RUN} "
        "for the mean of a run's last three states",
    )
    greedy: bool = Field(
        False, description="of `merge`: sum only the models that lower the held-out loss of `domain`, equally"
    )
    replicate_of: str | None = Field(
        None, description="the run that this one repeats with another seed; seeds.csv takes both together"
    )

    @model_validator(mode="before")
    @classmethod
    def _merge_was_interpolate(cls, section: Any) -> Any:
        if isinstance(section, dict) and (old := section.get("interpolate")):
            run, ratio = (old.get("run"), old.get("ratio")) if isinstance(old, dict) else (None, None)
            base = f"{1 - ratio:g}" if isinstance(ratio, float) else "1 - ratio"
            raise ValueError(
                f"interpolate: merge has replaced it, which sums any models; write merge: {{base: {base}, "
                f"{run or 'X'}: {ratio or 'ratio'}}}"
            )
        return section

    @property
    def processes(self) -> int:
        return self.gpus or self.cpus
