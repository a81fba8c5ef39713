"""The four sources of a base model."""

import tempfile
from pathlib import Path

from cpt.config_sections import BaseSource, LocalModel, PackageModel, RandomModel
from cpt.errors import UserError
from cpt.model.folder import load_folder
from cpt.model.hub import snapshot
from cpt.model.loaded import Loaded
from cpt.model.packed import load_gguf
from cpt.model.tiny import load_random
from cpt.model.wheels import extract


def load_source(source: BaseSource, wheel: Path | None) -> Loaded:
    """The model that the config's `base` section describes; `wheel` is needed for source: package."""
    if isinstance(source, RandomModel):
        return load_random(source)
    if isinstance(source, LocalModel):
        return load_folder(Path(source.path))
    with tempfile.TemporaryDirectory(prefix="base-model-") as temporary:
        if isinstance(source, PackageModel):
            if wheel is None:
                raise UserError("--wheel is missing: source: package reads the model from a wheel")
            return load_gguf(extract(wheel, source.file, Path(temporary)))
        folder, facts = snapshot(source.repo, source.revision, Path(temporary))
        loaded = load_folder(folder)
        loaded.facts.update({key: fact for key, fact in facts.items() if fact is not None})
        return loaded
