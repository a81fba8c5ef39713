"""An RO-Crate of an experiment's results (https://w3id.org/ro/crate), so that repositories can read them.

It follows the profile Workflow Run RO-Crate (https://w3id.org/ro/wfrun/workflow/0.5): the workflow is part of
the crate, and one action made the results with it, from the base model, the corpora and the config.
"""

import mimetypes
from collections.abc import Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rocrate.rocrate import ROCrate

from cpt.files import sha256_of

# The profiles that a Workflow Run RO-Crate states, with name and version.
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}

# The results that the crate lists, with their descriptions; folders have a name only.
DESCRIBED = {
    "config.yaml": "the merged config that made these results",
    "provenance.json": "config, code, data, packages, machines, time and estimated energy",
    "paper.pdf": "the paper",
    "table1.*": "Table 1",
    "scores.csv": "all scores",
    "comparisons.csv": "differences between runs",
    "letters.csv": "letters answered",
    "answers.*": "likelihood of right and wrong answers, and what it shows",
    "touched.csv": "scores with and without items that are in the training text",
    "exam.csv": "the domain's own exam",
    "summary.txt": "what moved",
    "claims.csv": "the paper's claims: its own arithmetic, and their replication",
    "runs.csv": "training runs",
    "data.csv": "documents and tokens after each data stage",
    "seeds.csv": "spread between seeds",
    "figures/*.svg": "a figure",
    "corpora/statistics.csv": "documents, bytes and tokens by stage and rule",
    "corpora/drops.md": "what was dropped, with examples",
    "runs/*/run.json": "summary of a training run",
    "runs/*/metrics.csv": "one row per training step",
    "preregistration.json": "question, prediction and plan, on record before training",
    "bits_per_byte.*": "bits per byte of held-out text",
    "evaluations/*/*.json": "scores of a run on a task, or its bits per byte on a corpus",
    "evaluations/*/*.samples.jsonl": "a run's answers, item by item",
    "evaluations/*/*.documents.csv": "a run's loss on each held-out document",
    "released/*": "a trained model with its card",
}


