"""The typed configuration: what may be set, in which units, and what fits together.

`config.yaml` holds the paper's experiment; an overlay (`--configfile experiments/x.yaml`) is merged
over it key by key, and `--config` over both. `null` removes a key, as in a JSON merge patch (RFC 7396).
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from cpt.config_advise import Advised
from cpt.config_chat import Chat, check_chat
from cpt.config_corpora import check_shards, check_text_is_left
from cpt.config_errors import describe, require_known
from cpt.config_evaluate import Evaluate
from cpt.config_finetune import check_finetune, with_mixtures
from cpt.config_merging import prepared, strange_removals
from cpt.config_origins import (
    check_continued,
    check_kept,
    check_origins,
    reach,
    row_order,
    source_models,
    tokens_by_run,
    with_averages,
)
from cpt.config_release import Release, check_release
from cpt.config_robustness import Preregister
from cpt.config_runs import Run, Train
from cpt.config_sections import (
    BaseSource,
    Classifier,
    Corpus,
    Decontaminate,
    Deduplicate,
    Filters,
    HeldOut,
    Packing,
    RandomModel,
)
from cpt.config_similarity import check_edu_score, check_similarity
from cpt.config_values import Name, ResultsPath, Share
from cpt.errors import UserError
from cpt.mixtures import default_mixture
from cpt.sizes import over_context

PAPER_MODEL = "facebook/MobileLLM-125M"


class Config(Advised):
    name: Name
    results: ResultsPath
    base: BaseSource
    corpora: dict[Name, Corpus]
    domain: str = Field(description="the corpus that the model is adapted to")
    general: str | None = Field(None, description="a corpus on which forgetting is measured; null: none")
    claims: bool | None = Field(
        None, description="report the paper's claims; null: where the base model is the paper's"
    )
    classifier: Classifier | None = Field(None, description="what gives documents their `edu_score`")
    held_out: HeldOut
    filters: Filters
    deduplicate: Deduplicate
    decontaminate: Decontaminate
    packing: Packing
    mixtures: dict[Name, dict[str, Share]]
    train: Train
    reference_models: dict[Name, BaseSource] = Field(
        {}, description="further models, imported as the base is, to select targets by or to merge"
    )
    runs: dict[Name, Run]
    evaluate: Evaluate
    release: Release = Release()
    chat: Chat = Chat()
    preregister: Preregister | None = Field(
        None, description="question and prediction, on record before training; null: off"
    )

    @model_validator(mode="before")
    @classmethod
    def _mixtures_of_finetuning(cls, contents: Any) -> Any:
        return with_averages(with_mixtures(contents))

    @field_validator("runs")
    @classmethod
    def _sort_by_budget(cls, runs: dict[str, Run]) -> dict[str, Run]:
        """Sort the rows of Table 1, because the merge of overlays guarantees no order."""
        return {name: runs[name] for name in sorted(runs, key=lambda name: row_order(runs, name))}

    @model_validator(mode="after")
    def _check_consistency(self) -> "Config":
        for key in ("domain", "general"):
            if (name := getattr(self, key)) is not None:
                require_known(name, self.corpora, key, "corpora")
        check_shards(self)
        check_similarity(self.corpora, self.domain)
        check_edu_score(self.corpora, self.classifier)
        for mixture, shares in self.mixtures.items():
            for corpus in shares:
                require_known(corpus, self.corpora, f"mixtures.{mixture}", "corpora")
            if not math.isclose(sum(shares.values()), 1, abs_tol=1e-9):
                raise ValueError(
                    f"mixtures.{mixture}: the shares add up to {sum(shares.values()):g} instead of 1; fix "
                    "them"
                )
        for mixture in self.packing.seeds:
            require_known(mixture, self.mixtures, f"packing.seeds.{mixture}", "mixtures")
        for name, run in self.runs.items():
            self._check_run(name, run)
        check_text_is_left(self)
        if not any(run.tokens == 0 and run.merge is None for run in self.runs.values()):
            raise ValueError(
                "runs: the base model itself, with which all others are compared, isn't among them; "
                "add base: {}"
            )
        for name in self.reference_models:
            if name in self.runs or name == "base":
                raise ValueError(f"reference_models.{name}: a run has this name; rename the one or the other")
        self.check_advise()
        check_release(self.release, self.released_runs)
        check_chat(self.chat, self.runs)
        for group, tasks in self.evaluate.groups.items():
            for task in tasks:
                require_known(task, self.evaluate.table_tasks, f"evaluate.groups.{group}", "evaluate.tasks")
        if self.evaluate.exam and self.evaluate.exam.corpus:
            require_known(self.evaluate.exam.corpus, self.corpora, "evaluate.exam.corpus", "corpora")
        length = self.packing.sequence_length
        if isinstance(self.base, RandomModel) and (problem := over_context(length, self.base.context_length)):
            raise ValueError(problem)
        return self

    def _check_run(self, name: str, run: Run) -> None:
        check_origins(name, self.runs, self.reference_models)
        if run.tokens == 0:
            defaults = {key: field.default for key, field in Run.model_fields.items()}
            keys = sorted(
                key
                for key in run.model_fields_set - {"merge", "greedy"}
                if getattr(run, key) != defaults[key]  # the merged config in the results sets every key
            )
            if keys:
                raise ValueError(
                    f"runs.{name}.{keys[0]}: has no effect without tokens; set runs.{name}.tokens"
                )
            return
        if run.merge is not None:
            raise ValueError(f"runs.{name}: set either tokens or merge")
        if name == "base":
            raise ValueError(
                "runs.base.tokens: `base` names the model that training starts from; rename the run"
            )
        if bool(run.gpus) == bool(run.cpus):
            raise ValueError(f"runs.{name}: set either gpus or cpus (the number of training processes)")
        if run.processes % run.nodes:
            raise ValueError(
                f"runs.{name}.nodes: {run.processes} training processes can't be spread evenly over "
                f"{run.nodes} nodes"
            )
        check_finetune(name, run, self.mixtures, self.corpora)
        if run.mixture is not None:
            require_known(run.mixture, self.mixtures, f"runs.{name}.mixture", "mixtures")
        if not self.mixtures:
            raise ValueError("mixtures: empty; name at least one, such as {domain: {fineweb_edu: 1}}")
        if self.mixture_of(name) not in self.mixtures:
            raise ValueError(
                f"runs.{name}.mixture: not set, and none of the mixtures is called domain; name one of "
                f"{', '.join(self.mixtures)}"
            )
        if run.switch is not None:
            where = f"runs.{name}.switch.mixture"
            require_known(run.switch.mixture, self.mixtures, where, "mixtures")
            if run.switch.mixture == self.mixture_of(name):
                raise ValueError(f"{where}: the run trains on {run.switch.mixture} before; name another one")
        if run.continues:
            check_continued(name, self.runs, {run: self.train_settings(run) for run in self.trained_runs})
        check_kept(name, run, self.train_settings(name), self.packing.sequence_length)
        if run.tokens < self.packing.sequence_length:
            raise ValueError(
                f"runs.{name}.tokens: {run.tokens} is less than one sequence "
                f"(packing.sequence_length: {self.packing.sequence_length}); raise the budget"
            )
        self._check_selection(name)
        if run.replicate_of is not None:
            self._check_replicate(name, run.replicate_of)

    def _check_selection(self, name: str) -> None:
        selection = self.train_settings(name).selection
        if selection is None:
            return
        models = {"base": None, **self.runs, **self.reference_models}
        require_known(
            selection.reference, models, f"runs.{name}.train.selection.reference", "runs or reference_models"
        )
        waiting, seen = [selection.reference], set()
        while waiting:
            if (model := waiting.pop()) == name:
                raise ValueError(
                    f"runs.{name}.train.selection.reference: {selection.reference} is made from this run, "
                    "which needs it to train; name another one"
                )
            if model in self.runs and model not in seen:
                seen.add(model)
                waiting += self._models_needed(model)

    def _models_needed(self, name: str) -> list[str]:
        """Returns the runs and references that a run starts from, merges, or selects targets by."""
        run = self.runs[name]
        selection = self.train_settings(name).selection if run.tokens else None
        return [*source_models(run), *([selection.reference] if selection else [])]

    def _check_replicate(self, name: str, original: str) -> None:
        where = f"runs.{name}.replicate_of"
        require_known(original, self.runs, where, "runs")
        if original == name or self.runs[original].replicate_of is not None:
            raise ValueError(f"{where}: {original} is itself a replicate; name the run that it repeats")

        def essence(run: str) -> dict[str, Any]:
            """Returns what replicates must share: everything except seeds and the names of mixtures."""
            settings = self.runs[run].model_dump(exclude={"replicate_of", "train", "mixture", "finetune"})
            mixture = self.mixtures.get(self.mixture_of(run), {}) if settings["tokens"] else {}
            train = self.train_settings(run).model_dump(exclude={"seed"})
            return {**settings, "mixture": mixture, "train": train}

        mine, other = essence(name), essence(original)
        if differing := [key for key in mine if mine[key] != other[key]]:
            raise ValueError(
                f"{where}: {name} and {original} differ in {', '.join(differing)}; replicates may only "
                "differ in train.seed, and in the name of a mixture of the same shares"
            )
        if self._seeds_of(name) == self._seeds_of(original):
            raise ValueError(
                f"{where}: {name} and {original} are the same run twice; give one a mixture of the same "
                "shares with a seed of its own in packing.seeds, or another train.seed"
            )

    def _seeds_of(self, run: str) -> tuple[int, int]:
        """Returns what replicates differ in: the seeds of training and of the order of their sequences."""
        return self.train_settings(run).seed, self.packing_settings(self.mixture_of(run)).seed

    @property
    def replicates(self) -> dict[str, list[str]]:
        """Groups of runs that repeat one another with other seeds, by the run that the others name."""
        groups: dict[str, list[str]] = {}
        for name, run in self.runs.items():
            if run.replicate_of is not None:
                groups.setdefault(run.replicate_of, [run.replicate_of]).append(name)
        return groups

    def train_settings(self, run: str) -> Train:
        """Returns the `train` section with this run's own keys merged over it.

        null replaces the section's value if the key allows null; otherwise it counts as not set. Raises
        ValueError if the keys don't fit together.
        """
        never_null = {key for key, field in Train.model_fields.items() if field.default is not None}
        own = {
            key: value
            for key, value in self.run_of(run).train.items()
            if value is not None or key not in never_null
        }
        # Conversations don't attend to one another, unless the run says otherwise.
        section = self.train.model_dump() | ({"document_masking": True} if self.run_of(run).finetune else {})
        try:
            return Train.model_validate({**section, **own})
        except ValidationError as error:
            raise ValueError(describe(error, Train, f"runs.{run}.train.")) from None

    def references_of(self, run: str) -> list[tuple[str, str, str]]:
        """Returns (mixture, reference, scope) for each mixture that a run trains on, if it selects targets.

        The scope is what a token attends to: `documents` if they are masked from one another, or `sequences`.
        """
        settings = self.train_settings(run)
        if settings.selection is None:
            return []
        scope = "documents" if settings.document_masking else "sequences"
        return [(mixture, settings.selection.reference, scope) for mixture in self.mixtures_of(run)]

    def mixture_of(self, run: str) -> str:
        """Returns the name of a run's first mixture: its own, else the only one, else `domain`."""
        return self.run_of(run).mixture or default_mixture(self.mixtures)

    def packing_settings(self, mixture: str) -> Packing:
        """Returns the `packing` section for one mixture, with its own seed and, for proxies, their epochs."""
        seed = self.packing.seeds.get(mixture, self.packing.seed)
        epochs = (mixture in self.proxy_shares and self.advise.maximum_epochs) or self.packing.maximum_epochs
        return self.packing.model_copy(update={"seed": seed, "seeds": {}, "maximum_epochs": epochs})

    def held_out_settings(self, corpus: str) -> HeldOut:
        """Returns the `held_out` section for one corpus, with its own share if it has one."""
        share = self.corpora[corpus].held_out_share
        return self.held_out if share is None else self.held_out.model_copy(update={"share": share})

    def mixtures_of(self, run: str) -> list[str]:
        """Returns the names of the mixtures that a run trains on, in order."""
        switch = self.run_of(run).switch
        return [self.mixture_of(run), *([switch.mixture] if switch else [])]

    def reach_of(self, run: str) -> dict[str, Fraction]:
        """Returns the tokens of each mixture that a run and the runs that it continues read, by name."""
        return reach(self.runs, run, self.mixtures_of)

    def shards_of(self, corpus: str) -> int:
        """Returns the number of shards of a corpus: its `shards`, or as many as the largest run needs.

        A run needs the corpus's share of the mixture's tokens that it reads, divided by the epochs allowed.
        """
        source = self.corpora[corpus]
        if source.shards is not None:
            return source.shards
        needs = [
            tokens * Fraction(str(self.mixtures[mixture].get(corpus, 0.0)))
            for run in self.trained_runs
            for mixture, tokens in self.reach_of(run).items()
        ]
        need = max(max(needs, default=Fraction(0)) / self.packing.maximum_epochs, self.advised_need(corpus))
        return max(1, math.ceil(need / source.tokens_per_shard))

    @property
    def trained_runs(self) -> list[str]:
        """Names of the runs with a token budget, in the config's order."""
        return [name for name, run in self.runs.items() if run.tokens]

    @property
    def continued_runs(self) -> set[str]:
        """Names of the runs that another one continues with their optimizer."""
        return {run.start_from for run in self.runs.values() if run.continues and run.start_from}

    @property
    def merged_runs(self) -> list[str]:
        """Names of the runs that are sums of models, in the config's order."""
        return [name for name, run in self.runs.items() if run.merge]

    def summands(self, run: str) -> dict[str, float]:
        """Returns a merged run's coefficients by model, in the order of summation: first a trained run, which
        gives the sum its dtypes, then the others as written."""
        merge = self.runs[run].merge
        first = next(model for model in merge if tokens_by_run(self.runs, model))
        return {first: merge[first], **merge}

    def trained_by(self, run: str) -> list[str]:
        """Returns the runs whose training went into a model, each once and after the runs it is made from."""
        return list(tokens_by_run(self.runs, run))

    @property
    def released_runs(self) -> list[str]:
        """Names of the runs that make a new model, trained ones first."""
        return [*self.trained_runs, *self.merged_runs]

    @property
    def budgets(self) -> dict[str, int]:
        """Training tokens that went into each run's model, by run: its own, and those of every run that it is
        made from, each once."""
        return {name: sum(tokens_by_run(self.runs, name).values()) for name in self.runs}

    @property
    def shows_claims(self) -> bool:
        """Whether the paper's claims are reported: as `claims` says, else for the paper's base model."""
        return getattr(self.base, "repo", None) == PAPER_MODEL if self.claims is None else self.claims

    @property
    def domain_and_general(self) -> list[str]:
        """The corpora that Figure 3 compares: the domain and, if there is one, the general corpus."""
        return list(dict.fromkeys(name for name in (self.domain, self.general) if name))

    @property
    def measured_corpora(self) -> list[str]:
        """The corpora whose held-out text is scored: domain, general, and all conversations."""
        conversations = (name for name, corpus in self.corpora.items() if corpus.conversations)
        return list(dict.fromkeys([*self.domain_and_general, *conversations]))

    @property
    def used_corpora(self) -> list[str]:
        """Corpora that some run trains on or that are measured, in the config's order."""
        used = set(self.measured_corpora)
        if self.evaluate.exam:
            used.add(self.evaluate.exam.corpus or self.domain)
        for run in self.trained_runs:
            used |= {corpus for mixture in self.mixtures_of(run) for corpus in self.mixtures[mixture]}
        return [name for name in self.corpora if name in used]


def load(config: dict[str, Any], layers: Sequence[Mapping[str, Any]] = ()) -> Config:
    """Validate a complete config. `layers` are the files that it was merged from, to check their nulls.

    Raises UserError that lists every problem: the key's path, what was given, what is allowed, and for an
    unknown key the nearest known one.
    """
    problems = list(strange_removals(layers, [Config]))
    try:
        loaded = Config.model_validate(prepared(config, [Config]))
    except ValidationError as error:
        problems.append(describe(error, Config))
    if problems:
        raise UserError("\n  ".join(["config:", *problems]))
    return loaded
