"""The section `advise`: which proxies are trained before the full run, as runs and mixtures of their own."""

import itertools
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field, model_validator

from cpt.config_errors import require_known
from cpt.config_runs import Run, Train
from cpt.config_sections import Section
from cpt.config_values import COUNT_UNITS, Count, Positive
from cpt.sizes import sequences_per_step

FEWEST_STEPS = 10  # of a proxy; a schedule needs at least as many
FEWEST_PROXIES = 4  # with fewer, intervals clustered by proxy are meaningless
MEASUREMENTS = 20  # of held-out loss along a proxy
Rate = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(gt=0, lt=1)]


class Advise(Section):
    """A grid of proxies: small runs whose curves predict the full one (docs/advice.md)."""

    tokens: list[Annotated[Count, Field(gt=0)]] = Field(min_length=1, description="budgets of the full run")
    shares: list[Part] = Field(
        [0.02, 0.05],
        min_length=2,
        description="size of the proxies, as shares of a budget and of the text. The smallest are trained at "
        "every learning rate; larger ones, at the middle rate, check what the smaller ones predict",
    )
    learning_rates: list[Rate] = Field(min_length=1, description="peak learning rates to try")
    replay: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.0, 0.05, 0.25], min_length=1, description="shares of general text to try"
    )
    weight_decays: list[Annotated[float, Field(ge=0)]] = Field(
        [], description="tried on the largest of `tokens`, where text repeats most; []: only that of `train`"
    )
    maximum_epochs: Positive | None = Field(
        None, description="how often the full run may read the text; null: packing.maximum_epochs"
    )
    most_forgetting: float = Field(
        0.01, ge=0, description="relative rise of general bits per byte that the recommended run may have"
    )
    like: str | None = Field(
        None, description="the run whose processes and settings the proxies have; null: the largest"
    )

    @model_validator(mode="after")
    def _check_distinct(self) -> "Advise":
        for key in ("tokens", "shares", "learning_rates", "replay", "weight_decays"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: a value is in the list twice; remove one")
        return self

    @property
    def settings(self) -> list[tuple[int, float, float | None]]:
        """Tokens, replay share and weight decay (None: that of `train`) of each full run to compare."""
        decays = {max(self.tokens): self.weight_decays or [None]}
        return [
            (tokens, replay, decay)
            for tokens, replay in itertools.product(sorted(self.tokens), sorted(self.replay))
            for decay in decays.get(tokens, [None])
        ]


def count_text(count: int) -> str:
    """Returns a count as text for the config: 400M, 1B, 16384."""
    for unit, size in sorted(COUNT_UNITS.items(), key=lambda item: -item[1]):
        if count % size == 0:
            return f"{count // size}{unit}"
    raise AssertionError  # unreachable: the unit "" divides every count


def mixture_name(share: float, replay: float) -> str:
    """Returns the name of the mixture of the proxies with this size and replay share."""
    return f"advise-{share:g}-replay{replay:g}"


class Advised(Section):
    """The part of cpt.config.Config that expands `advise`; it reads the config's other keys.

    Proxies are in neither `runs` nor `mixtures`, so tables, figures and the paper don't contain them.
    """

    advise: Advise | None = Field(None, description="null: no proxies")

    @property
    def like(self) -> str:
        """The run whose processes and settings the proxies have."""
        return self.advise.like or max(self.trained_runs, key=lambda run: self.runs[run].tokens)

    @cached_property
    def proxy_shares(self) -> dict[str, float]:
        """The share of each corpus's text that goes into a proxy mixture, by the mixture's name."""
        grid = itertools.product(self.advise.shares, self.advise.replay) if self.advise else ()
        return {mixture_name(share, replay): share for share, replay in grid}

    @cached_property
    def all_mixtures(self) -> Mapping[str, dict[str, float]]:
        """The config's mixtures and those of the proxies."""
        grid = itertools.product(self.advise.shares, self.advise.replay) if self.advise else ()
        return {**self.mixtures, **{mixture_name(*point): self.mixed(point[1]) for point in grid}}

    def mixed(self, replay: float) -> dict[str, float]:
        """Returns the mixture of domain and general text with this replay share, without shares of 0."""
        shares = {self.domain: float(1 - Fraction(str(replay))), self.general: replay}
        return {corpus: share for corpus, share in shares.items() if share}

    @cached_property
    def proxy_points(self) -> list[dict[str, Any]]:
        """The place of each proxy in the grid, and the full run that it predicts.

        Returns:
            For each proxy: run (its name), packed (its mixture), share. For its full run: tokens, rate (the
            peak), replay, decay (weight decay), mixture (shares by corpus) and train (its own keys).
        """
        if self.advise is None:
            return []
        points, grid = [], self.advise
        rates = sorted(grid.learning_rates)
        for (tokens, replay, decay), share, rate in itertools.product(
            grid.settings, sorted(grid.shares), rates
        ):
            if share > min(grid.shares) and rate != rates[len(rates) // 2]:
                continue
            name = f"advise-{count_text(tokens)}-share{share:g}-lr{rate:g}-replay{replay:g}"
            place = {"tokens": tokens, "rate": rate, "replay": replay, "share": share}
            points.append(
                place
                | {"run": name + ("" if decay is None else f"-wd{decay:g}")}
                | {"decay": self.train_settings(self.like).weight_decay if decay is None else decay}
                | {"mixture": self.mixed(replay), "packed": mixture_name(share, replay)}
                | {"train": self.advised_train(rate, decay)}
            )
        return points

    @cached_property
    def proxies(self) -> dict[str, Run]:
        """The proxies by name. Each trains on `share` of a full run's tokens and on that share of the text.
        So it repeats the text as often as the full run will (Zhou et al. 2026, arXiv 2606.07597)."""
        runs = {}
        for point in self.proxy_points:
            budget = int(point["tokens"] * Fraction(str(point["share"])))
            held_out = self.train_settings(self.like).held_out
            measured = {"every": max(1, budget // MEASUREMENTS), "tokens": held_out.tokens, "first_steps": 0}
            train = {**point["train"], "held_out": measured}
            runs[point["run"]] = Run(
                tokens=budget, mixture=point["packed"], train=train, **self.advised_place
            )
        return runs

    @property
    def advised_place(self) -> dict[str, int]:
        """The processes of proxies and full runs: gpus or cpus, and nodes, as far as `like` sets them."""
        like = self.runs[self.like]
        return {key: getattr(like, key) for key in ("gpus", "cpus", "nodes") if key in like.model_fields_set}

    @property
    def foreseen_runs(self) -> dict[str, dict[str, Any]]:
        """Tokens, replay, decay and rate of each run in the config that the grid of proxies predicts."""
        runs = {}
        keys = ("tokens", "replay", "decay", "rate")
        for name in self.trained_runs if self.advise else ():
            run, train = self.runs[name], self.train_settings(name)
            plain = not (run.start_from or run.switch or run.finetune or train.selection)
            mixture = {
                corpus: share for corpus, share in self.mixtures[self.mixture_of(name)].items() if share
            }
            values = (run.tokens, mixture.get(self.general, 0.0), train.weight_decay, train.learning_rate)
            settings = dict(zip(keys, values, strict=True))
            for point in self.proxy_points:
                same = {key: point[key] for key in keys} == settings and point["mixture"] == mixture
                if plain and same and train.held_out:
                    runs[name] = settings
        return runs

    def advised_train(self, rate: float, decay: float | None) -> dict[str, Any]:
        """Returns a run's own keys of `train`: those of `like` with the peak `rate`. The schedule's other
        rates keep their ratio to the peak."""
        train = self.train_settings(self.like)
        factor = rate / train.learning_rate
        rates = {
            key: float(f"{getattr(train, key) * factor:.6g}")
            for key in ("minimum_learning_rate", "constant_learning_rate")
            if getattr(train, key)
        }
        decays = {} if decay is None else {"weight_decay": decay}
        return {**self.runs[self.like].train, "learning_rate": rate, **rates, **decays}

    def run_of(self, name: str) -> Run:
        """Returns the settings of a run or a proxy."""
        return self.runs[name] if name in self.runs else self.proxies[name]

    def advised_need(self, corpus: str) -> Fraction:
        """Returns a corpus's tokens, without repeats, in the compared full run that reads the most of it."""
        if not self.advise:
            return Fraction(0)
        epochs = self.advise.maximum_epochs or self.packing.maximum_epochs
        shares = [Fraction(str(self.mixed(replay).get(corpus, 0))) for replay in self.advise.replay]
        return max(self.advise.tokens) * max(shares) / epochs

    def check_advise(self) -> None:
        """Raise ValueError unless the rest of the config allows proxies."""
        if self.advise is None:
            return
        if self.general is None or self.general == self.domain:
            raise ValueError(
                "advise: needs a corpus on which forgetting is measured; set general to one that isn't the "
                "domain"
            )
        if self.advise.like is not None:
            trained = {run: self.runs[run] for run in self.trained_runs}
            require_known(self.advise.like, trained, "advise.like", "runs with tokens")
        elif not self.trained_runs:
            raise ValueError(
                "advise: no run has tokens; add one, whose processes and settings the proxies take"
            )
        train: Train = self.train_settings(self.like)
        if train.held_out is None:
            raise ValueError(
                "advise: the laws are fitted to held-out curves; set train.held_out, such as {every: 20M, "
                "tokens: 200K, first_steps: 0}"
            )
        processes = self.runs[self.like].processes
        batch = train.global_batch or sequences_per_step(train.micro_batch, train.accumulate, processes)
        least = int(min(self.advise.tokens) * min(self.advise.shares))
        if (steps := least // (batch * self.packing.sequence_length)) < FEWEST_STEPS:
            raise ValueError(
                f"advise.shares: {min(self.advise.shares):g} of {min(self.advise.tokens):,} tokens are "
                f"{steps} steps of {batch} sequences, and a proxy needs {FEWEST_STEPS}; raise the shares or "
                "advise.tokens, or lower train.global_batch"
            )
        if len(self.proxies) < FEWEST_PROXIES:
            raise ValueError(
                f"advise: {len(self.proxies)} proxies are too few for intervals, which need {FEWEST_PROXIES}"
                "; add learning_rates or replay shares"
            )
        for name in (*self.proxies, *self.proxy_shares):
            if name in self.runs or name in self.mixtures:
                raise ValueError(f"advise: a run or mixture is called {name}, as a proxy is; rename it")
            if name in self.proxies:
                self.train_settings(name)
