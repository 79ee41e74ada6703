"""Rows that somebody sent, brought to a table's schema; what does not fit is named by row, column and value."""

from collections.abc import Callable, Collection, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from caraway.errors import QueryError
from caraway.kernels.spelling import from_texts, spelling

SHOWN = 100
"""Characters of a wrong value that a message repeats."""


class RowError(QueryError):
    """A row that can't be taken; `row` counts from 1 in the order in which the rows were sent."""

    def __init__(self, row: int, column: str, problem: str) -> None:
        super().__init__(f"Row {row}, column {column!r}: {problem}.")
        self.row = row
        self.column = column


def shown(value: str) -> str:
    """A value for a message, cut where it is long."""
    return value if len(value) <= SHOWN else f"{value[:SHOWN]}... ({len(value):,} characters)"


def missing(row: int, column: str) -> RowError:
    return RowError(row, column, "there is no value, and it must not be null")


def unknown(row: int, column: str, schema: pa.Schema) -> RowError:
    return RowError(row, shown(column), f"there is no such column. Columns: {', '.join(schema.names)}")


def assembled(
    columns: Mapping[str, pa.Array], schema: pa.Schema, count: int, required: Collection[str], *, first: int = 1
) -> pa.RecordBatch:
    """A batch of the schema; columns that did not come are null. RowError where a required one is."""
    arrays = []
    for field in schema:
        array = columns.get(field.name)
        array = pa.nulls(count, field.type) if array is None else array
        if array.null_count and (field.name in required or not field.nullable):
            raise missing(first + pc.index(array.is_null(), True).as_py(), field.name)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def spelled(texts: pa.StringArray, field: pa.Field, *, first: int = 1) -> pa.Array:
    """A column from the texts of its values; RowError for the first that spells none."""
    try:
        return from_texts(texts, field.type)
    except pa.ArrowInvalid:
        place = first_refused(texts, lambda some: from_texts(some, field.type))
    text = texts[place].as_py()
    raise RowError(first + place, field.name, f"{shown(text)!r} is not {spelling(field.type)}")


def first_refused(column: pa.Array, convert: Callable[[pa.Array], object]) -> int:
    """The place of the first value that `convert` refuses with ArrowInvalid, which it does with the column.

    By halves: kernels say that something is wrong, not where.
    """
    start, end = 0, len(column)
    while end - start > 1:
        middle = (start + end) // 2
        try:
            convert(column[start:middle])
        except pa.ArrowInvalid:
            end = middle
        else:
            start = middle
    return start
