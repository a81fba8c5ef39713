from pathlib import Path

from cpt.command import run
from cpt.config_evaluate import Task
from cpt.evaluate.task_checks import inspect_task
from cpt.evaluate.task_data import quiet
from cpt.files import write_json


def inspect_tasks(
    facts: Path,
    tasks: dict[str, dict[str, Task]],
    commits: dict[str, str],
    include_path: Path | None = None,
    task_code: bool = False,
) -> None:
    """Read the definitions of tasks, and stop at what isn't possible before anything is fetched or trained.

    Args:
        facts: what the workflow needs to know of each task (JSON), to write.
        tasks: the columns of each task, by lm-eval's name of the task.
        commits: commits by repository on the hub.
        include_path: folder of lm-eval's YAML files for own tasks.
        task_code: whether own tasks may run code.
    """
    quiet()
    write_json(
        facts,
        {
            task: inspect_task(task, columns, commits, include_path, task_code)
            for task, columns in tasks.items()
        },
    )


if __name__ == "__main__":
    run(inspect_tasks)
