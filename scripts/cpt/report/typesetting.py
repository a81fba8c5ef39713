"""Compile the paper with typst: results are laid out in one folder that the template reads."""

import shutil
import tempfile
from pathlib import Path

import typst
import yaml

from cpt.errors import UserError
from cpt.files import atomic, write_json
from cpt.report.labels import model_name


def lay_out(
    folder: Path,
    files: dict[str, Path],
    optional: dict[str, Path | None],
    lists: dict[str, list[Path]],
) -> None:
    """Copy everything that the template reads into `folder`, and list what is there in inputs.json.

    `files` maps a name in the folder to its source. `optional` files keep their extension and appear in
    inputs.json under their key, or as null; `lists` become numbered files, listed likewise.
    """
    inputs: dict[str, object] = {}
    for name, source in files.items():
        shutil.copyfile(source, folder / name)
    for name, source in optional.items():
        inputs[name] = f"{name}{source.suffix}" if source else None
        if source:
            shutil.copyfile(source, folder / f"{name}{source.suffix}")
    for name, sources in lists.items():
        inputs[name] = [f"{name}-{number}{source.suffix}" for number, source in enumerate(sources)]
        for copy, source in zip(inputs[name], sources, strict=True):
            shutil.copyfile(source, folder / copy)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    inputs["model"] = model_name(config["base"])
    write_json(folder / "inputs.json", inputs)


def typeset(
    output: Path,
    files: dict[str, Path],
    optional: dict[str, Path | None],
    lists: dict[str, list[Path]],
) -> None:
    """Compile `paper.typ` among `files` to the PDF `output`; the arguments are those of `lay_out`.

    Only typst's own fonts are used and no date is set, so equal inputs give equal bytes. Raises
    UserError with typst's message if the template or a result doesn't fit.
    """
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), files, optional, lists)
        try:
            pdf = typst.compile(
                f"{folder}/paper.typ", root=folder, format="pdf", ignore_system_fonts=True, timestamp=0
            )
        except typst.TypstError as error:
            raise UserError(f"{files['paper.typ']}: typst can't compile it:\n{error.diagnostic}") from None
    with atomic(output) as temporary:
        temporary.write_bytes(pdf)
