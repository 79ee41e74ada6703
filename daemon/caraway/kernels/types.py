"""Arrow types by name, scalars from literals, and columns in a form that every compute kernel takes."""

import re
from collections.abc import Callable
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from caraway.core.predicate import Literal
from caraway.errors import StoreError

_PARAMETRIC: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], pa.DataType]], ...] = (
    (re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]"), lambda m: pa.timestamp(m[1], m[2])),
    (re.compile(r"decimal32\((\d+), ?(-?\d+)\)"), lambda m: pa.decimal32(int(m[1]), int(m[2]))),
    (re.compile(r"decimal64\((\d+), ?(-?\d+)\)"), lambda m: pa.decimal64(int(m[1]), int(m[2]))),
    (re.compile(r"decimal128\((\d+), ?(-?\d+)\)"), lambda m: pa.decimal128(int(m[1]), int(m[2]))),
    (re.compile(r"decimal256\((\d+), ?(-?\d+)\)"), lambda m: pa.decimal256(int(m[1]), int(m[2]))),
    (re.compile(r"fixed_size_binary\[(\d+)\]"), lambda m: pa.binary(int(m[1]))),
)


def type_of(name: str) -> pa.DataType:
    """The type that Arrow prints as `name`, for all types that a literal can have; StoreError for others."""
    for pattern, build in _PARAMETRIC:
        if match := pattern.fullmatch(name):
            return build(match)
    try:
        return pa.type_for_alias(name)
    except ValueError as error:
        raise StoreError(f"{name!r} is no type that a literal can have.", transient=False) from error


def scalar_of(literal: Literal) -> pa.Scalar:
    """The Arrow scalar of a literal; temporal ones carry their storage integer."""
    target = type_of(literal.type)
    try:
        if literal.value is None:
            return pa.scalar(None, target)
        if pa.types.is_temporal(target):
            return _temporal(literal.value, target)
        if pa.types.is_decimal(target):
            return pa.scalar(Decimal(str(literal.value)), target)
        return pa.scalar(literal.value, target)
    except (pa.ArrowException, ArithmeticError) as error:
        raise StoreError(f"{literal.value!r} is no value of type {literal.type}: {error}", transient=False) from error


def _temporal(value: object, target: pa.DataType) -> pa.Scalar:
    return pa.scalar(value, storage_type(target)).cast(target)


def storage_type(temporal: pa.DataType) -> pa.DataType:
    """The integer type that Arrow keeps values of a temporal type in."""
    narrow = pa.types.is_date32(temporal) or pa.types.is_time32(temporal)
    return pa.int32() if narrow else pa.int64()


def plain(column: pa.Array) -> pa.Array:
    """The same values unencoded: no dictionary, run-end or view; halves as floats, small decimals as decimal128."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(column))
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return column.cast(pa.large_binary())
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return column.cast(pa.decimal128(kind.precision, kind.scale))
    return column


def exact_scalar(value: pa.Scalar, target: pa.DataType) -> pa.Scalar | None:
    """The same value in another type, or None where that type can't express it; texts are read."""
    if value.type == target:
        return value
    try:
        scalar = value.cast(target)
        read_from_text = pa.types.is_string(value.type) or pa.types.is_large_string(value.type)
        return scalar if read_from_text or scalar.cast(value.type) == value else None
    except pa.ArrowException:
        return None


def viewless(kind: pa.DataType) -> pa.DataType:
    """The type with large strings and binaries for views at any depth: Arrow can't filter or take views yet."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(_viewless(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_viewless(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_viewless(kind.value_field), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([_viewless(kind.field(index)) for index in range(kind.num_fields)])
    return kind


def _viewless(field: pa.Field) -> pa.Field:
    return field.with_type(viewless(field.type))
