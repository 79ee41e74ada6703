"""Which row groups of a part can hold rows that match a predicate, told by their statistics."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caraway.core.predicate import And, Compare, CompareOp, In, Literal, Or, Predicate
from caraway.errors import StoreError
from caraway.kernels import scalar_of

_COMPARE: dict[CompareOp, Callable[[pc.Expression, pa.Scalar], pc.Expression]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def row_groups(file: pq.ParquetFile, path: Path, predicate: Predicate | None) -> Iterable[int]:
    """The row groups that may hold matching rows, in order."""
    condition = None if predicate is None else expression(predicate, file.schema_arrow)
    if condition is None:
        return range(file.num_row_groups)
    from pyarrow.dataset import ParquetFileFormat
    from pyarrow.fs import LocalFileSystem

    fragment = ParquetFileFormat().make_fragment(str(path), LocalFileSystem())
    return [group.id for group in fragment.subset(filter=condition, schema=file.schema_arrow).row_groups]


def expression(predicate: Predicate, schema: pa.Schema) -> pc.Expression | None:
    """A condition that holds wherever the predicate does; None where Arrow can't tell by statistics."""
    match predicate:
        case Compare(column, op, literal) if op in _COMPARE and (value := _value(schema, column, literal)) is not None:
            return _COMPARE[op](pc.field(column), value)
        case In(column, values):
            found = [_value(schema, column, literal) for literal in values]
            return (
                None if any(value is None for value in found) else _any([pc.field(column) == value for value in found])
            )
        case And(terms):
            known = [term for each in terms if (term := expression(each, schema)) is not None]
            return reduce(operator.and_, known) if known else None
        case Or(terms):
            each = [expression(term, schema) for term in terms]
            return None if any(term is None for term in each) else _any(each)
        case _:
            return None


def _any(terms: list[pc.Expression]) -> pc.Expression | None:
    return reduce(operator.or_, terms) if terms else None


def _value(schema: pa.Schema, column: str, literal: Literal) -> pa.Scalar | None:
    """The literal in the column's stored type, if it is the same there and statistics are to be trusted."""
    if column not in schema.names or literal.value is None or not _is_ordered(kind := schema.field(column).type):
        return None
    try:
        scalar = scalar_of(literal)
        value = scalar.cast(kind)
        return value if value.cast(scalar.type) == scalar else None
    except (pa.ArrowException, StoreError):
        return None


def _is_ordered(kind: pa.DataType) -> bool:
    """Not floats, whose NaN statistics leave out."""
    types = pa.types
    ordered = (types.is_integer, types.is_temporal, types.is_string, types.is_large_string)
    return any(is_kind(kind) for is_kind in ordered)
