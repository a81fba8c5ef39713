"""Model cards in the format of the Hugging Face hub: what a model is made of, its scores and its licence.

The fields are those of https://huggingface.co/docs/hub/model-cards, written by huggingface_hub.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from cpt.config import Config
from cpt.config_origins import tokens_by_run
from cpt.config_runs import Run, split_point
from cpt.config_sections import BaseSource, Corpus
from cpt.data_sets import CLOZE, DATA_SETS
from cpt.report.card_facts import base_facts, limits, package_facts, package_licences, scoring_facts, uses
from cpt.report.held_out_text import corpus_of, held_out_markdown, is_held_out
from cpt.report.labels import base_note, count_label, model_name
from cpt.report.rows import Row
from cpt.report.scores import AVERAGE, BITS_PER_BYTE, LOWER, SIGN_FLIPS

METRIC_NAMES = {
    "acc": "accuracy",
    "acc_norm": "accuracy, log-likelihoods divided by length",
    BITS_PER_BYTE: "bits per byte",
}
# The licences that the hub knows by an identifier; it refuses a card with another one
# (https://huggingface.co/docs/hub/repositories-licenses).
_IDENTIFIERS = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++
osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license llama2 llama3 llama3.1
llama3.2 llama3.3 gemma unknown other
"""
HUB_LICENSES = frozenset(_IDENTIFIERS.split())
LOADING = (
    "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    "model = AutoModelForCausalLM.from_pretrained(folder_or_repository)\n"
    "tokenizer = AutoTokenizer.from_pretrained(folder_or_repository)\n```"
)
REPOSITORY = r"[\w.-]+/[\w.-]+"  # of the hub: owner/name


def license_fields(stated: str | None, repository: str | None) -> dict[str, str]:
    """The card's license, license_name and license_link for a licence in words, or for none.

    `repository` is the base model's on the hub; it has the text of a licence that has no identifier.
    """
    if not stated:
        return {"license": "unknown"}
    name = stated.split(";")[0].strip().lower().replace(" ", "-")
    if name in HUB_LICENSES:
        return {"license": name}
    link = {"license_link": f"https://huggingface.co/{repository}"} if repository else {}
    return {"license": "other", "license_name": name, **link}


def hub_repository(base: BaseSource) -> str | None:
    """The base model's name on the hub: its repository, or a label of that form."""
    name = getattr(base, "repo", None) or base.label or ""
    return name if re.fullmatch(REPOSITORY, name) else None


def evaluation_results(rows: list[Row], labels: dict[str, str], seed: int) -> list[EvalResult]:
    """The scores of one run for the card's model-index. The data set's name and arguments say whether only a
    subset, drawn by `seed`, was scored, and how much held-out text."""
    results = []
    for row in rows:
        if row["task"] == AVERAGE or row["score"] is None:
            continue
        full, task = row["items_of_full"], row["task"]
        if is_held_out(row):
            task = corpus_of(row)
            label = f"held-out text of {task}"
        else:
            label = labels.get(task, task)
        data_set = DATA_SETS.get(task.removesuffix(CLOZE))
        metric = METRIC_NAMES.get(row["metric"], row["metric"])
        arguments = (
            {"documents": row["n"], "groups": row.get("groups")}
            if not full
            else _scoring_arguments(row, seed)
        )
        if data_set and task.endswith(CLOZE):  # the hub puts all scores of a data set under one name
            metric += " (cloze)"
        results.append(
            EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type=data_set.repository if data_set else task,
                dataset_name=f"{label} ({row['n']:,} of {full:,} items)" if full else label,
                dataset_config=data_set.configuration if data_set else None,
                dataset_split=data_set.split if data_set else None,
                dataset_args=arguments,
                metric_type=row["metric"],
                metric_name=metric,
                metric_value=round(row["score"], 4),
            )
        )
    return results


def _scoring_arguments(row: Row, seed: int) -> dict[str, Any]:
    """How a task was scored, as arguments of its data set."""
    arguments = {"num_few_shot": row["shots"]}
    if row["n"] < row["items_of_full"]:
        arguments |= {
            "subset": "random",
            "items": row["n"],
            "items_of_full": row["items_of_full"],
            "seed": seed,
        }
    return arguments