def _inputs(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The base model and each corpus as contextual entities, without paths of the disk."""
    corpora = {}
    for shard in record["data"]:
        source = shard["source"]
        packages = source.get("packages") or [source.get("package") or "own files"]
        name = source.get("repo") or ", ".join(packages)
        corpora[shard["corpus"]] = {
            "@id": f"#corpus-{shard['corpus']}",
            "@type": "CreativeWork",
            "name": f"corpus {shard['corpus']}: {name}",
            "version": shard["revision"] or "",
        }
    base = record["base_model"]["source"]
    name = base.get("repo") or base.get("label") or base.get("package") or base["source"]
    model = {
        "@id": "#base-model",
        "@type": "CreativeWork",
        "name": f"base model: {name}",
        "version": base.get("revision") or base.get("version") or "",
    }
    return [model, *corpora.values()]


def _authors(citation: dict[str, Any]) -> list[dict[str, Any]]:
    """The authors of CITATION.cff: persons, or an organization where only a name is given."""
    entities = []
    for number, author in enumerate(citation["authors"], 1):
        person = f"{author.get('given-names', '')} {author.get('family-names', '')}".strip()
        entities.append(
            {
                "@id": author.get("orcid") or f"#author-{number}",
                "@type": "Person" if person else "Organization",
                "name": person or author["name"],
            }
        )
    return entities


def _add(crate: ROCrate, path: Path, relative: str, description: str) -> Any:
    """Describe a file or a folder; returns its entity."""
    if path.is_dir():
        properties = {"name": f"{description}: {path.name}"}
        return crate.add_directory(path, dest_path=f"{relative}/", properties=properties)
    properties = {
        "name": description,
        "encodingFormat": mimetypes.guess_type(path.name)[0] or "text/plain",
        "contentSize": str(path.stat().st_size),
        "sha256": sha256_of(path),
    }
    return crate.add_file(path, dest_path=relative, properties=properties)


def crate_metadata(
    name: str,
    files: Iterable[Path],
    root: Path,
    record: dict[str, Any],
    citation: dict[str, Any],
    workflow: Path,
) -> dict[str, Any]:
    """The content of ro-crate-metadata.json for an experiment's results.

    Args:
        name: of the experiment.
        files: files and folders of the results; those in DESCRIBED are described.
        root: folder of the results, which becomes the crate's root.
        record: as `cpt.report.record.experiment_record` gives it.
        citation: the content of CITATION.cff: authors and licence.
        workflow: the copy of the workflow inside `root`, with its Snakefile.
    """
    crate = ROCrate(version="1.1")  # the version that the profiles are made for
    files = sorted(files)
    ended = max((path.stat().st_mtime for path in files), default=0.0)
    end = datetime.fromtimestamp(ended, UTC).isoformat(timespec="seconds")
    licence = crate.add_jsonld(
        {
            "@id": f"https://spdx.org/licenses/{citation['license']}",
            "@type": "CreativeWork",
            "name": citation["license"],
            "url": f"https://spdx.org/licenses/{citation['license']}",
        }
    )
    authors: Any = [crate.add_jsonld(entity) for entity in _authors(citation)]
    if len(authors) == 1:  # RO-Crate has single values without a list
        (authors,) = authors
    paths = {path.relative_to(root).as_posix(): path for path in files}
    entities = [
        _add(crate, path, relative, description)
        for pattern, description in DESCRIBED.items()
        for relative, path in paths.items()
        if fnmatchcase(relative, pattern)
    ]
    workflow_entity = _workflow(crate, workflow, root, record)
    workflow_entity["license"] = crate.root_dataset["license"] = licence
    workflow_entity["creator"] = crate.root_dataset["author"] = authors
    crate.root_dataset["conformsTo"] = [_profile(crate, identifier) for identifier in PROFILES]
    crate.root_dataset["datePublished"] = end
    crate.name = f"Continued pre-training: {name}"
    crate.description = (
        "Results of the experiment: scores, models, tables, figures, and where they come from. The licence "
        "is that of workflow, tables and figures; models in released/ and corpora have those their cards "
        "state."
    )
    inputs = [crate.add_jsonld(entity) for entity in _inputs(record)]
    crate.root_dataset["mentions"] = _action(crate, name, workflow_entity, authors, inputs, entities, end)
    return crate.metadata.generate()


def _action(
    crate: ROCrate,
    name: str,
    workflow_entity: Any,
    authors: Any,
    inputs: list[Any],
    entities: list[Any],
    end: str,
) -> Any:
    """The run of the workflow that made the described entities from the inputs and the config, by `end`."""
    action = crate.add_jsonld({"@id": "#run", "@type": "CreateAction", "name": f"the experiment {name}"})
    action["description"] = (
        "From raw text to tables, figures and models: corpus, training, evaluation, report."
    )
    action["instrument"] = workflow_entity
    action["agent"] = authors
    settings = [entity for entity in entities if entity.id == "config.yaml"]
    action["object"] = [*settings, *inputs]
    action["result"] = [entity for entity in entities if entity.id != "config.yaml"]
    action["endTime"] = end
    action["actionStatus"] = "http://schema.org/CompletedActionStatus"
    return action


def _workflow(crate: ROCrate, workflow: Path, root: Path, record: dict[str, Any]) -> Any:
    """The Snakefile as the crate's main entity, and the folder with all that it includes."""
    folder = workflow.relative_to(root).as_posix()
    properties = {"name": "the workflow's rules and scripts"}
    crate.add_directory(workflow, dest_path=f"{folder}/", properties=properties)
    properties = {
        "name": "Continued pre-training of small language models",
        "version": ", ".join(record["git_commits"]),
        "encodingFormat": "text/plain",
        "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
        "sha256": sha256_of(workflow / "Snakefile"),
    }
    return crate.add_workflow(
        workflow / "Snakefile",
        dest_path=f"{folder}/Snakefile",
        main=True,
        lang="snakemake",
        lang_version=", ".join(record["packages"].get("snakemake", [])) or None,
        properties=properties,
    )


def _profile(crate: ROCrate, identifier: str) -> Any:
    name, version = PROFILES[identifier]
    return crate.add_jsonld({"@id": identifier, "@type": "CreativeWork", "name": name, "version": version})
