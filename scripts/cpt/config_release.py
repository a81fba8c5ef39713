"""The section `release`: what released models come with, and where `snakemake push` uploads them."""

import re
from collections.abc import Collection
from datetime import date
from typing import Any

from pydantic import Field, field_validator, model_validator

from cpt.config_errors import require_known
from cpt.config_sections import Revision, Section
from cpt.config_values import Name, PathText
from cpt.gguf_types import GgufType

RUN = "{run}"  # placeholder for a run's name in release.repo


class Release(Section):
    """What the folders in released/ hold beside weights and card, and where they are uploaded."""

    name: Name | None = Field(
        None, description="of the release that `snakemake freeze` keeps, such as 2026-11"
    )
    compare_to: PathText | None = Field(
        None,
        description="a frozen release, by its name or its folder's path: compare.md has its models, these "
        "and the base model on the same text and items",
    )
    gguf: list[GgufType] = Field([], description="files for llama.cpp and Ollama; [] for none")
    code: str | None = Field(None, description="address of the repository with this workflow, for the card")
    repo: str | None = Field(
        None, description="to which `snakemake push` uploads: OWNER/NAME on the hub; {run}: the run's name"
    )
    private: bool = Field(True, description="of repositories that `snakemake push` creates")
    branch: Revision = Field(
        "main", description="that `snakemake push` commits to; created if it isn't there"
    )
    runs: list[Name] | None = Field(
        None, description="that `snakemake push` uploads and `freeze` keeps; null: all released ones"
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_bare_name(cls, section: Any) -> Any:
        """Accept a release's name alone, as in `release: 2026-11`; YAML reads a complete date as a date."""
        return {"name": section} if isinstance(section, str | date) else section

    @field_validator("name", "compare_to", mode="before")
    @classmethod
    def _convert_date(cls, value: Any) -> Any:
        return str(value) if isinstance(value, date) else value

    @field_validator("gguf")
    @classmethod
    def _drop_duplicates(cls, kinds: list[GgufType]) -> list[GgufType]:
        return list(dict.fromkeys(kinds))

    @field_validator("repo")
    @classmethod
    def _form(cls, repo: str | None) -> str | None:
        if repo is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", repo.replace(RUN, "run")):
            raise ValueError(f"expected OWNER/NAME, such as my-team/smollm2-{RUN}, but {repo!r} was given")
        return repo


def check_release(release: Release, released: Collection[str]) -> None:
    """Raise ValueError if a release is compared with itself, a run in `runs` doesn't exist, or several runs
    would go to one repository."""
    if release.name is not None and release.compare_to == release.name:
        raise ValueError(f"release.compare_to: {release.name} is this release itself; name an earlier one")
    for run in release.runs or []:
        require_known(run, released, "release.runs", "runs that have a model of their own")
    pushed = released if release.runs is None else release.runs
    if release.repo is not None and RUN not in release.repo and len(pushed) > 1:
        raise ValueError(
            f"release.repo: {', '.join(pushed)} would all go to {release.repo}; put {RUN} into the name, or "
            "set release.runs to one of them"
        )
