"""An RO-Crate of an experiment's results (https://w3id.org/ro/crate), so that repositories can read them."""

import mimetypes
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rocrate.rocrate import ROCrate

from cpt.files import sha256_of

# What of the results is handed on, and what it is; folders are described by their names alone.
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
    "claims.csv": "the paper's claims: stated, recomputed, measured",
    "runs.csv": "training runs",
    "data.csv": "documents and tokens after each data stage",
    "seeds.csv": "spread between seeds",
    "figures/*.svg": "a figure",
    "corpora/statistics.csv": "documents, bytes and tokens by stage and rule",
    "corpora/drops.md": "what was dropped, with examples",
    "runs/*/run.json": "summary of a training run",
    "runs/*/metrics.csv": "one row per training step",
    "released/*": "a trained model with its card",
}


def _inputs(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The base model and each corpus as contextual entities, without paths of the disk."""
    corpora = {}
    for shard in record["data"]:
        source = shard["source"]
        name = source.get("repo") or ", ".join(source.get("packages", ())) or "own files"
        corpora[shard["corpus"]] = {
            "@id": f"#corpus-{shard['corpus']}",
            "@type": "Dataset",
            "name": f"corpus {shard['corpus']}: {name}",
            "version": shard["revision"] or "",
        }
    base = record["base_model"]["source"]
    name = base.get("repo") or base.get("label") or base.get("package") or base["source"]
    model = {
        "@id": "#base-model",
        "@type": "Dataset",
        "name": f"base model: {name}",
        "version": base.get("revision") or base.get("version") or "",
    }
    return [model, *corpora.values()]


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


def crate_metadata(name: str, files: Iterable[Path], root: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The content of ro-crate-metadata.json for an experiment's results.

    Args:
        name: of the experiment.
        files: files and folders of the results; those in DESCRIBED are described.
        root: folder of the results, which becomes the crate's root.
        record: as `cpt.report.record.experiment_record` gives it.
    """
    crate = ROCrate()
    crate.name = f"Continued pre-training: {name}"
    crate.description = (
        "Results of the experiment: scores, models, tables, figures, and where they come from."
    )
    crate.license = "see the licence of the base model and of each corpus in released/*/README.md"
    by_name = {path.relative_to(root).as_posix(): path for path in sorted(files)}
    entities = [
        _add(crate, path, relative, description)
        for pattern, description in DESCRIBED.items()
        for relative, path in by_name.items()
        if fnmatchcase(relative, pattern)
    ]
    language = crate.add_jsonld(
        {
            "@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
            "@type": "ComputerLanguage",
            "name": "Snakemake",
            "url": "https://snakemake.readthedocs.io",
        }
    )
    workflow = crate.add_jsonld(
        {
            "@id": "#workflow",
            "@type": "SoftwareSourceCode",
            "name": "Continued pre-training of small language models",
            "version": ", ".join(record["git_commits"]),
        }
    )
    workflow["programmingLanguage"] = language
    inputs = [crate.add_jsonld(entity) for entity in _inputs(record)]
    action = crate.add_jsonld({"@id": "#run", "@type": "CreateAction", "name": f"the experiment {name}"})
    action["instrument"] = workflow
    action["object"] = inputs
    action["result"] = entities
    crate.root_dataset["mentions"] = action
    return crate.metadata.generate()
