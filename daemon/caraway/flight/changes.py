"""A change stream on the wire: arrivals to FlightData and back (reference/flight_wire.md 6).

    pack(change) ──▶ Packed, the same for all subscribers ──┐
    phase, cursor and mark, those of one subscriber ────────┴─▶ ChangeEncoder ──▶ FlightData ──▶ ChangeDecoder

What is sent is generation B: a schema where it changes, one row `t`, the copy as rows `r`, then news as rows `r` and
`d`. What is received may be of any generation. Between caraways each message also carries a `Word`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc

from caraway.core import position
from caraway.core.stream_words import Word, read_word, write_word
from caraway.flight.codec import BatchDecoder, FlightData, HeaderKind, encode, header_kind, malformed_as_source_error
from caraway.flight.envelope import Contents, Op, check_envelope, envelope_of, unwrap, wrap, wrap_truncate
from caraway.model import Append, Arrival, Delete, FlightMessage, Phase, StreamChange, Truncate

CHUNK_BYTES = 2 * 1024**2
"""Rows are cut to messages of about this size; foreign gRPC clients take no more than 4 MiB by default."""
_LARGEST_BODY = 3 * 1024**2
_FRAMING = 8
"""Bytes before the flatbuffer of an encapsulated IPC message: continuation marker and length."""
_NOTHING = FlightMessage(b"", b"")
_NEWS = frozenset({Op.CREATE.value, Op.UPDATE.value, Op.DELETE.value})
HELD_BYTES = 256 * 1024**2
"""The most that is held of a commit whose end did not come yet."""
_CHANGE_BYTES = 1024
"""What a change costs beyond its rows."""


# --- sending ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packed:
    """A change as IPC messages under the schema of their envelope. Dictionaries come before each batch that has them,
    so that the messages stand alone and any subscriber who was told the schema can be given them."""

    schema: pa.Schema
    messages: tuple[FlightMessage, ...]


def pack(change: StreamChange, schema: pa.Schema, primary_key: tuple[str, ...]) -> Packed:
    """The messages of a change to a table of `schema`; none for a change without rows.

    Rows appended go out as `r`, which the clients of Spice take for an upsert. Rows of a Delete may have fewer columns
    than the table: then their messages have a schema of their own.
    """
    match change:
        case Append(rows):
            return _pack_rows(rows, Op.READ, primary_key)
        case Delete(rows):
            return _pack_rows(rows, Op.DELETE, primary_key)
        case Truncate():
            return Packed(envelope_of(schema), tuple(_messages(wrap_truncate(schema))))
        case _:
            assert_never(change)


def _pack_rows(rows: pa.RecordBatch, op: Op, primary_key: tuple[str, ...]) -> Packed:
    size = pa.ipc.get_record_batch_size(rows) if _has_dictionaries(rows.schema) else rows.nbytes
    step = max(1, CHUNK_BYTES * rows.num_rows // max(1, size))
    pieces = (rows.slice(start, step) for start in range(0, rows.num_rows, step))
    messages = (message for piece in pieces for message in _fitting(piece, op, primary_key))
    return Packed(envelope_of(rows.schema), tuple(messages))


def _fitting(
    rows: pa.RecordBatch, op: Op, primary_key: tuple[str, ...], above: float = math.inf
) -> Iterator[FlightMessage]:
    """The messages of these rows, cut in halves as long as one is too large and that makes it smaller."""
    messages = _messages(wrap(_compact(rows), op, primary_key))
    largest = max(len(message.body) for message in messages)
    if rows.num_rows > 1 and _LARGEST_BODY < largest < above:
        half = rows.num_rows // 2
        yield from _fitting(rows.slice(0, half), op, primary_key, largest)
        yield from _fitting(rows.slice(half), op, primary_key, largest)
    else:
        yield from messages


def _compact(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows; a slice of a column leaves a large dictionary whole, of which it may use little."""
    return pa.RecordBatch.from_arrays([_used(column) for column in rows.columns], schema=rows.schema)


def _used(column: pa.Array) -> pa.Array:
    if not pa.types.is_dictionary(column.type) or len(column.dictionary) <= len(column):
        return column
    used = pc.unique(column.indices.drop_null()).sort()
    indices = pc.index_in(column.indices, used).cast(column.type.index_type)
    return pa.DictionaryArray.from_arrays(indices, column.dictionary.take(used), ordered=column.type.ordered)


def _messages(rows: pa.RecordBatch) -> list[FlightMessage]:
    if not _has_dictionaries(rows.schema):
        return [_unframed(memoryview(rows.serialize()))]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_batch(rows)
    _, *messages = pa.ipc.MessageReader.open_stream(sink.getvalue())  # the first is the schema
    return [FlightMessage(message.metadata.to_pybytes(), memoryview(message.body)) for message in messages]


def _has_dictionaries(schema: pa.Schema) -> bool:
    return "dictionary<" in str(schema.types)


def _unframed(message: memoryview) -> FlightMessage:
    end = _FRAMING + int.from_bytes(message[4:_FRAMING], "little")
    return FlightMessage(bytes(message[_FRAMING:end]), message[end:])


