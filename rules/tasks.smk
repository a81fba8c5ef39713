# The tasks that models are scored on: what their definitions say, and the files that they come from.
import subprocess
from importlib import metadata

from cpt.config_evaluate import BENCHMARK_TASKS, ScoredTask
from cpt.digest import code_digest, settings_digest


def pinned_commits():
    """Commits of data sets on the hub, by repository."""
    return {**getattr(cfg.evaluate.benchmarks, "revisions", {}), **cfg.evaluate.revisions}


@functools.cache
def own_task_files():
    """Returns the files of the folder that defines own tasks."""
    folder = cfg.evaluate.include_path
    files = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file()) if folder else []
    if folder and not files:
        raise WorkflowError(
            f"evaluate.include_path: no files in {folder} (relative to {Path.cwd()}); name the folder of the YAML files "
            "that define own tasks, or set it to null"
        )
    return files


@functools.cache
def task_facts():
    """Returns what the definitions say of the tasks whose data are fetched; a task that isn't possible stops here.

    Another process reads the definitions, once: Snakemake and its jobs load neither lm-eval nor its 14,000 files.
    """
    if not FURTHER_TASKS:
        return {}
    script = SCRIPTS / "inspect_tasks.py"
    settings = {"tasks": FURTHER_TASKS, "commits": pinned_commits(), "task_code": cfg.evaluate.task_code}
    read = [metadata.version("lm_eval"), code_digest(script), *map(sha256_of, own_task_files())]
    facts = Path(".snakemake") / "tasks" / f"{settings_digest([settings, read])}.json"
    if not facts.exists():
        options = stage.arguments(facts=facts, include_path=cfg.evaluate.include_path, **settings)
        done = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True)
        if done.returncode:
            raise WorkflowError(done.stderr.strip().rpartition("error: ")[2] or done.stdout)
    return json.loads(facts.read_text())


def scored_task(column):
    """Returns what a scoring job needs to know of a column, without its names in tables."""
    task = cfg.evaluate.tasks[column]
    return ScoredTask(**{name: getattr(task, name) for name in ScoredTask.model_fields})


def fetched_tasks(columns=TASKS):
    """Returns the tasks of these columns whose data are fetched, by lm-eval's names."""
    return [task for task, asking in FURTHER_TASKS.items() if set(asking) & set(columns)]


def task_folders(wildcards):
    """The folders of fetched tasks whose items the benchmarks don't have, each with an items.parquet."""
    facts = task_facts()
    return [
        f"{R}/tasks/{task}"
        for task in fetched_tasks()
        if task not in BENCHMARK_TASKS and not facts[task]["in_benchmarks"]
    ]


def definition_files(wildcards):
    """Returns the files on this disk that a task's data and their meaning come from."""
    facts = task_facts()[wildcards.lm_eval_task]
    return [*facts["files"], *(own_task_files() if facts["own"] else [])]


def scored_files(columns):
    """Returns an input: what a scoring job of these columns reads beyond model and benchmarks."""

    def files(wildcards):
        facts = task_facts()
        tasks = fetched_tasks(columns)
        own = own_task_files() if any(facts[task]["own"] for task in tasks) else []
        exam = [f"{R}/exam/{name}" for name in ("exam.yaml", "exam_open_book.yaml", "exam.jsonl")]
        return [
            *own,
            *(f"{R}/tasks/{task}{ending}" for task in tasks for ending in ("", ".json")),
            *(exam if set(columns) & set(cfg.evaluate.exam_columns) else []),
        ]

    return files
