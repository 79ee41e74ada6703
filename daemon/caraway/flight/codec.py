"""FlightData by hand, and its way to and from Arrow: no body is copied on the way in, once on the way out.

FlightData (Flight.proto) is four length-delimited fields: flight_descriptor 1, data_header 2, app_metadata 3 and
data_body 1000. The header is the flatbuffer of an Arrow IPC message, without the framing of a stream; the body is
its buffers.
"""

import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

import pyarrow as pa

from caraway.errors import SourceError
from caraway.model import FlightMessage

_DESCRIPTOR, _HEADER, _APP_METADATA, _BODY = 1, 2, 3, 1000
_LENGTH_DELIMITED = 2
_CONTINUATION = 0xFFFFFFFF
_ALIGNMENT = 16
_EMPTY = memoryview(b"")


@dataclass(frozen=True, slots=True)
class FlightData:
    """One message of a Flight stream; the views look into the bytes it was decoded from."""

    header: memoryview = _EMPTY
    body: memoryview = _EMPTY
    app_metadata: bytes = b""
    descriptor: bytes = b""


class HeaderKind(IntEnum):
    """The union tag of an IPC message (Message.fbs)."""

    NONE = 0
    SCHEMA = 1
    DICTIONARY = 2
    RECORD_BATCH = 3


# --- the wire --------------------------------------------------------------------------------------------------------


def encode(message: FlightMessage, *, app_metadata: bytes = b"", descriptor: bytes = b"") -> bytes:
    """FlightData on the wire; the body is always there, as foreign servers do it, and comes last.

    Zeros after the header, which the framing of IPC streams allows as well, let the body begin at a multiple of 16,
    so that a reader who keeps messages whole (`BatchDecoder` does) need not copy it to be aligned.
    """
    before = _field(_DESCRIPTOR, descriptor) if descriptor else b""
    between = _field(_APP_METADATA, app_metadata) if app_metadata else b""
    start = between + _key(_BODY, len(message.body))
    header = _padded_header(message.header, len(before) + len(start)) if message.header else b""
    return b"".join((before, header, start, message.body))


def _padded_header(header: bytes, others: int) -> bytes:
    """The field of the header with zeros behind it, so that it ends at a multiple of 16 after `others` bytes."""
    zeros = 0
    while (short := -(others + len(_key(_HEADER, len(header) + zeros)) + len(header) + zeros) % _ALIGNMENT) != 0:
        zeros += short
    return _key(_HEADER, len(header) + zeros) + header + bytes(zeros)


def decode(wire: bytes) -> FlightData:
    """The fields of FlightData, unknown ones skipped; SourceError for what is not a protobuf message."""
    fields = dict.fromkeys((_DESCRIPTOR, _HEADER, _APP_METADATA, _BODY), _EMPTY)
    with malformed_as_source_error():
        for number, value in _fields(memoryview(wire)):
            if number in fields:
                fields[number] = value
    return FlightData(
        header=fields[_HEADER],
        body=fields[_BODY],
        app_metadata=bytes(fields[_APP_METADATA]),
        descriptor=bytes(fields[_DESCRIPTOR]),
    )


def _field(number: int, value: bytes) -> bytes:
    return _key(number, len(value)) + value


def _key(number: int, length: int) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(wire: memoryview) -> Iterator[tuple[int, memoryview]]:
    position = 0
    while position < len(wire):
        tag, position = _read_varint(wire, position)
        match tag & 7:
            case 0:
                _, position = _read_varint(wire, position)
            case 1:
                position += 8
            case 2:
                length, start = _read_varint(wire, position)
                position = start + length
                yield tag >> 3, wire[start:position]
            case 5:
                position += 4
            case kind:
                raise ValueError(f"wire type {kind}")
    if position > len(wire):
        raise ValueError("a field ends after the message")


