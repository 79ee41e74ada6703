"""Changes as they go over the wire, made once for all subscribers that are at the same place."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import assert_never

import pyarrow as pa

from caraway.flight.changes import Packed, pack
from caraway.model import Append, Delete, StreamChange, TableSpec, Truncate

MAX_BYTES = 8 * 1024**2
PIECE_BYTES = 512 * 1024
"""What is made at a time: it is also about what one subscriber has on the way to him."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a change."""

    change: StreamChange
    start: int = 0
    rows: int | None = None

    def cut(self, table: pa.Schema) -> StreamChange:
        """The change with these rows alone, all of them with the table's schema if that can be."""
        match self.change:
            case Append(rows):
                return Append(rows.slice(self.start, self.rows))
            case Delete(keys):
                return Delete(_widened(keys.slice(self.start, self.rows), table))
            case Truncate():
                return self.change
            case _:
                assert_never(self.change)


def _widened(keys: pa.RecordBatch, table: pa.Schema) -> pa.RecordBatch:
    """Keys as rows of the table, nothing or zeros in the other columns; as they are where those can't be made up.

    Otherwise the schema would come again amid the stream, which pyarrow's client takes for the end of it.
    """
    columns = [keys.column(field.name) if field.name in keys.schema.names else _filler(field, keys) for field in table]
    if any(column is None or column.type != field.type for column, field in zip(columns, table, strict=True)):
        return keys
    return pa.RecordBatch.from_arrays(columns, schema=table)


def _filler(field: pa.Field, keys: pa.RecordBatch) -> pa.Array | None:
    empty = pa.nulls(keys.num_rows, field.type)
    if field.nullable:
        return empty
    if field.type.num_fields or pa.types.is_dictionary(field.type):
        return None
    return pa.Array.from_buffers(field.type, keys.num_rows, [None, *empty.buffers()[1:]])


def pieces_of(change: StreamChange) -> list[Piece]:
    """The change in pieces of about PIECE_BYTES."""
    if isinstance(change, Truncate):
        return [Piece(change)]
    rows = change.rows if isinstance(change, Append) else change.keys
    if rows.get_total_buffer_size() <= PIECE_BYTES:  # a hundredth of the time that `nbytes` takes
        return [Piece(change)] if rows.num_rows else []
    step = max(1, PIECE_BYTES * rows.num_rows // max(rows.nbytes, 1))
    return [Piece(change, start, step) for start in range(0, rows.num_rows, step)]


class Packs:
    """The newest packed pieces of all datasets, the longest unused dropped beyond a number of bytes.

    A log gives all who are near its end the same objects, so it is by identity that a change is known here.
    """

    def __init__(self, size: int = MAX_BYTES) -> None:
        self._size = size
        self._packs: OrderedDict[tuple[int, int], tuple[StreamChange, Packed]] = OrderedDict()
        self._bytes = 0
        self.packed = 0
        """Pieces that were packed; all others were there."""

    def pack(self, piece: Piece, spec: TableSpec, *, shared: bool) -> Packed:
        """The messages of a piece; kept for others who ask, if it is `shared`."""
        key = (id(piece.change), piece.start)
        if key in self._packs:
            self._packs.move_to_end(key)
            return self._packs[key][1]
        self.packed += 1
        packed = pack(piece.cut(spec.schema), spec.schema, spec.primary_key)
        if shared:
            self._packs[key] = (piece.change, packed)  # the change too: while it lives its id is no other's
            self._bytes += _size(packed)
            self._shrink()
        return packed

    def clear(self) -> None:
        """Give all memory back."""
        self._packs.clear()
        self._bytes = 0

    def _shrink(self) -> None:
        while self._bytes > self._size:
            _, (_, packed) = self._packs.popitem(last=False)
            self._bytes -= _size(packed)

    def __repr__(self) -> str:
        return f"<Packs {len(self._packs)} pieces, {self._bytes} bytes>"


def _size(packed: Packed) -> int:
    return sum(len(message.header) + len(message.body) for message in packed.messages)
