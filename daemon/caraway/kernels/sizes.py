"""How much memory Arrow data that somebody sent will take: a few bytes can say that it is any amount."""

import struct
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

_DICTIONARY, _RECORD_BATCH = 2, 3


def message_bytes(message: pa.ipc.Message) -> int:
    """Bytes of a message's buffers once they are decompressed; struct.error for a malformed header."""
    return body_bytes(message.metadata.to_pybytes(), message.body)


def body_bytes(header: bytes, body: pa.Buffer | memoryview) -> int:
    """The same of a message in two pieces."""
    return sum(_buffers(header, body))


def unfolded_bytes(column: pa.Array) -> int:
    """Bytes of the values that a column refers to, once for each time that it does."""
    if not pa.types.is_dictionary(column.type):
        lengths = _lengths(column)
    elif (lengths := _lengths(column.dictionary)) is not None:
        lengths = lengths.take(column.indices)
    if lengths is None:
        return len(column) * _width(column.type)
    return int(pc.sum(lengths).as_py() or 0)


def _lengths(values: pa.Array) -> pa.Int64Array | None:
    """Bytes of each text or binary value; None for values of another kind."""
    types, kind = pa.types, values.type
    if types.is_string_view(kind) or types.is_binary_view(kind):
        views = pa.Array.from_buffers(pa.int32(), 4 * (len(values) + values.offset), [None, values.buffers()[1]])
        lengths = pc.list_element(pa.FixedSizeListArray.from_arrays(views, 4), 0)[values.offset :]
        return pc.if_else(values.is_valid(), lengths, 0).cast(pa.int64())
    text = types.is_string(kind) or types.is_large_string(kind)
    return pc.binary_length(values).cast(pa.int64()) if text or _is_binary(kind) else None


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _width(kind: pa.DataType) -> int:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kind.bit_width // 8 if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) else 1


def _buffers(header: bytes, body: pa.Buffer | memoryview) -> Iterator[int]:
    """What the buffers of a message hold, by its flatbuffer (Message.fbs) and the length that a compressed one says."""
    root = _Table(header, struct.unpack_from("<I", header, 0)[0])
    kind = root.number(1, "<B")
    if kind not in {_DICTIONARY, _RECORD_BATCH}:
        return
    batch = root.table(2) if kind == _RECORD_BATCH else root.table(2).table(1)
    is_compressed = batch.has(3)
    for offset, length in batch.pairs(2):
        is_told = is_compressed and length >= 8
        told = struct.unpack_from("<q", body, offset)[0] if is_told else -1
        yield told if told >= 0 else length


class _Table:
    """A table of a flatbuffer; struct.error for one that is none."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self._place = place

    def _field(self, number: int) -> int:
        """Where a field is; 0 for one that is not there."""
        vtable = self._place - self._at("<i", self._place)
        slot = 4 + 2 * number
        offset = self._at("<H", vtable + slot) if slot < self._at("<H", vtable) else 0
        return self._place + offset if offset else 0

    def _at(self, form: str, place: int) -> int:
        if place < 0:
            raise struct.error("a place before the beginning")
        return int(struct.unpack_from(form, self._data, place)[0])

    def has(self, number: int) -> bool:
        return self._field(number) > 0

    def number(self, number: int, form: str) -> int:
        place = self._field(number)
        return self._at(form, place) if place else 0

    def table(self, number: int) -> "_Table":
        place = self._field(number)
        return _Table(self._data, place + self._at("<I", place))

    def pairs(self, number: int) -> Iterator[tuple[int, int]]:
        """The vector of structs of two int64."""
        place = self._field(number)
        start = place + self._at("<I", place)
        for index in range(self._at("<I", start) if place else 0):
            yield struct.unpack_from("<qq", self._data, start + 4 + 16 * index)
