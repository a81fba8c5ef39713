"""What a card says of the base model, documented packages, how scores were made, and their limits."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

UNQUANTISED = {"F32", "F16", "BF16"}
PYTHON = "python"  # the name of the standard library among documented packages
# A licence whose text doesn't name its holder; this package contains the text.
APACHE, APACHE_PACKAGE = "apache-2.0", "huggingface_hub"
LICENSE = "LICENSE"


def quantised_from(report: dict[str, Any]) -> list[str]:
    """The quantised types that the base model's weights were stored in; none if they weren't quantised.

    `report` is models/base.json.
    """
    return [kind for kind in report.get("weights_were", ()) if kind not in UNQUANTISED]


def base_facts(title: str, note: str, report: dict[str, Any]) -> str:
    """What the base model is, in sentences: how its weights were stored, whether it was tuned to follow
    instructions.

    Args:
        title: its name.
        note: labels.base_note of it.
        report: models/base.json.
    """
    sentences = [f"The base model, {title}, is {note}."] if note else []
    if kinds := quantised_from(report):
        sentences.append(
            f"Its weights were stored as {', '.join(kinds)}, so they differ from the published ones by "
            "rounding, and so do all scores of the base model here."
        )
    if report.get("chat_templates"):
        sentences.append(
            "Unless the training data below are conversations, no tuning to follow instructions came after "
            "this training, so expect worse answers in a chat than the base model's."
        )
    else:
        sentences.append("It has no chat template: it continues text and doesn't answer instructions.")
    return " ".join(sentences)


def uses(domain: str) -> str:
    """What the model is for and what it isn't for."""
    return (
        "Intended: research on continued pre-training, and as a start for fine-tuning on text like the "
        f"corpus {domain}. Not intended: decisions about people, advice on health, law or money, or any use "
        "without a person who checks the answers."
    )


def limits(languages: Sequence[str], report: dict[str, Any]) -> str:
    """The model's limits as a list. Arguments as in `base_facts`, with the languages of its training text."""
    sentence = f"Its training text here is in: {', '.join(languages)}. " if languages else ""
    lines = [
        f"{sentence}Other languages are as the base model has them, or worse.",
        "It states false things fluently, and nothing here measures how often.",
        "Biases, personal data and harmful text of the base model's training text were neither measured nor "
        "removed; nor were those of the corpora below, beyond the filters of the workflow.",
        "No safety tuning followed this training, and it may have undone some of the base model's.",
        "The scores below are of a few public benchmarks that the base model may have seen in training.",
    ]
    if quantised_from(report):
        lines.append("Differences are from the base model's dequantised weights, not the published ones.")
    return "\n".join(f"- {line}" for line in lines)


def scoring_facts(evaluations: Sequence[dict[str, Any]]) -> str:
    """How the scores were made: versions of lm-eval and of the tasks, subset and seed, BOS, precision.

    `evaluations` are the run's {task}.json.
    """
    if not evaluations:
        return ""
    harness = ", ".join(sorted({each["lm_eval"] for each in evaluations}))
    tasks = ", ".join(f"{each['task']} {'/'.join(each['task_versions'])}" for each in evaluations)
    settings = evaluations[0]["settings"]
    subset = "all items of each task"
    if settings["items"] is not None:
        subset = f"a fixed random subset of at most {settings['items']:,} items of each task"
        subset += f" (seed {settings['seed']})"
    bos = "after" if settings["add_bos_token"] else "without"
    return (
        f"Scored with lm-eval {harness} on {subset}, {bos} BOS, in {settings['precision']}. "
        f"Versions of the tasks: {tasks}."
    )


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def package_facts(name: str) -> tuple[str, str]:
    """Returns (name with version, licence) of an installed package by its import name, from its metadata.

    The licence is the License-Expression, else the classifiers, else the License field; `not stated` if it is
    missing or longer than a line. The standard library has Python's version and licence.
    """
    if name == PYTHON:
        from platform import python_version

        return f"Python {python_version()}", "PSF-2.0"
    distribution = next(iter(_distributions().get(name, [])), None)
    if distribution is None:
        return f"{name} (not installed here)", "not stated"
    about = metadata.metadata(distribution)
    licence = about.get("License-Expression")
    if not licence:
        marks = [each for each in about.get_all("Classifier") or [] if each.startswith("License ::")]
        licence = " or ".join(mark.rpartition(" :: ")[2] for mark in marks) or about.get("License") or ""
    licence_name = licence.strip() if len(licence.strip().splitlines()) == 1 else "not stated"
    return f"{distribution} {metadata.version(distribution)}", licence_name


def package_licences(names: Iterable[str]) -> str:
    """A table of documented packages: version and licence of each."""
    rows = [" | ".join(package_facts(name)) for name in names]
    return "\n".join(["| package | licence |", "| --- | --- |", *(f"| {row} |" for row in rows)])


def licence_file(identifier: str, folder: Path) -> str | None:
    """The name of the licence file in `folder`; writes Apache's if it is missing. None for other licences.

    `identifier` is the hub's. Other licences name their holder, which only the base model's folder states.
    """
    for path in sorted(folder.iterdir()):
        if path.name.upper().startswith((LICENSE, "LICENCE", "COPYING")):
            return path.name
    text = metadata.distribution(APACHE_PACKAGE).read_text(f"licenses/{LICENSE}")
    if identifier != APACHE or text is None:
        return None
    (folder / LICENSE).write_text(text, encoding="utf-8")
    return LICENSE
