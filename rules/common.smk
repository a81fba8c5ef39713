# What all rules share: the validated config, paths, and how a script is called.
# No heavy import and no network here: every job parses this again.
import functools
import hashlib
import json
import os
import platform
import re
import shlex
import sys

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError

SCRIPTS = Path(workflow.basedir) / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))

from cpt.config import load
from cpt.config_corpora import unused_text
from cpt.config_merging import merged, with_empty_sections
from cpt.config_runs import split_point
from cpt.config_sections import TEXT_KEYS
from cpt.config_robustness import grid_of, planned_settings
from cpt.config_similarity import scored_corpora, similar_corpora
from cpt import locks, planning, sizes, slurm, stage
from cpt.corpus.own_files import count_files, matching_files
from cpt.errors import UserError
from cpt.files import sha256_of
from cpt.expected_scores import expected_model, tasks_of
from cpt.frozen import compared_runs, frozen_name, holds, read_record, release_folder
from cpt.gguf_types import require_architecture
from cpt.prompts import read_prompts
from cpt.report.labels import model_name
from cpt.stage import Untracked
from cpt.terminal import show_mistakes_plainly

planning.plan_fast()
locks.keep_locks_of_others()
show_mistakes_plainly(logger)
EXPECTED_SCORES = Path(workflow.basedir) / "paper" / "expected_scores.csv"
PAPER, *OVERLAYS = map(load_configfile, [f"{workflow.basedir}/config.yaml", *workflow.overwrite_configfiles])
OVERLAYS.append(workflow.config_settings.config)
try:
    cfg = load(with_empty_sections(config, merged(*OVERLAYS)), [PAPER, *OVERLAYS])
    for unused in unused_text(cfg, OVERLAYS) if workflow.is_main_process else ():
        logger.warning(f"warning: {unused}")
    # The model whose published scores the base model must reach before training ("" for none).
    EXPECTED_MODEL = expected_model(cfg.base, EXPECTED_SCORES)
    # The models of the release that these results are compared with, by the name under which they are scored.
    COMPARED_RELEASE = release_folder(cfg.results, cfg.release.compare_to or "NAME")
    record = read_record(COMPARED_RELEASE) if cfg.release.compare_to else None
    FROZEN = {
        frozen_name(COMPARED_RELEASE, run): f"{COMPARED_RELEASE}/{run}"
        for run in (compared_runs(record, cfg.released_runs) if record else [])
    }
except UserError as error:
    raise WorkflowError(str(error))

R = cfg.results
PYTHON = "python" if workflow.deployment_settings.deployment_method else shlex.quote(sys.executable)
RUNS = list(cfg.runs)
TASKS = list(cfg.evaluate.tasks)
BASE_RUN = next(run for run, tokens in cfg.budgets.items() if not tokens)
EXPECTED_TASKS = [
    task for task in tasks_of(EXPECTED_MODEL, EXPECTED_SCORES) if task in cfg.evaluate.benchmark_columns
]
FURTHER_TASKS = cfg.evaluate.further_tasks
USED_MIXTURES = list(dict.fromkeys(mixture for run in cfg.trained_runs for mixture in cfg.mixtures_of(run)))


def shards_in_use(corpus):
    """Returns a corpus's number of shards: at most one per file, if all are on this disk. Jobs get the same number."""
    source, shards = cfg.corpora[corpus], cfg.shards_of(corpus)
    if source.source != "local" or "://" in "".join(source.files):
        return shards
    return count_files(source.own_files["files"], shards) or shards


SHARDS = {name: shards_in_use(name) for name in cfg.corpora}
CORPORA = {name: SHARDS[name] for name in cfg.used_corpora}
SIMILAR = similar_corpora(cfg.corpora, cfg.domain)
SCORED = scored_corpora(cfg.corpora)
CONVERSATIONS = {name for name, corpus in cfg.corpora.items() if corpus.conversations}
ON_GPU = any(run.gpus for run in cfg.runs.values())


wildcard_constraints:
    corpus="|".join(cfg.corpora),
    mixture="|".join(cfg.all_mixtures),
    run="|".join(map(re.escape, [*RUNS, *FROZEN])),
    task="|".join(map(re.escape, TASKS)),
    shard=r"\d{5}",


