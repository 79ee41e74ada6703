"""Messages to rows: JSON objects, arrays of them, one a line, or an Arrow IPC stream.

A message is taken whole or not at all. JSON is read by two parsers: orjson says that a message is an object or
several, since pyarrow's crashes on a bare `null`; pyarrow then makes columns of all messages at once.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from caraway.errors import StoreError
from caraway.kernels import conform
from caraway.kernels.sizes import message_bytes, unfolded_bytes

Message: TypeAlias = str | bytes

_ARROW = b"\xff\xff\xff\xff"
"""How an Arrow IPC stream begins, and no JSON text does."""
UNPACKED_BYTES = 64 * 1024**2
"""What an Arrow stream may hold without its compression and dictionaries."""
LONGEST_VALUE = 100
"""Characters of a value that a complaint repeats."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows in the order of arrival, and the messages that hold none."""

    batches: tuple[pa.RecordBatch, ...]
    refused: tuple[Message, ...] = ()


class Decoder:
    """For a table of this schema; `key` is a column that no row may leave out."""

    def __init__(self, schema: pa.Schema, key: str | None = None) -> None:
        self._schema = schema
        self._checked = pa.schema([field.with_nullable(field.nullable and field.name != key) for field in schema])
        self._names = frozenset(schema.names)

    def decode(self, messages: Iterable[Message]) -> Decoded:
        """The rows of the messages; what does not fit is left out."""
        batches: list[pa.RecordBatch] = []
        refused: list[Message] = []
        for arrow, run in groupby(messages, _is_arrow):
            for part in ([message] for message in run) if arrow else [list(run)]:
                self._take(part, batches, refused)
        return Decoded(tuple(batch for batch in batches if batch.num_rows), tuple(refused))

    def complaint(self, message: Message) -> str:
        """Why a message was refused, with the column and the value that did not fit."""
        try:
            self._rows([message])
        except orjson.JSONDecodeError as error:
            return f"it is neither JSON nor an Arrow IPC stream ({error})"
        except _MISFIT as error:
            return self._misfit(message) or str(error)
        return "it fits by now"

    def _take(self, messages: Sequence[Message], batches: list[pa.RecordBatch], refused: list[Message]) -> None:
        """All at once where all fit; else the halves, down to the message that does not."""
        try:
            batches.extend(self._rows(messages))
        except _MISFIT:
            if len(messages) == 1:
                refused.append(messages[0])
                return
            middle = len(messages) // 2
            self._take(messages[:middle], batches, refused)
            self._take(messages[middle:], batches, refused)

    def _rows(self, messages: Sequence[Message]) -> list[pa.RecordBatch]:
        if _is_arrow(messages[0]):
            return [self._conformed(batch) for batch in _arrow_batches(messages[0])]
        objects = b",".join(filter(None, (self._objects(message) for message in messages)))
        return [self._conformed(_columns(objects, self._schema))] if objects else []

    def _conformed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(conform(batch, self._checked).columns, schema=self._schema)

    def _objects(self, message: Message) -> bytes:
        """The JSON objects of a message, with commas between them; ValueError where there are none."""
        text = message.encode() if isinstance(message, str) else message
        if not text.strip():
            return b""
        try:
            rows = orjson.loads(text)
        except orjson.JSONDecodeError:
            lines = [line for line in text.splitlines() if line.strip()]
            if len(lines) < 2:
                raise
            rows, text = [orjson.loads(line) for line in lines], b"[%b]" % b",".join(lines)
        for row in rows if isinstance(rows, list) else [rows]:
            if not isinstance(row, dict):
                raise NoRowError(f"a row is a JSON object, and {_shown(row)} is none")
            if self._names.isdisjoint(row):
                raise NoRowError(f"an object with none of the columns: {_shown(row)}")
        return text.strip()[1:-1].strip() if isinstance(rows, list) else text

    def _misfit(self, message: Message) -> str | None:
        """The first value of a JSON message that is not of its column's type, searched for by halves."""
        if _is_arrow(message):
            return None
        try:
            rows = orjson.loads(b"[%b]" % self._objects(message))
        except ValueError:
            return None
        wrong = next((field for field in self._schema if _misfits(rows, field)), None)
        if wrong is None:
            return None
        while len(rows) > 1:
            half = rows[: len(rows) // 2]
            rows = half if _misfits(half, wrong) else rows[len(half) :]
        return f"column {wrong.name!r} is {wrong.type}, which {_shown(rows[0].get(wrong.name))} is not"


class NoRowError(ValueError):
    """JSON that is no row of the table."""


_TOO_MUCH = f"it holds more than {UNPACKED_BYTES >> 20} MiB once it is unpacked"
_MISFIT = (pa.ArrowException, StoreError, ValueError, OSError, struct.error)
"""What conversion raises: orjson's error is a ValueError, a broken Arrow stream can be an OSError."""


def _is_arrow(message: Message) -> bool:
    return isinstance(message, bytes) and message.startswith(_ARROW)


def _arrow_batches(message: Message) -> Iterator[pa.RecordBatch]:
    assert isinstance(message, bytes)
    left = UNPACKED_BYTES - sum(map(message_bytes, pa.ipc.MessageReader.open_stream(pa.py_buffer(message))))
    if left < 0:
        raise NoRowError(_TOO_MUCH)  # before anything is decompressed
    options = pa.ipc.IpcReadOptions(use_threads=False, ensure_alignment=pa.ipc.Alignment.DataTypeSpecific)
    with pa.ipc.open_stream(pa.py_buffer(message), options=options) as reader:
        for batch in reader:
            batch.validate(full=True)  # lengths and offsets of a stranger would be read beyond the message
            left -= batch.num_rows + sum(map(unfolded_bytes, batch.columns))
            if left < 0:
                raise NoRowError(_TOO_MUCH)
            yield batch


def _columns(objects: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """JSON objects as columns: one document, so that objects and the inside of arrays are read alike and exactly."""
    from pyarrow import json

    kinds = [field.with_type(_as_written(field.type)).with_nullable(True) for field in schema]
    document = b'{"rows":[%b]}' % objects
    table = json.read_json(
        pa.BufferReader(document),
        json.ReadOptions(use_threads=False, block_size=len(document) + 1),
        json.ParseOptions(
            explicit_schema=pa.schema([("rows", pa.list_(pa.struct(kinds)))]), unexpected_field_behavior="ignore"
        ),
    )
    rows = pa.RecordBatch.from_struct_array(table.column("rows").combine_chunks().flatten())
    arrays = [_as_declared(column, field.type) for column, field in zip(rows.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)


def _as_written(kind: pa.DataType) -> pa.DataType:
    """Dates and times of day are texts in JSON; pyarrow would take the numbers that it stores them as."""
    return pa.utf8() if pa.types.is_date(kind) or pa.types.is_time(kind) else kind


def _as_declared(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_time(kind):
        return column.cast(kind)
    moments = pc.binary_join_element_wise(pa.scalar("1970-01-01T"), column, pa.scalar(""))
    return moments.cast(pa.timestamp(kind.unit)).cast(kind)


def _misfits(rows: list[dict[str, object]], field: pa.Field) -> bool:
    values = [{field.name: row.get(field.name)} for row in rows]
    try:
        _columns(orjson.dumps(values)[1:-1], pa.schema([field]))
    except _MISFIT:
        return True
    return False


def _shown(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
