"""The types that the typed config allows below a key, without Annotated, Union and None."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


def members(annotation: Any) -> list[Any]:
    """Returns the types that an annotation allows, except None: for a union, all its members."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for each in get_args(annotation) for member in members(each)]
    return [] if annotation is NoneType else [annotation]


def keys_of(section: Any) -> dict[str, Any]:
    """Returns the keys of a section with their annotations; {} for any other type."""
    fields = getattr(section, "model_fields", {})
    return {field.alias or name: field.annotation for name, field in fields.items()}


def below(types: list[Any], key: Any) -> list[Any]:
    """Returns the types allowed at a key or an index of a value of one of these types."""
    annotations = []
    for each in types:
        if key in (keys := keys_of(each)):
            annotations += members(keys[key])
        elif get_origin(each) in (dict, list):
            annotations += members(get_args(each)[-1])
    return annotations


def types_of_source(types: list[Any], source: Any) -> list[Any]:
    """Returns the types of a union whose `source` is this one, or all types if none has it."""
    return [each for each in types if source in get_args(keys_of(each).get("source"))] or types


def names_freely(types: list[Any]) -> bool:
    """Whether the keys are names that the config chooses."""
    return any(get_origin(each) is dict and get_args(each)[0] is not int for each in types)


def counts_keys(types: list[Any]) -> bool:
    """Whether the keys are numbers, as those of n-grams are."""
    return any(get_origin(each) is dict and get_args(each)[0] is int for each in types)


def only_numbers(types: list[Any]) -> bool:
    """Whether the types allow a number, but neither true nor false."""
    kinds = {
        kind
        for each in types
        for kind in (map(type, get_args(each)) if get_origin(each) is Literal else [each])
    }
    return bool(kinds & {int, float}) and bool not in kinds
