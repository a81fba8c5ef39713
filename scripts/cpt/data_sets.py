"""The seven benchmarks' data sets on the hub: one table to fetch, score and cite them."""

from typing import NamedTuple


class DataSet(NamedTuple):
    """The place of a task's scored split on the hub."""

    kind: str  # of cpt.evaluate.benchmarks.FEATURES
    repository: str
    configuration: str
    split: str


DATA_SETS = {
    "arc_challenge": DataSet("arc", "allenai/ai2_arc", "ARC-Challenge", "test"),
    "arc_easy": DataSet("arc", "allenai/ai2_arc", "ARC-Easy", "test"),
    "winogrande": DataSet("winogrande", "allenai/winogrande", "winogrande_xl", "validation"),
    "hellaswag": DataSet("hellaswag", "Rowan/hellaswag", "default", "validation"),
    "piqa": DataSet("piqa", "baber/piqa", "default", "validation"),
    "boolq": DataSet("boolq", "aps/super_glue", "boolq", "validation"),
    "mmlu": DataSet("mmlu", "cais/mmlu", "all", "test"),
}
CLOZE = "_continuation"  # lm-eval's ending of the tasks that score the text of MMLU's answers, not letters
BY_TASK = "mean of tasks"  # aggregation of a group's score over leaf tasks of different sizes

# Items of the paper's test sets in the split that lm-eval scores.
COUNTS = {
    "mmlu": 14_042,
    "arc_challenge": 1_172,
    "arc_easy": 2_376,
    "winogrande": 1_267,
    "hellaswag": 10_042,
    "boolq": 3_270,
    "piqa": 1_838,
}