def _read_varint(wire: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = wire[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")


# --- Arrow IPC -------------------------------------------------------------------------------------------------------


def encapsulate(header: bytes) -> bytes:
    """A header with the framing of an IPC stream, as FlightInfo and SchemaResult carry a schema."""
    padding = b"\0" * (-len(header) % 8)
    return struct.pack("<Ii", _CONTINUATION, len(header) + len(padding)) + header + padding


def header_kind(header: memoryview) -> int:
    """Which IPC message a header is: field 1 of the root table of the flatbuffer."""
    if not header:
        return HeaderKind.NONE
    with malformed_as_source_error():
        (table,) = struct.unpack_from("<I", header, 0)
        (to_vtable,) = struct.unpack_from("<i", header, table)
        vtable = table - to_vtable
        if vtable < 0:
            raise ValueError("no vtable")
        (size,) = struct.unpack_from("<H", header, vtable)
        (slot,) = struct.unpack_from("<H", header, vtable + 6) if size >= 8 else (0,)
        return header[table + slot] if slot else HeaderKind.NONE


def read_schema(encapsulated: bytes) -> pa.Schema:
    """The schema out of a SchemaResult or a FlightInfo; SourceError if it is none."""
    with malformed_as_source_error():
        return pa.ipc.read_schema(pa.py_buffer(encapsulated))


class BatchDecoder:
    """Record batches out of the messages of one stream.

    A schema may come again at any time, with the dictionaries starting anew; messages without a header are skipped.
    """

    def __init__(self) -> None:
        self._feed = _Feed()
        self._reader: pa.ipc.RecordBatchStreamReader | None = None

    @property
    def schema(self) -> pa.Schema | None:
        """The newest one; None before the first message that carries one."""
        return None if self._reader is None else self._reader.schema

    def decode(self, data: FlightData) -> pa.RecordBatch | None:
        """The batch that this message completes, if it is one; SourceError for anything malformed."""
        kind = header_kind(data.header)
        with malformed_as_source_error():
            match kind:
                case HeaderKind.NONE:
                    return None
                case HeaderKind.SCHEMA:
                    self._open(data)
                    return None
                case HeaderKind.DICTIONARY:
                    self._feed.put(data)
                    return None
                case HeaderKind.RECORD_BATCH:
                    return self._read(data)
                case _:
                    raise ValueError(f"an IPC message of kind {kind}")

    def _open(self, data: FlightData) -> None:
        self._feed = _Feed()
        self._feed.put(data)
        # Arrow's kernels and other engines may fault on misaligned buffers; only those are copied.
        options = pa.ipc.IpcReadOptions(use_threads=False, ensure_alignment=pa.ipc.Alignment.DataTypeSpecific)
        self._reader = pa.ipc.open_stream(pa.PythonFile(self._feed, "r"), options=options)

    def _read(self, data: FlightData) -> pa.RecordBatch:
        if self._reader is None:
            raise ValueError("a record batch before the first schema")
        self._feed.put(data)
        batch = self._reader.read_next_batch()
        batch.validate()
        return batch


class _Feed:
    """A file of IPC messages that grows as they arrive; Arrow takes the pieces as they are, without copying them."""

    closed = False

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()

    def put(self, data: FlightData) -> None:
        self._pieces.append(memoryview(encapsulate(bytes(data.header))))
        if data.body:
            self._pieces.append(data.body)

    def read(self, size: int) -> memoryview:
        if not self._pieces:
            return _EMPTY
        piece = self._pieces.popleft()
        if len(piece) > size:
            self._pieces.appendleft(piece[size:])
        return piece[:size]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


@contextmanager
def malformed_as_source_error() -> Iterator[None]:
    """What Arrow and the functions here raise at a message that is wrong becomes a SourceError."""
    try:
        yield
    except (pa.ArrowException, ValueError, IndexError, struct.error, OSError, StopIteration) as error:
        raise SourceError(
            f"The upstream sent a malformed Flight message ({error}).",
            remedy="Check that the endpoint is an Arrow Flight server and that nothing between alters its answers.",
            code="MalformedMessage",
        ) from error