# The shell line of every stage. rules/stages.smk turns inputs, outputs, wildcards and params into options.
STAGE = "{params} --log={log:q}"
# The shell line of a stage with several processes: their messages go to the log, their progress to the terminal.
LAUNCHED_STAGE = f": >{{log:q}}; exec 3>&2; CPT_TERMINAL=/proc/$$/fd/3 exec {STAGE} >>{{log:q}} 2>&1"
# The script of each rule that isn't named after its script.
SCRIPT_OF = {}
# Scripts that a rule's script starts as processes: their code counts too, and imports don't lead to it.
STARTS = {}
# Files of the project that stages read: their content counts like code, their modification time doesn't.
PROJECT_FILES = set()


def project_file(path):
    """Make a file of the project an input."""
    PROJECT_FILES.add(file := str(Path(workflow.basedir) / path))
    return ancient(file)


def figure_files(name, label, category="3 Figures"):
    """Returns a figure's files in all formats. Snakemake's report shows one of them, sorted by category and label."""
    *others, shown = (f"{R}/figures/{name}.{kind}" for kind in ("pdf", "png", "svg"))
    caption = f"../paper/captions/{name}.rst"
    return [*others, report(shown, caption=caption, category=category, labels={"shows": label})]


def caption_of(page):
    """Returns what a page shows, in words, from the file named after the page."""
    name = "card" if page.startswith("card-") else page
    return (Path(workflow.basedir) / "paper" / "captions" / f"{name}.rst").read_text().strip()


def shards_of(corpora, pattern):
    """Expand a pattern with {corpus} and {shard} over all shards of these corpora."""
    return [
        pattern.format(corpus=corpus, shard=f"{shard:05d}")
        for corpus in corpora
        for shard in range(SHARDS[corpus])
    ]


def all_shards(pattern):
    """Returns all shards' files as an input. It is a function, as every job parses the rules and few need the list."""
    return lambda wildcards: shards_of(CORPORA, pattern)


def model_of(run):
    """Returns the model folder of a run or of a release's model; a run without tokens is the base model."""
    if run in FROZEN:
        return FROZEN[run]
    return f"{R}/models/{run}" if cfg.budgets[run] else f"{R}/models/base"


def planned_experiment():
    """Returns what a plan needs: config, size of own files, the base model if it is imported already."""
    settings = cfg.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    for corpus, source in settings["corpora"].items():
        source |= {"shards": SHARDS[corpus]} if source.get("shards") else {}
    return {
        "config": settings,
        "local_bytes": {
            corpus: sum(Path(path).stat().st_size for path in local_files(corpus))
            for corpus in cfg.used_corpora
        },
        "model": f"{R}/models/base" if Path(f"{R}/models/base.json").is_file() else None,
    }


def files_of(source):
    """Returns the files of a model on this disk; the import reports missing ones. Snakemake reads braces in a name as
    wildcards: files with such names are imported, but Snakemake doesn't notice their changes."""
    files = Path(source.path).rglob("*") if source.source == "local" else []
    return sorted(str(path) for path in files if path.is_file() and "{" not in str(path))


def one_of(names):
    """Returns a wildcard constraint: one of these names; without names, it matches nothing."""
    return "|".join(names) or "(?!)"


@functools.cache
def local_files(corpus):
    """Returns a corpus's files on this disk, in order. Patterns without files and files without reader are errors."""
    source = cfg.corpora[corpus]
    try:
        files = {
            file
            for key, patterns in source.own_files.items()
            for file in matching_files(patterns, f"corpora.{corpus}.{key}", source.source == "local")
        }
    except UserError as error:
        raise WorkflowError(str(error))
    return sorted(files)


def shard_files(wildcards):
    """Returns the files on this disk that a shard is made from: its share of own files, or all if some are URLs."""
    source, files = cfg.corpora[wildcards.corpus], local_files(wildcards.corpus)
    if source.source != "local" or "://" in "".join(source.files):
        return files
    return files[int(wildcards.shard) :: SHARDS[wildcards.corpus]]


def own_files_of(wildcards):
    """A shard's own files as inputs: all but those with braces in their names, which Snakemake reads as wildcards."""
    return [file for file in shard_files(wildcards) if "{" not in file]


def source_of(corpus):
    """Returns a corpus's source without the keys that don't change a raw shard."""
    source = cfg.corpora[corpus]
    unimportant = {"where": {}, "license": None, "language": None, "held_out_share": None}
    if source.source == "hub":
        unimportant |= {"shards": None, "tokens_per_shard": None}
    return source.model_copy(
        update={key: value for key, value in unimportant.items() if hasattr(source, key)}
    )


