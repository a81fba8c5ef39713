"""The items of a task: their right answers as lm-eval finds them, and checks that they can be scored."""

import logging
from collections.abc import Iterator
from numbers import Integral
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from cpt.errors import UserError
from cpt.evaluate.task_definitions import NUMBERS

TRIED_ANSWERS = 20  # items of a generation task on which process_results, which may be slow, is tried


def right_answers(leaf: ConfigurableTask, item: int, doc: dict[str, Any]) -> list[int]:
    """Returns the numbers of an item's right answers: lm-eval's target, first looked up among the choices.

    Raises UserError, which names task and item, for a target that lm-eval can't compare, or would count as
    wrong for every answer.
    """
    target, choices = leaf.doc_to_target(doc), leaf.doc_to_choice(doc)
    if leaf.multiple_input:  # where answers differ in their context (WinoGrande), it is in doc_to_text
        target = leaf.doc_to_text(doc)
    where = f"{leaf.config.task}, item {item}: doc_to_target gives {target!r}"
    if isinstance(target, str) and target in choices:
        return [choices.index(target)]
    numbers = target if isinstance(target, list) else [target]
    if not numbers or not all(isinstance(number, Integral) for number in numbers):
        options = f"one of the {len(choices)} choices, or numbers of choices, counted from 0"
        raise UserError(f"{where}; expected {options}: fix the item or doc_to_target")
    if not all(0 <= number < len(choices) for number in numbers):
        raise UserError(
            f"{where}, but it has {len(choices)} choices, counted from 0; fix the item or doc_to_target: "
            f"{NUMBERS}"
        )
    return [int(number) for number in numbers]


def item_text(leaf: ConfigurableTask, doc: dict[str, Any]) -> str:
    """Returns an item's question and answers, a line each, to search for in the training text."""
    question, target = leaf.doc_to_text(doc), leaf.doc_to_target(doc)
    answers = target if isinstance(target, list) else [target]
    if leaf.config.doc_to_choice is not None:
        answers = [*leaf.doc_to_choice(doc), *([target] if leaf.multiple_input else [])]
    parts = [question if isinstance(question, str) else "", *answers]
    if leaf.OUTPUT_TYPE == "loglikelihood_rolling":
        parts = answers
    return "\n".join(str(part).strip() for part in parts if str(part).strip())


def check_items(leaf: ConfigurableTask) -> None:
    """Test every item of a task with made-up answers.

    Raises UserError, which names task and item, for an item that can't be scored.
    """
    scores: dict[str, list[Any]] = {}
    numbers = 0
    for item, doc in enumerate(leaf.task_docs):
        where = f"{leaf.config.task}, item {item}"
        try:
            reason = next(_problems(leaf, item, doc), None)
            if not reason and (leaf.OUTPUT_TYPE != "generate_until" or item < TRIED_ANSWERS):
                for metric, value in leaf.process_results(doc, _made_up(leaf, doc)).items():
                    scores.setdefault(metric, []).append(value)
        except UserError:
            raise
        except Exception as error:  # whatever the task's templates and functions raise
            raise UserError(
                f"{where}: lm-eval can't read it, or couldn't count an answer to it ({type(error).__name__}: "
                f"{error}); fix the item, or the task's doc_to_* and process_results"
            ) from None
        if reason:
            raise UserError(f"{where}: {reason}")
        numbers += _is_ambiguous(leaf, doc)
    _try_aggregations(leaf, scores)
    if numbers:
        logging.warning(
            f"{leaf.config.task}: doc_to_target is a template that gives a number, and the choices of "
            f"{numbers} items are numbers, too; {NUMBERS}"
        )


def _problems(leaf: ConfigurableTask, item: int, doc: dict[str, Any]) -> Iterator[str]:
    text, target = leaf.doc_to_text(doc), leaf.doc_to_target(doc)
    if isinstance(text, str) == bool(leaf.multiple_input):
        first = "a number" if leaf.multiple_input else "text"
        yield (
            f"doc_to_text gives {text!r}, but {first} for the first item; lm-eval decides by the first "
            "whether the choices are contexts, so make them alike"
        )
    compared = leaf.OUTPUT_TYPE in ("multiple_choice", "generate_until")
    if not compared and not (isinstance(target, str) and target):
        yield (
            f"doc_to_target gives {target!r}; expected text that isn't empty: fix the item or doc_to_target"
        )
    if callable(leaf.config.process_results) or not compared:
        return
    several = isinstance(target, list)
    if several and not target:
        yield "doc_to_target gives no right answer; fix the item"
    if leaf.OUTPUT_TYPE == "multiple_choice":
        choices = leaf.doc_to_choice(doc)
        if not all(isinstance(choice, str) and choice for choice in choices):
            yield f"doc_to_choice gives {choices!r}; expected texts that aren't empty: fix the item"
        right_answers(leaf, item, doc)
        if several and "acc_mutual_info" in leaf._metric_fn_list:
            yield "lm-eval's acc_mutual_info can't count several right answers; remove that metric"
    if several != bool(leaf.multiple_target) and (several or leaf.OUTPUT_TYPE == "multiple_choice"):
        yield (
            f"it has {'several right answers' if several else 'one right answer'}, unlike the first item; "
            "lm-eval decides by the first, so give a list in all items or in none"
        )


def _made_up(leaf: ConfigurableTask, doc: dict[str, Any]) -> list[Any]:
    """Returns an answer that a model might give, in the form that process_results expects."""
    if leaf.OUTPUT_TYPE == "multiple_choice":
        choices = len(leaf.doc_to_choice(doc)) * (2 if "acc_mutual_info" in leaf._metric_fn_list else 1)
        return [(-1.0 - number, False) for number in range(choices)]
    if leaf.OUTPUT_TYPE == "loglikelihood":
        return [(-1.0, False)]
    if leaf.OUTPUT_TYPE == "loglikelihood_rolling":
        return [-1.0]
    answers = {"generate_until": "", "loglikelihood": (-1.0, False), "loglikelihood_rolling": -1.0}
    place = (leaf.config.task, 0, leaf.config.repeats)
    batch = leaf.construct_requests(doc, "", metadata=place, apply_chat_template=False, chat_template=None)
    requests = [batch] if isinstance(batch, Instance) else list(batch)  # a Python class may ask several
    for request in requests:
        request.resps = [answers[request.request_type]] * leaf.config.repeats
    leaf._filters[0].apply(requests)
    return [next(iter(request.filtered_resps.values())) for request in requests]


def _try_aggregations(leaf: ConfigurableTask, scores: dict[str, list[Any]]) -> None:
    for metric, values in scores.items():
        aggregate = leaf.aggregation().get(metric)
        try:
            if aggregate is not None:
                aggregate(values)
        except Exception as error:
            raise UserError(
                f"{leaf.config.task}: lm-eval can't sum up its metric {metric} ({type(error).__name__}: "
                f"{error}); leave the metric out in a YAML file of your own, or fix the items"
            ) from None


def _is_ambiguous(leaf: ConfigurableTask, doc: dict[str, Any]) -> bool:
    """Whether lm-eval reads a template's number as a choice's place although it may be a choice's text."""
    template = leaf.config.doc_to_target
    if leaf.OUTPUT_TYPE != "multiple_choice" or not isinstance(template, str) or template in leaf.features:
        return False
    target, choices = leaf.doc_to_target(doc), leaf.doc_to_choice(doc)
    return isinstance(target, int) and any(str(choice).strip().isdigit() for choice in choices)
