"""The write-ahead file: an Arrow IPC stream whose commits end in a marker, so that one fsync makes a commit durable.

    schema | batch ... batch marker | batch marker | marker | ...

A marker is a batch without rows whose custom metadata holds the commit's generation, offsets, cursor and newly hidden
offsets, and a CRC-32 of the commit's bytes. To a reader of the stream it is an empty batch. Whatever follows the last
marker that fits its bytes is a commit that was never acknowledged; recovery cuts it off. Measured against a catalog
transaction for each commit (SQLite, synchronous FULL, after an fsync of the rows), this halves the fsyncs, and hidden
offsets need no file of their own.

What a commit writes and what recovery makes of it are functions of bytes; `append` and `recover` alone touch files.
"""

from __future__ import annotations

import json
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from caraway.accelerators.parquet.disk import sync_directory
from caraway.model import Cursor

_COMMIT, _CHECKSUM = b"caraway.commit", b"caraway.crc32"
_END_OF_STREAM = 8
Piece: TypeAlias = pa.Buffer | bytes
_OPTIONS = pa.ipc.IpcWriteOptions()  # the default, without its look at the environment for each stream


@dataclass(frozen=True, slots=True)
class Marker:
    """What a commit says of the state that it leads to; `hidden` are the offsets that it hid, `rows` those it added."""

    generation: int
    end_offset: int
    rows: int
    cursor: Cursor | None = None
    max_time: int | None = None
    hidden: pa.Int64Array = field(default_factory=lambda: pa.array([], pa.int64()))

    def encode(self) -> bytes:
        hidden = b64encode(_int64_bytes(self.hidden)).decode()
        values = [self.generation, self.end_offset, self.rows, self.cursor, self.max_time, hidden]
        return json.dumps(values).encode()

    @classmethod
    def decode(cls, text: bytes) -> Marker:
        generation, end_offset, rows, cursor, max_time, hidden = json.loads(text)
        data = b64decode(hidden)
        offsets = pa.Array.from_buffers(pa.int64(), len(data) // 8, [None, pa.py_buffer(data)])
        return cls(generation, end_offset, rows, cursor, max_time, offsets)


def _int64_bytes(values: pa.Int64Array) -> bytes:
    data = values.buffers()[1]
    start = values.offset * 8
    return bytes(data[start : start + len(values) * 8]) if data is not None else b""


class Codec:
    """Commits of one schema as bytes."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._head = schema.serialize()
        self._empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)

    def encode(self, batches: Sequence[pa.RecordBatch], marker: Marker, *, first: bool) -> list[Piece]:
        """What a commit adds to its file, of which it is the `first` one or not."""
        text = marker.encode()
        rows = [batch.serialize() for batch in batches]  # no column has a dictionary, so a batch is one message
        checksum = reduce(lambda crc, piece: zlib.crc32(piece, crc), [*rows, text], 0)
        return [self._head if first else b"", *rows, self._seal({_COMMIT: text, _CHECKSUM: b"%d" % checksum})]

    def _seal(self, metadata: dict[bytes, bytes]) -> pa.Buffer:
        """The marker as a message of a stream that has begun."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema, options=_OPTIONS) as writer:
            writer.write_batch(self._empty, custom_metadata=metadata)
        data = sink.getvalue()
        return data.slice(self._head.size, data.size - self._head.size - _END_OF_STREAM)


def commits(data: pa.Buffer) -> Iterator[tuple[int, Marker]]:
    """Each commit of a file's bytes that is whole, as (length up to its end, its marker)."""
    source = pa.BufferReader(data)
    try:
        reader = pa.ipc.open_stream(source)
        begin = before = source.tell()
        while True:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
            if batch.num_rows == 0 and metadata is not None and _COMMIT in metadata:
                text = metadata[_COMMIT]
                if zlib.crc32(text, zlib.crc32(data[begin:before])) != int(metadata[_CHECKSUM]):
                    return
                begin = source.tell()
                yield begin, Marker.decode(text)
            before = source.tell()
    except (StopIteration, pa.ArrowException, OSError):
        return


def batches(data: pa.Buffer, start: int = 0) -> Iterator[pa.RecordBatch]:
    """The rows of committed bytes, from a commit that begins at byte `start`."""
    source = pa.BufferReader(data)
    schema = pa.ipc.open_stream(source).schema
    if start:
        source.seek(start)
    while source.tell() < source.size():
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)
        if batch.num_rows:
            yield batch


def append(path: Path, length: int, pieces: Sequence[Piece]) -> int:
    """Write a commit behind the first `length` bytes, durably; the new length. OSError leaves those alone."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        return _write_durably(fd, length, pieces, path.parent)
    except OSError:
        os.ftruncate(fd, length)
        raise
    finally:
        os.close(fd)


def _write_durably(fd: int, offset: int, pieces: Sequence[Piece], folder: Path) -> int:
    is_new = offset == 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written
    os.fdatasync(fd)
    if is_new:
        sync_directory(folder)
    return offset


def recover(path: Path) -> Iterator[tuple[int, Marker]]:
    """The commits of a file, which need not be there."""
    if path.exists() and path.stat().st_size:
        yield from commits(pa.memory_map(str(path)).read_buffer())