def where_of(corpus):
    """Returns a corpus's bounds on columns of numbers, on language and on what is computed from the text."""
    return getattr(cfg.corpora[corpus], "where", {})


def text_column(corpus):
    """The column of a corpus's raw shards that holds the text."""
    return getattr(cfg.corpora[corpus], "text_column", "text")


def number_columns(corpus):
    """Returns the columns of numbers to keep in a raw shard: those with bounds; a hub's parquet file stays whole."""
    source = cfg.corpora[corpus]
    columns = sorted(set(where_of(corpus)) - set(TEXT_KEYS))  # these are computed from the text
    return columns if source.source != "hub" or not source.files.endswith(".parquet") else []


def source_environment(wildcards):
    """Returns what a shard is made from beyond its inputs. For documentation: Python's version and a digest of the
    lock, as it changes with the installed packages. For files with braces in their names: their digests."""
    if cfg.corpora[wildcards.corpus].source == "documentation":
        lock = (Path(workflow.basedir) / "envs" / "requirements.txt").read_bytes()
        return f"{platform.python_version()}-{hashlib.sha256(lock).hexdigest()[:16]}"
    return "".join(sha256_of(file)[:16] for file in shard_files(wildcards) if "{" in file)


def wheel_of(source):
    """The wheel that a source of kind `package` needs."""
    return f"{R}/packages/{source.package}-{source.version}.whl" if source.source == "package" else []


def unlabelled(source):
    """Returns a model's source without its names and descriptions: a change of these imports nothing again."""
    return source.model_copy(update={"label": None, "license": None, "expected_scores": None})


def registration(run):
    """Returns the plan on record, which training waits for. Proxies train before it: predictions rest on them."""
    return [f"{R}/preregistration.json"] if cfg.preregister and run in cfg.trained_runs else []


def start_model(run):
    """The model that a run starts from."""
    start_from, _ = split_point(cfg.run_of(run).start_from or "")
    return model_of(start_from) if start_from else f"{R}/models/base"


def packed_for(run):
    """The packed mixtures that a run trains on, in their order."""
    return [f"{R}/packed/{mixture}" for mixture in cfg.mixtures_of(run)]


def reference_model(name):
    """Returns the model folder of a name: a run, RUN@TOKENS, the base model, or one of `reference_models`."""
    name, _ = split_point(name)
    return model_of(name) if name in cfg.runs else f"{R}/models/{name}"


def reference_losses_for(run):
    """The reference's losses on each mixture that a run trains on, if it selects targets."""
    return [f"{R}/reference_losses/{'/'.join(reference)}" for reference in cfg.references_of(run)]


def largest_user(wildcards):
    """Returns the run with the most processes of those that select targets by these reference losses."""
    wanted = (wildcards.mixture, wildcards.reference, wildcards.scope)
    users = [run for run in cfg.trained_runs if wanted in cfg.references_of(run)]
    return cfg.runs[max(users, key=lambda run: cfg.runs[run].processes)]


def held_out_for(run):
    """The held-out tokens that a run's loss is measured on while it trains, for each measured corpus."""
    settings = cfg.train_settings(run).held_out
    corpora = cfg.measured_corpora if settings else []
    return [f"{R}/corpora/{corpus}/held_out.{settings.tokens}.npz" for corpus in corpora]


def tokenized(mixture, kind):
    """One of the outputs of tokenize_documents, for all shards of a mixture's corpora."""
    return shards_of(cfg.all_mixtures[mixture], getattr(rules.tokenize_documents.output, kind))


def device(run):
    """What a run's processes compute on."""
    return "cuda" if run.gpus else "cpu"


def finished(files):
    """Returns the existing files of this workflow's jobs, of any rule; `files` picks some of a job's files."""
    return Untracked(
        lambda: sorted({str(file) for job in workflow.dag.jobs for file in files(job) if Path(file).exists()})
    )


def with_values(option, values):
    """Returns an option with its values for the shell; "" without values."""
    return shlex.join([option, *values]) if (values := list(values)) else ""


def chat_prompts(wildcards):
    """Returns the file of prompts. Snakemake reads it when it plans, so that a wrong file stops before any job."""
    if cfg.chat.prompts is None:
        raise WorkflowError(
            "chat.prompts: not set; name a file with one question a line, such as --config "
            "'chat={prompts: prompts.txt}'"
        )
    try:
        read_prompts(Path(cfg.chat.prompts))
    except UserError as error:
        raise WorkflowError(str(error))
    return cfg.chat.prompts
