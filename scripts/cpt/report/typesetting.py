"""Compile the paper with typst: results are laid out in one folder that the template reads."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import typst
import yaml

from cpt.errors import UserError
from cpt.files import atomic, write_json
from cpt.report.labels import base_note, model_name


def lay_out(
    folder: Path, files: dict[str, Path], lists: dict[str, Sequence[Path]], figures: Iterable[Path]
) -> None:
    """Copy everything that the template reads into `folder`, and write inputs.json, which lists the files.

    Args:
        folder: an empty one.
        files: by their name in the folder; config.yaml, base.json and paper.typ are among them.
        lists: by their key in inputs.json; copied as numbered files.
        figures: listed in inputs.json under `figures`, each by its name without the suffix.
    """
    for name, source in files.items():
        shutil.copyfile(source, folder / name)
    inputs: dict[str, object] = {"figures": {}}
    for source in figures:
        shutil.copyfile(source, folder / source.name)
        inputs["figures"][source.stem] = source.name
    for key, sources in lists.items():
        inputs[key] = [f"{key}-{number}{source.suffix}" for number, source in enumerate(sources)]
        for name, source in zip(inputs[key], sources, strict=True):
            shutil.copyfile(source, folder / name)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    inputs["model"] = model_name(config["base"])
    report = json.loads((folder / "base.json").read_text(encoding="utf-8"))
    inputs["base_note"] = base_note(config["base"], report)
    inputs["study"] = "claims.csv" in files  # whether the original study is shown beside the results
    write_json(folder / "inputs.json", inputs)


def typeset(
    pdf: Path, files: dict[str, Path], lists: dict[str, Sequence[Path]], figures: Iterable[Path]
) -> None:
    """Compile `paper.typ` among `files` to a PDF; the other arguments are those of `lay_out`.

    Only typst's own fonts are used and no date is set, so equal inputs give equal bytes. Raises
    UserError with typst's message if the template or a result doesn't fit.
    """
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), files, lists, figures)
        try:
            content = typst.compile(
                f"{folder}/paper.typ", root=folder, format="pdf", ignore_system_fonts=True, timestamp=0
            )
        except typst.TypstError as error:
            raise UserError(f"{files['paper.typ']}: typst can't compile it:\n{error.diagnostic}") from None
    with atomic(pdf) as temporary:
        temporary.write_bytes(content)
