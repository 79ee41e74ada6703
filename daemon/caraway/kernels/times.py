"""A time column, whatever its type, as int64 nanoseconds since 1970 UTC, and moments as literals of such a column.

Moments beyond the years 1677 to 2262 saturate: a sentinel like 9999-12-31 is the greatest moment, not an error.
"""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from caraway.core.predicate import Literal
from caraway.errors import StoreError
from caraway.kernels.types import plain, storage_type
from caraway.model import TimeColumn, TimeFormat

_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND
_MAX = 2**63 - 1
_UNIT = {"s": _SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}
_NUMERIC = {TimeFormat.UNIX_SECONDS: _SECOND, TimeFormat.UNIX_MILLIS: 1_000_000, TimeFormat.UNIX_NANOS: 1}
_ZONE = r"(?i)(Z|[+-]\d{2}(:?\d{2})?)$"
_DATE_ONLY = r"^[+-]?\d{4}-\d{2}-\d{2}$"


def to_nanos(column: pa.Array, time_format: TimeFormat) -> pa.Int64Array:
    """Nanoseconds since 1970 UTC; null stays null, naive text and timestamps are UTC."""
    values = plain(column)
    try:
        return _to_nanos(values, time_format)
    except pa.ArrowException as error:
        message = f"A time column of type {column.type} can't be read as {time_format.value}: {error}"
        raise StoreError(message, remedy="Check the dataset's time_format.", transient=False) from error


def max_nanos(batch: pa.RecordBatch, time: TimeColumn | None) -> int | None:
    """The greatest moment of a batch's time column, or None where there is none."""
    if time is None or batch.num_rows == 0:
        return None
    greatest: int | None = pc.max(to_nanos(batch.column(time.name), time.format)).as_py()
    return greatest


def time_literal(nanos: int, column_type: pa.DataType, time_format: TimeFormat) -> Literal:
    """The moment as a value of a time column, rounded down to what the column can tell apart.

    ISO 8601 text gets the form `2024-01-31T00:00:00Z`, which compares rightly with texts of that form only.
    """
    kind = column_type.value_type if pa.types.is_dictionary(column_type) else column_type
    if pa.types.is_timestamp(kind):
        return Literal(nanos // _UNIT[kind.unit], str(kind))
    if pa.types.is_date(kind):
        return Literal(nanos // _DAY * (1 if pa.types.is_date32(kind) else 86_400_000), str(kind))
    if pa.types.is_integer(kind):
        return Literal(nanos // _NUMERIC.get(time_format, _SECOND), str(kind))
    if pa.types.is_floating(kind):
        return Literal(nanos / _NUMERIC.get(time_format, _SECOND), "double")
    return Literal(_iso(nanos), "string")


def _to_nanos(values: pa.Array, time_format: TimeFormat) -> pa.Int64Array:
    kind = values.type
    if pa.types.is_timestamp(kind):
        return _scaled(values.cast(pa.int64()), _UNIT[kind.unit])
    if pa.types.is_date(kind):
        return _scaled(values.cast(pa.date32()).cast(storage_type(pa.date32())).cast(pa.int64()), _DAY)
    if pa.types.is_integer(kind):
        return _scaled(_clamped(values), _NUMERIC.get(time_format, _SECOND))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _from_float(values.cast(pa.float64()), _NUMERIC.get(time_format, _SECOND))
    return _from_text(values.cast(pa.string()))


def _clamped(integers: pa.Array) -> pa.Int64Array:
    if pa.types.is_uint64(integers.type):
        return pc.min_element_wise(integers, pa.scalar(_MAX, pa.uint64()), skip_nulls=False).cast(pa.int64())
    return integers.cast(pa.int64())


def _scaled(integers: pa.Int64Array, factor: int) -> pa.Int64Array:
    if factor == 1:
        return integers
    limit = pa.scalar(_MAX // factor, pa.int64())
    low = pa.scalar(-(_MAX // factor), pa.int64())
    bounded = pc.max_element_wise(pc.min_element_wise(integers, limit, skip_nulls=False), low, skip_nulls=False)
    return pc.multiply(bounded, pa.scalar(factor, pa.int64()))


def _from_float(values: pa.DoubleArray, factor: int) -> pa.Int64Array:
    finite = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    whole = pc.floor(finite)
    limit = float(_MAX // factor - 1)
    inside = pc.max_element_wise(pc.min_element_wise(whole, limit, skip_nulls=False), -limit, skip_nulls=False)
    fraction = pc.if_else(pc.equal(inside, whole), pc.subtract(finite, whole), 0.0)
    rest = pc.round(pc.multiply(fraction, float(factor))).cast(pa.int64())
    return pc.add(_scaled(inside.cast(pa.int64()), factor), rest)


def zoned(texts: pa.StringArray) -> pa.StringArray:
    """ISO 8601 texts with a zone each: UTC where they name none, and midnight where they are a date alone."""
    trimmed = pc.utf8_trim_whitespace(texts)
    at_midnight = pc.binary_join_element_wise(trimmed, "T00:00:00Z", "")
    in_utc = pc.binary_join_element_wise(trimmed, "Z", "")
    with_zone = pc.if_else(pc.match_substring_regex(trimmed, _ZONE), trimmed, in_utc)
    return pc.if_else(pc.match_substring_regex(trimmed, _DATE_ONLY), at_midnight, with_zone)


def _from_text(texts: pa.StringArray) -> pa.Int64Array:
    moments = zoned(texts)
    try:
        return moments.cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
    except pa.ArrowInvalid:
        return _scaled(moments.cast(pa.timestamp("us", "UTC")).cast(pa.int64()), 1_000)


def _iso(nanos: int) -> str:
    seconds, fraction = divmod(nanos, _SECOND)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else f"{text}Z"