def model_card(
    name: str,
    config: Config,
    base_report: dict[str, Any],
    scores: list[Row],
    summaries: list[dict[str, Any]],
    use: Sequence[str] = (),
    verdict: str = "",
    evaluations: Sequence[dict[str, Any]] = (),
    licence_file: str | None = None,
) -> str:
    """The card of a trained model, or of a sum of models.

    Args:
        name: the run.
        config: the merged config of the results.
        base_report: models/base.json.
        scores: rows of scores.csv, of all runs.
        summaries: run.json of the run, or of all runs that a sum of models went through.
        use: further paragraphs of the last section.
        verdict: what the likelihoods of right and wrong answers show.
        evaluations: {task}.json of the run.
        licence_file: the file beside the card that has the licence's text.
    """
    base = config.base
    stated = base.license or base_report.get("licence")
    trained = {run: config.mixtures_of(run) for run in config.trained_by(name)}
    corpora = {
        corpus: config.corpora[corpus]
        for mixtures in trained.values()
        for mixture in mixtures
        for corpus in config.mixtures[mixture]
    }
    last = {summary["run"]: summary["tokens"] for summary in summaries}
    used = tokens_by_run(config.runs, name)
    tokens = sum(min(count, last.get(run, count)) for run, count in used.items())
    rows = [row for row in scores if row["run"] == name or not row["tokens"]]
    merge = config.runs[name].merge or {}
    summands = [source for model, source in config.reference_models.items() if model in merge]
    data = _metadata(name, config, list(corpora.values()), license_fields(stated, hub_repository(base)), rows)
    title = _title(base)
    parts = [
        f"# {name}",
        _what_it_is(title, config, config.runs[name], tokens, sum(last.values())),
        base_facts(title, base_note(base.model_dump(), base_report), base_report),
        f"## Intended use\n\n{uses(config.domain)}",
        f"## Limitations\n\n{limits(data.language or [], base_report)}",
        "## Scores",
        *_scores_section(name, config, rows, evaluations),
        *([f"Log-probabilities of the answers, item by item: {verdict}"] if verdict else []),
        f"## Training data\n\n{_corpora(trained, config)}",
        *_packages(corpora.values()),
        "## Training",
        *_trainings(summaries, base_report.get("adds_bos", False), config),
        f"## Licence\n\n{_licence(title, stated, licence_file, summands)}",
        f"## Use\n\n{LOADING}",
        *use,
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(
    name: str, config: Config, corpora: list[Corpus], licence: dict[str, str], rows: list[Row]
) -> ModelCardData:
    """The card's header. `rows` are those of scores.csv of this run and of the base model."""
    merge = config.runs[name].merge or {}
    sources = [config.base, *(source for model, source in config.reference_models.items() if model in merge)]
    named = [hub for hub in map(hub_repository, sources) if hub]
    labels = {task: settings.label for task, settings in config.evaluate.tasks.items()}
    mine = [row for row in rows if row["run"] == name]
    return ModelCardData(
        model_name=name,
        base_model=named[0] if len(named) == 1 else named or None,
        datasets=[corpus.repo for corpus in corpora if corpus.source == "hub"] or None,
        language=sorted({corpus.language for corpus in corpora if corpus.language}) or None,
        **licence,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["continued-pretraining", "domain-adaptation", *(["merge"] if merge else [])],
        eval_results=evaluation_results(mine, labels, config.evaluate.seed),
    )


def _scores_section(
    name: str, config: Config, rows: list[Row], evaluations: Sequence[dict[str, Any]]
) -> Iterator[str]:
    """The section about scores: benchmarks, how they were made, held-out text. Arguments as in model_card."""
    labels = {task: settings.label for task, settings in config.evaluate.tasks.items()}
    yield from _scores([row for row in rows if row["run"] == name], labels)
    yield from [scoring_facts(evaluations)] if evaluations else []
    roles = dict.fromkeys(config.domain_and_general, "general") | {config.domain: "domain"}
    yield from held_out_markdown(rows, roles)


def _what_it_is(title: str, config: Config, run: Run, tokens: int, last: int) -> str:
    trained = f"{tokens:,} tokens of continued pre-training"
    if run.greedy:
        names = ", ".join(_summand_text(model, title, config) for model in run.merge)
        return (
            f"This is the mean, weight by weight, of those among {names} that lower the loss on held-out "
            f"text of {config.domain} (a greedy soup, Wortsman et al. 2022). {trained} went into them; it "
            "was not trained itself."
        )
    if run.merge:
        parts = [
            f"{share:g} times {_summand_text(model, title, config)}" for model, share in run.merge.items()
        ]
        return (
            f"This is a sum of models, weight by weight: {' + '.join(parts).replace('+ -', '- ')}. {trained} "
            "went into it; it was not trained itself."
        )
    return f"This is {title} after {trained}" + (
        f", the last {last:,} of them from the model of the run {run.start_from} on."
        if tokens > last
        else "."
    )


def _title(source: BaseSource) -> str:
    """A model's name, without paths of the user's disk."""
    named = hub_repository(source) or source.label
    return named or ("a local model" if source.source == "local" else model_name(source.model_dump()))


def _summand_text(model: str, title: str, config: Config) -> str:
    """What a summand is, in words."""
    if model in config.reference_models:
        return _title(config.reference_models[model])
    return f"the run {model}" if config.budgets.get(split_point(model)[0]) else title


def _scores(rows: list[Row], labels: dict[str, str]) -> list[str]:
    """A table of benchmarks with what it doesn't show."""
    lines = [
        "| task | metric | items | base model | this model | difference | 95 % CI | p |",
        "| --- | --- | ---: | ---: | ---: | ---: | :---: | ---: |",
    ]
    tested = [row for row in rows if not is_held_out(row)]
    lines += [f"| {' | '.join(_score_cells(row, labels))} |" for row in tested if row["score"] is not None]
    note = (
        f"{_shots(tested)}, compared with the base model on the same items: the interval is of the "
        "difference, p of the exact McNemar test, for the average of random sign flips; neither is adjusted "
        "for the number of tests. Where the interval holds zero, the difference may be chance."
    )
    if any(row["test"] == SIGN_FLIPS and row["task"] != AVERAGE for row in tested):
        note += " Where items aren't right or wrong, p is that of random sign flips as well."
    if any(not row["test"] for row in tested):
        note += " Without p: the metric is computed from all items at once, and has no test."
    if any(not row["higher_is_better"] for row in tested):
        note += f" {LOWER}: lower is better."
    if any(row["items_of_full"] and row["n"] < row["items_of_full"] for row in rows):
        note += " Only a random subset of the items was scored, so these aren't leaderboard numbers."
    return ["\n".join(lines), note]


def _score_cells(row: Row, labels: dict[str, str]) -> list[str]:
    label = "**Average** of the shown metrics" if row["task"] == AVERAGE else labels[row["task"]]
    metric = "" if row["task"] == AVERAGE else row["metric"]
    low, high, p = row["difference_ci_low"], row["difference_ci_high"], row["mcnemar_p"]
    return [
        label if row["higher_is_better"] else f"{label} {LOWER}",
        metric,
        f"{row['n']:,} of {row['items_of_full']:,}",
        "" if row["base_score"] is None else f"{row['base_score']:.4f}",
        f"{row['score']:.4f}",
        "" if row["difference"] is None else f"{row['difference']:+.4f}",
        "" if low is None else f"{low:+.4f} to {high:+.4f}",
        "" if p is None else f"{p:.3f}",
    ]


def _shots(rows: list[Row]) -> str:
    counts = {row["shots"] for row in rows if row["task"] != AVERAGE}
    if counts <= {0}:
        return "Zero-shot"
    named = [f"{row['task']} {row['shots']}" for row in rows if row["shots"]]
    return f"Zero-shot but for worked examples before each question ({', '.join(dict.fromkeys(named))})"


def _source(corpus: Corpus) -> str:
    """Where a corpus comes from, without paths of the user's disk: the card is made to be published."""
    if corpus.source == "hub":
        address = f"https://huggingface.co/datasets/{corpus.repo}"
        return f"[{corpus.repo}]({address}), revision `{corpus.revision}`"
    if corpus.source == "documentation":
        return f"documentation of {', '.join(package_facts(name)[0] for name in corpus.packages)}"
    if corpus.source == "package":
        return f"files of the Python package {corpus.package} {corpus.version}"
    return "own files"


def _corpora(trained: dict[str, list[str]], config: Config) -> str:
    """A table of the corpora of each run that the model went through, by the run's mixtures."""
    lines = ["| corpus | share of the tokens | source | licence |", "| --- | ---: | --- | --- |"]
    for run, mixtures in trained.items():
        for mixture in mixtures:
            where = f" (run {run})" if len(trained) > 1 else ""
            where += f" (stage {mixture})" if len(mixtures) > 1 else ""
            for name, share in config.mixtures[mixture].items():
                corpus = config.corpora[name]
                licence = corpus.license or "not stated"
                lines.append(f"| {name}{where} | {100 * share:g} % | {_source(corpus)} | {licence} |")
    return "\n".join(lines)


def _packages(corpora: Iterable[Corpus]) -> list[str]:
    """The licences of documented packages, if there are any."""
    names = [name for corpus in corpora if corpus.source == "documentation" for name in corpus.packages]
    return ["Licences as the packages' metadata state them:", package_licences(names)] if names else []


def _trainings(summaries: list[dict[str, Any]], adds_bos: bool, config: Config) -> Iterator[str]:
    """Yield a table for each run, below its name if there are several."""
    for summary in summaries:
        yield from [f"### {summary['run']}"] if len(summaries) > 1 else []
        yield _training(summary, adds_bos, config)


def _training(summary: dict[str, Any], adds_bos: bool, config: Config) -> str:
    """A table of how one run was trained."""
    settings, loss = summary["settings"], summary["final_loss"]
    mixtures = dict.fromkeys(stage["mixture"] for stage in summary["stages"])
    orders = ", ".join(str(config.packing_settings(mixture).seed) for mixture in mixtures)
    facts = {
        "tokens": f"{summary['tokens']:,}",
        "sequences": f"{summary['sequences']:,} of {summary['sequence_length']:,} tokens",
        "documents": "after BOS, and each ended by EOS" if adds_bos else "each ended by EOS",
        "steps": f"{summary['steps']:,} of {summary['global_batch']:,} sequences",
        "optimizer": f"AdamW, β₁ {settings['beta1']:g}, β₂ {settings['beta2']:g}, "
        f"weight decay {settings['weight_decay']:g}",
        "learning rate": f"{settings['learning_rate']:g}, {settings['schedule'].replace('_', ' ')}, "
        f"warmup over {summary['warmup_steps']:,} steps",
        "gradient clipping": f"norm at most {settings['gradient_clip']:g}",
        "seeds": f"training {settings['seed']}, order of the sequences {orders}",
        "precision": settings["precision"],
        "engine": f"{summary['engine']}, {summary['processes']} processes ({summary['device']})",
        "last training loss": "not known" if loss is None else f"{loss:.4f} nats per token",
        "parameters": count_label(summary["parameters"]),
    }
    if origin := summary.get("provenance"):
        where = f" of {config.release.code}" if config.release.code else ""
        facts["code"] = f"commit `{origin['git_commit']}`{where}"
        facts["versions"] = ", ".join(
            f"{package} {version}"
            for package, version in origin["versions"].items()
            if package in ("python", "torch", "transformers")
        )
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items())])


def _licence(title: str, stated: str | None, file: str | None, summands: list[BaseSource]) -> str:
    if not stated:
        return (
            f"**Not known.** The licence of {title} isn't stated where the workflow could read it. "
            "Find it out, and set `base.license`, before this model is passed on."
        )
    terms = f"The weights derive from {title} and stay under its licence: {stated}."
    if file:
        terms += f" Its text is in the file `{file}` beside this card."
    else:
        terms += " Its text isn't beside this card: put it there as `LICENSE` before the model is passed on."
    for source in summands:
        terms += f" They also derive from {_title(source)}: {source.license or 'its licence is not stated'}."
    return terms + " The licences of the training text are in the table above."
