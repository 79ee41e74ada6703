"""Predicates evaluated over Arrow batches with SQL's three-valued logic.

Floats compare as DataFusion compares them: NaN equals itself and is greater than all else, -0.0 equals 0.0.
"""

from collections.abc import Callable
from functools import reduce
from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc

from caraway.core.predicate import And, Compare, CompareOp, In, IsNull, Like, Literal, Not, Or, Predicate, RawSql
from caraway.errors import StoreError
from caraway.kernels.batches import keep
from caraway.kernels.types import exact_scalar, plain, scalar_of

_COMPARE: dict[CompareOp, Callable[[pa.Array, pa.Scalar], pa.BooleanArray]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_NAN_MATCHES: frozenset[CompareOp] = frozenset({"!=", ">", ">="})
_WIDEST_DECIMAL = 76


def filter_batch(batch: pa.RecordBatch, predicate: Predicate | None) -> pa.RecordBatch:
    """The rows for which the predicate is true; neither false nor unknown."""
    return batch if predicate is None else keep(batch, mask(batch, predicate))


def mask(batch: pa.RecordBatch, predicate: Predicate) -> pa.BooleanArray:
    """One of true, false and null (unknown) a row; StoreError for what can't be evaluated here."""
    try:
        return _mask(batch, predicate)
    except pa.ArrowException as error:
        raise StoreError(f"The condition {predicate} can't be evaluated: {error}", transient=False) from error


def _mask(batch: pa.RecordBatch, predicate: Predicate) -> pa.BooleanArray:
    match predicate:
        case Compare(name, op, literal):
            return _compare(_column(batch, name), op, literal)
        case In(name, values):
            return _is_in(_column(batch, name), values)
        case IsNull(name):
            return pc.is_null(_column(batch, name))
        case Like(name, pattern, case_insensitive):
            return _like(_column(batch, name), pattern, case_insensitive)
        case Not(term):
            return pc.invert(_mask(batch, term))
        case And(terms):
            return reduce(pc.and_kleene, (_mask(batch, term) for term in terms), _constant(batch.num_rows, True))
        case Or(terms):
            return reduce(pc.or_kleene, (_mask(batch, term) for term in terms), _constant(batch.num_rows, False))
        case RawSql(text):
            raise StoreError(
                f"The condition {text!r} can only be evaluated by a SQL engine.",
                remedy="Write it with comparisons, IN, LIKE, IS NULL, AND, OR and NOT over columns and constants.",
                transient=False,
            )
        case _:
            assert_never(predicate)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    index = batch.schema.get_field_index(name)
    if index < 0:
        known = ", ".join(batch.schema.names)
        raise StoreError(f"A condition names column {name!r}, which is not there. Columns: {known}.", transient=False)
    return plain(batch.column(index))


def _constant(rows: int, value: bool | None) -> pa.BooleanArray:
    return pa.repeat(pa.scalar(value, pa.bool_()), rows)


def _compare(column: pa.Array, op: CompareOp, literal: Literal) -> pa.BooleanArray:
    if literal.value is None:
        return _constant(len(column), None)
    left, right = _aligned(column, scalar_of(literal))
    if not pa.types.is_floating(left.type):
        return _COMPARE[op](left, right)
    is_nan = pc.is_nan(left)
    if pc.is_nan(right).as_py():
        return _compare_to_nan(is_nan, op)
    return pc.or_(_COMPARE[op](left, right), is_nan) if op in _NAN_MATCHES else _COMPARE[op](left, right)


def _compare_to_nan(is_nan: pa.BooleanArray, op: CompareOp) -> pa.BooleanArray:
    match op:
        case "=" | ">=":
            return is_nan
        case "!=" | "<":
            return pc.invert(is_nan)
        case "<=":
            return pc.or_(is_nan, pc.invert(is_nan))
        case ">":
            return pc.and_(is_nan, pc.invert(is_nan))


def _aligned(column: pa.Array, value: pa.Scalar) -> tuple[pa.Array, pa.Scalar]:
    """Both sides in one type, without loss: the column's, the literal's, or the widest decimal."""
    if column.type == value.type:
        return column, value
    if (exact := exact_scalar(value, column.type)) is not None:
        return column, exact
    try:
        return column.cast(value.type), value
    except pa.ArrowException:
        wide = pa.decimal256(_WIDEST_DECIMAL, max(_scale(column.type), _scale(value.type)))
        return column.cast(wide), value.cast(wide)


def _scale(kind: pa.DataType) -> int:
    return kind.scale if pa.types.is_decimal(kind) else 0


def _is_in(column: pa.Array, values: tuple[Literal, ...]) -> pa.BooleanArray:
    if not values:
        return _constant(len(column), False)
    known = [literal for literal in values if literal.value is not None]
    found = _is_in_known(column, known)
    unknown = _constant(len(column), None)
    return found if len(known) == len(values) else pc.or_kleene(found, unknown)


def _is_in_known(column: pa.Array, values: list[Literal]) -> pa.BooleanArray:
    exact = [exact_scalar(scalar_of(literal), column.type) for literal in values]
    if pa.types.is_floating(column.type) or pa.types.is_null(column.type) or any(value is None for value in exact):
        each = (_compare(column, "=", literal) for literal in values)
        return reduce(pc.or_kleene, each, _constant(len(column), False))
    found = pc.is_in(column, pa.array(exact, column.type))
    return pc.if_else(pc.is_valid(column), found, pa.scalar(None, pa.bool_()))


def _like(column: pa.Array, pattern: str, case_insensitive: bool) -> pa.BooleanArray:
    if pa.types.is_null(column.type):
        return _constant(len(column), None)
    return pc.match_like(column, pattern.replace("\\", "\\\\"), ignore_case=case_insensitive)
