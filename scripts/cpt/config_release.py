"""The section `release`: what released models come with, and where `snakemake push` uploads them."""

import re
from collections.abc import Collection

from pydantic import Field, field_validator

from cpt.config_errors import require_known
from cpt.config_sections import Name, Revision, Section
from cpt.gguf_types import GgufType

RUN = "{run}"  # stands for a run's name in release.repo


class Release(Section):
    """What the folders in released/ hold beside weights and card, and where they are uploaded."""

    gguf: list[GgufType] = Field([], description="files for llama.cpp and Ollama; [] for none")
    repo: str | None = Field(
        None, description="of `snakemake push`: OWNER/NAME on the hub; {run} in it is the run's name"
    )
    private: bool = Field(True, description="of repositories that `snakemake push` creates")
    branch: Revision = Field(
        "main", description="that `snakemake push` commits to; created if it isn't there"
    )
    runs: list[Name] | None = Field(
        None, description="that `snakemake push` uploads; null: all released ones"
    )

    @field_validator("gguf")
    @classmethod
    def _once(cls, kinds: list[GgufType]) -> list[GgufType]:
        return list(dict.fromkeys(kinds))

    @field_validator("repo")
    @classmethod
    def _form(cls, repo: str | None) -> str | None:
        if repo is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", repo.replace(RUN, "run")):
            raise ValueError(f"expected OWNER/NAME, such as my-team/smollm2-{RUN}, but {repo!r} was given")
        return repo


def check_release(release: Release, released: Collection[str]) -> None:
    """Raise ValueError if a run to be uploaded isn't one, or several would go to one repository."""
    for run in release.runs or []:
        require_known(run, released, "release.runs", "runs that have a model of their own")
    pushed = released if release.runs is None else release.runs
    if release.repo is not None and RUN not in release.repo and len(pushed) > 1:
        raise ValueError(
            f"release.repo: {', '.join(pushed)} would all go to {release.repo}; put {RUN} into the name, or "
            "set release.runs to one of them"
        )
