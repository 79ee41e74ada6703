"""Batches of an answer as chunks of the format that was asked for."""

import io
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from caraway.model import ResultFormat
from caraway.query.protocol import CHUNK_BYTES, Chunk

_PREFIX = 8
"""Bytes before the flatbuffer of an encapsulated IPC message: continuation marker and length."""
_CODECS = {"none": None, "lz4_frame": "lz4", "zstd": "zstd"}


class Encoder(Protocol):
    """Turns batches into chunks; each method may give none."""

    def start(self) -> Iterator[Chunk]: ...

    def batch(self, batch: pa.RecordBatch) -> Iterator[Chunk]: ...

    def end(self) -> Iterator[Chunk]: ...


def encoder(kind: ResultFormat, schema: pa.Schema, compression: str = "none") -> Encoder:
    """The encoder of a format for batches of the engine's `schema`; only IPC messages are compressed."""
    match kind:
        case ResultFormat.IPC:
            return IpcMessages(schema, _CODECS[compression])
        case ResultFormat.ARROW_STREAM:
            return ArrowStream(schema)
        case _:
            return Text(kind, schema)


def wire_type(kind: pa.DataType) -> pa.DataType:
    """The type that clients are given: views, which many can't read, become large (reference/flight_wire.md 3)."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_map(kind):
        return pa.map_(_wire_field(kind.key_field), _wire_field(kind.item_field), keys_sorted=kind.keys_sorted)
    if pa.types.is_struct(kind):
        return pa.struct([_wire_field(kind.field(place)) for place in range(kind.num_fields)])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_wire_field(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_wire_field(kind.value_field))
    if pa.types.is_list(kind):
        return pa.list_(_wire_field(kind.value_field))
    return kind


def _wire_field(field: pa.Field) -> pa.Field:
    return field.with_type(wire_type(field.type))


def wire_schema(schema: pa.Schema) -> pa.Schema:
    """The schema as clients see it."""
    return pa.schema([_wire_field(field) for field in schema], schema.metadata)


def schema_message(schema: pa.Schema) -> bytes:
    """The flatbuffer of a schema's IPC message."""
    return pa.ipc.read_message(wire_schema(schema).serialize()).metadata.to_pybytes()  # type: ignore[no-any-return]


def to_wire(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch under the wire schema; only columns whose type differs are copied."""
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    if not columns:
        return batch
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in slices of about CHUNK_BYTES, if its rows are about equal."""
    yield from _slices(batch, batch.nbytes)


def fit(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in slices that are at most CHUNK_BYTES as IPC messages, however unequal its rows; no view types."""
    size = pa.ipc.get_record_batch_size(batch)
    if size <= CHUNK_BYTES or batch.num_rows == 1:
        yield batch
        return
    for piece in _slices(batch, size):
        yield from fit(piece)


def _slices(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    rows = max(1, -(-batch.num_rows // max(1, -(-size // CHUNK_BYTES))))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


class IpcMessages:
    """One chunk an IPC message, flatbuffer and body: dictionaries as they change, then the rows."""

    def __init__(self, schema: pa.Schema, codec: str | None = None) -> None:
        self._schema = wire_schema(schema)
        plain = codec is None and not _has_dictionaries(self._schema)
        self._stream = None if plain else _Stream(self._schema, codec)

    def start(self) -> Iterator[Chunk]:
        return iter(())  # the schema travels in a message of its own

    def batch(self, batch: pa.RecordBatch) -> Iterator[Chunk]:
        for piece in fit(to_wire(batch, self._schema)):
            if self._stream is None:
                yield _unframed(memoryview(piece.serialize()), piece.num_rows)
                continue
            *before, rows = _messages(self._stream.write(piece))
            yield from (_chunk(message, 0) for message in before)
            yield _chunk(rows, piece.num_rows)

    def end(self) -> Iterator[Chunk]:
        return iter(())


def _messages(stream: bytes) -> list[pa.Message]:
    return [message for message in pa.ipc.MessageReader.open_stream(stream) if message.type != "schema"]


def _unframed(message: memoryview, rows: int) -> Chunk:
    """An encapsulated message without its framing, in place."""
    return Chunk(rows, int.from_bytes(message[4:_PREFIX], "little"), message[_PREFIX:])


def _has_dictionaries(schema: pa.Schema) -> bool:
    return "dictionary<" in str(schema.types)


def _chunk(message: pa.Message, rows: int) -> Chunk:
    header = message.metadata
    return Chunk(rows, header.size, b"".join((header, message.body)))


class ArrowStream:
    """An Arrow IPC stream from schema to end marker; the schema goes out with the first rows, or with the end."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = wire_schema(schema)
        self._stream = _Stream(self._schema)

    def start(self) -> Iterator[Chunk]:
        return iter(())

    def batch(self, batch: pa.RecordBatch) -> Iterator[Chunk]:
        for piece in cut(to_wire(batch, self._schema)):
            yield Chunk(piece.num_rows, 0, self._stream.write(piece))

    def end(self) -> Iterator[Chunk]:
        yield Chunk(0, 0, self._stream.close())


class _Stream:
    """An IPC stream writer whose bytes are taken out as they come."""

    def __init__(self, schema: pa.Schema, codec: str | None = None) -> None:
        self._sink = io.BytesIO()
        # Threads beside those of the engine would only take turns with them.
        options = pa.ipc.IpcWriteOptions(compression=codec, use_threads=False)
        self._writer = pa.ipc.new_stream(self._sink, schema, options=options)

    def write(self, batch: pa.RecordBatch) -> bytes:
        self._writer.write_batch(batch)
        return self._take()

    def close(self) -> bytes:
        self._writer.close()
        return self._take()

    def _take(self) -> bytes:
        taken = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return taken


class Text:
    """JSON, CSV, the box table and the envelope, as `render` writes them."""

    def __init__(self, kind: ResultFormat, schema: pa.Schema) -> None:
        from caraway.query.worker.render import renderer

        self._renderer = renderer(kind, schema)

    def start(self) -> Iterator[Chunk]:
        return _filled(0, self._renderer.start())

    def batch(self, batch: pa.RecordBatch) -> Iterator[Chunk]:
        for piece in cut(batch):
            # A renderer that must see all rows first (the table) gives nothing yet; its rows count all the same.
            yield Chunk(piece.num_rows, 0, self._renderer.batch(piece))

    def end(self) -> Iterator[Chunk]:
        return _filled(0, self._renderer.end())


def _filled(rows: int, text: bytes) -> Iterator[Chunk]:
    if text:
        yield Chunk(rows, 0, text)


class Coalescer:
    """Joins tiny batches: the first goes out at once, later ones when together they are worth a message."""

    def __init__(self, rows: int = 8192) -> None:
        self._enough = rows
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._first = True

    def add(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """A batch to send now, if any."""
        if not batch.num_rows:
            return None
        self._waiting.append(batch)
        self._rows += batch.num_rows
        if self._first or self._rows >= self._enough:
            self._first = False
            return self.flush()
        return None

    def flush(self) -> pa.RecordBatch | None:
        """What waits, as one batch."""
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if len(waiting) <= 1:
            return waiting[0] if waiting else None
        return pa.concat_batches(waiting)