class ChangeEncoder:
    """The stream of one subscriber to a table: what it is told, as FlightData on the wire.

    `words` is whether the subscriber speaks them (`read_wish` found some): others are sent rows alone, since the
    clients of Spice fail on a message that has no header.
    """

    def __init__(self, schema: pa.Schema, primary_key: tuple[str, ...], *, words: bool = True) -> None:
        self._schema = schema
        self._primary_key = primary_key
        self._words = words
        self._told: pa.Schema | None = None

    def encode(self, arrival: Arrival) -> Iterator[bytes]:
        """The messages of an arrival, to be sent in order, each before the next is asked for."""
        return self.join(arrival, [pack(change, self._schema, self._primary_key) for change in arrival.changes])

    def join(self, arrival: Arrival, packed: Iterable[Packed]) -> Iterator[bytes]:
        """As `encode`, with `packed` for the changes of the arrival, in their order."""
        word, before = _words(arrival) if self._words else (b"", b"")
        messages = [(one.schema, message) for one in packed for message in one.messages]
        for schema, message in messages[:-1]:
            yield from self._send(schema, message, before, before)
        if messages:
            yield from self._send(*messages[-1], before, word)
        elif word:
            yield encode(_NOTHING, app_metadata=word)

    def _send(self, schema: pa.Schema, message: FlightMessage, before: bytes, word: bytes) -> Iterator[bytes]:
        if schema != self._told:
            self._told = schema
            yield encode(_unframed(memoryview(schema.serialize())), app_metadata=before)
        yield encode(message, app_metadata=word)


def _words(arrival: Arrival) -> tuple[bytes, bytes]:
    """What is said with the last message of an arrival, and with those before it."""
    if arrival.phase is None:
        return b"", b""
    part = Phase.SNAPSHOT if arrival.phase is Phase.SNAPSHOT_END else arrival.phase
    whole = Word(arrival.phase, position.decode(arrival.cursor), arrival.mark)
    return write_word(whole), write_word(Word(part))


# --- receiving -------------------------------------------------------------------------------------------------------


class ChangeDecoder:
    """The arrivals of one stream; SourceError for anything malformed, after which the stream is of no more use."""

    def __init__(self) -> None:
        self._batches = BatchDecoder()
        self._held: list[Contents] = []
        self._held_bytes = 0
        self.primary_key: tuple[str, ...] | None = None
        """The names of the key columns, once a row told them."""
        self.spoken = False
        """Whether the server speaks our words."""

    def decode(self, data: FlightData) -> Arrival | None:
        """What this message completes; None for one that only prepares others, or says nothing to us."""
        batch = self._batches.decode(data)
        match header_kind(data.header):
            case HeaderKind.RECORD_BATCH | HeaderKind.NONE:
                with malformed_as_source_error():
                    return self._arrival(self._contents(batch), read_word(data.app_metadata))
            case HeaderKind.SCHEMA:
                with malformed_as_source_error():
                    check_envelope(self._batches.schema)
        return None

    def _contents(self, batch: pa.RecordBatch | None) -> Contents:
        if batch is None:
            return Contents()
        contents = unwrap(batch)
        self.primary_key = self.primary_key or contents.primary_key
        return contents

    def _arrival(self, contents: Contents, word: Word | None) -> Arrival | None:
        if word is None:
            return _foreign(contents)
        self.spoken = True
        self._held.append(contents)
        if word.phase is Phase.LIVE and word.position is None:
            self._check_held(weight(contents.changes))
            return None
        whole, self._held, self._held_bytes = self._held, [], 0
        return Arrival(
            tuple(change for part in whole for change in part.changes),
            word.phase,
            position.encode(word.position) if word.position is not None else None,
            word.mark,
            sum(part.skipped for part in whole),
        )

    def _check_held(self, more: int) -> None:
        self._held_bytes += more
        if self._held_bytes > HELD_BYTES:
            raise ValueError(f"a commit of more than {HELD_BYTES // 1024**2} MiB")


def _foreign(contents: Contents) -> Arrival | None:
    """Of a server that does not say: what is created, updated or deleted is news, what is read may be a copy."""
    if not contents.ops:
        return None
    live = contents.ops & _NEWS and Op.TRUNCATE.value not in contents.ops
    return Arrival(contents.changes, Phase.LIVE if live else None, skipped=contents.skipped)


def weight(changes: Sequence[StreamChange]) -> int:
    """Bytes of memory that changes hold; none is without weight."""
    batches = [rows for rows in map(_rows_of, changes) if rows is not None]
    if len(batches) == 1:  # the usual case, in a hundredth of the time; several may share their buffers
        return _CHANGE_BYTES * len(changes) + int(batches[0].get_total_buffer_size())
    return _CHANGE_BYTES * len(changes) + sum(int(rows.nbytes) for rows in batches)


def _rows_of(change: StreamChange) -> pa.RecordBatch | None:
    match change:
        case Append(rows) | Delete(rows):
            return rows
        case Truncate():
            return None
        case _:
            assert_never(change)
