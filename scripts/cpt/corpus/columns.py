"""Columns of numbers beside the text, such as FineWeb-Edu's score, and documents chosen by them."""

import math
from typing import Any

import pyarrow as pa

from cpt.config_sections import Where
from cpt.corpus.drops import Drop
from cpt.errors import UserError


class ColumnRules:
    """The bounds of a corpus's `where`.

    Attributes:
        columns: their names.
        names: of the rules, in the order in which they are tried.
    """

    def __init__(self, where: Where):
        self.columns = list(where)
        self.names = [f"where_{column}" for column in where]
        self._bounds = [
            (
                -math.inf if bounds.minimum is None else bounds.minimum,
                math.inf if bounds.maximum is None else bounds.maximum,
            )
            for bounds in where.values()
        ]

    def check(self, values: list[list[float | None]]) -> list[Drop | None]:
        """For each document the first bound that it breaks, or None; a missing number breaks any.

        `values` are the columns. The value in a Drop is None where there is no number.
        """
        drops = []
        for row in zip(*values, strict=True):
            drop = None
            for name, value, (minimum, maximum) in zip(self.names, row, self._bounds, strict=True):
                if value is None or not minimum <= value <= maximum:
                    known = None if value is None or math.isnan(value) else float(value)
                    # Of two bounds a missing number is told the lower.
                    over = known is not None and known > maximum
                    drop = Drop(name, known, maximum if over or math.isinf(minimum) else minimum)
                    break
            drops.append(drop)
        return drops


def require_number_columns(path: Any, schema: pa.Schema, columns: list[str]) -> None:
    """UserError unless `schema` has all these columns, and numbers in them; `path` names the file."""
    for column in columns:
        if column not in schema.names:
            raise UserError(
                f"{path}: there is no column {column!r}; its columns are {', '.join(schema.names)}; mend the "
                "corpus's key `where`, or leave it out"
            )
        kind = schema.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise UserError(
                f"{path}: column {column!r} holds {kind}, not numbers; name another one in the "
                "corpus's key `where`"
            )
