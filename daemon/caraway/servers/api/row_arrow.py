"""Rows from an Arrow IPC stream: columns by name, in any order, of types whose values fit those of the table."""

import struct
from collections.abc import Collection, Iterable
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from caraway.errors import QueryError, QueryFailure
from caraway.kernels.rows import RowError, assembled, first_refused, shown
from caraway.kernels.sizes import message_bytes, unfolded_bytes
from caraway.kernels.types import plain

MAX_BYTES = 256 * 1024**2
"""Of rows without compression and dictionaries: twice the greatest body."""

MAX_ROWS = 16 * 1024**2
"""Columns without a value take no bytes in the stream, and some in the table."""

_FAMILIES = (
    ("number", pa.types.is_integer), ("float", pa.types.is_floating), ("decimal", pa.types.is_decimal),
    ("text", pa.types.is_string), ("text", pa.types.is_large_string), ("text", pa.types.is_string_view),
    ("binary", pa.types.is_binary), ("binary", pa.types.is_large_binary), ("binary", pa.types.is_binary_view),
    ("moment", pa.types.is_timestamp), ("date", pa.types.is_date), ("time", pa.types.is_time),
)  # fmt: skip


def arrow_rows(body: bytes, schema: pa.Schema, required: Collection[str]) -> pa.RecordBatch:
    """The rows of an IPC stream; QueryError INVALID for what is none, or does not fit."""
    try:
        _check_sizes(pa.ipc.MessageReader.open_stream(pa.BufferReader(body)))  # before anything is decompressed
        with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
            _check_names(reader.schema.names, schema)
            return _gathered(reader, schema, required)
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise QueryError(f"The body is not an Arrow IPC stream: {str(error)[:300]}") from error


def _check_names(names: list[str], schema: pa.Schema) -> None:
    for name in names:
        if name not in schema.names:
            raise QueryError(f"There is no column {shown(name)!r}. Columns: {', '.join(schema.names)}.")
        if names.count(name) > 1:
            raise QueryError(f"The column {name!r} came twice.")


def _check_sizes(messages: Iterable[pa.ipc.Message]) -> None:
    left = MAX_BYTES
    for message in messages:
        left -= message_bytes(message)
        if left < 0:
            raise _too_much()


def _gathered(batches: Iterable[pa.RecordBatch], schema: pa.Schema, required: Collection[str]) -> pa.RecordBatch:
    found, count, left = [assembled({}, schema, 0, ())], 0, MAX_BYTES
    for batch in batches:
        if count + batch.num_rows > MAX_ROWS:
            raise _too_much()
        batch.validate(full=True)  # its offsets may point anywhere
        left -= sum(map(unfolded_bytes, batch.columns))
        if left < 0:
            raise _too_much()
        columns = {
            field.name: _fitted(batch.column(field.name), field, first=count + 1)
            for field in schema
            if field.name in batch.schema.names
        }
        found.append(assembled(columns, schema, batch.num_rows, required, first=count + 1))
        count += batch.num_rows
    return pa.concat_batches(found)


def _too_much() -> QueryError:
    return QueryError("The body holds too much for one request; send fewer rows at once.", QueryFailure.RESOURCES)


def _fitted(column: pa.Array, field: pa.Field, *, first: int) -> pa.Array:
    """The values in the table's type; QueryError for another kind of values, RowError for one that does not fit."""
    if column.type == field.type:
        return column
    if not _may_fit(column.type, field.type):
        raise QueryError(f"Column {field.name!r} came as {column.type}, the table has {field.type}.")
    values = plain(column)
    convert = partial(_cast, kind=field.type)
    try:
        return convert(values)
    except pa.ArrowInvalid:
        place = first_refused(values, convert)
    raise RowError(first + place, field.name, f"{_shown(values[place])} does not fit {field.type}")


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    cast = values.cast(kind)
    if pa.types.is_floating(kind) and pc.sum(pc.is_inf(cast)).as_py() != pc.sum(pc.is_inf(values)).as_py():
        raise pa.ArrowInvalid("a number that is too great became infinite")
    return cast


def _shown(value: pa.Scalar) -> str:
    try:
        return shown(str(value))
    except (ValueError, OverflowError, pa.ArrowException):
        return "a value"


def _may_fit(came: pa.DataType, kind: pa.DataType) -> bool:
    came = came.value_type if pa.types.is_dictionary(came) else came
    families = (_family(came), _family(kind))
    return pa.types.is_null(came) or families[0] == families[1] or families == ("number", "float")


def _family(kind: pa.DataType) -> str:
    return next((family for family, applies in _FAMILIES if applies(kind)), str(kind))
