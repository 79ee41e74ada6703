"""A digest of rows that come in batches, which is the same however they are cut.

A column is a few streams of bytes, each of which goes on from batch to batch: the places of its nulls, the lengths of
its texts and lists, its values. What lies beneath a null is no part of it. Values are compared by their bits, so that
-0.0 is another one than 0.0.

XXH3 in 128 bits takes 13 ms for 1 M orders (58 MB) where BLAKE2b took 108. Nobody but the source could make two states
collide on purpose, and a source that wants to hide a state need not tell of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

Path: TypeAlias = tuple[int, ...]
"""Which column, and which of the values in it: a list or a struct has some of its own."""

_NULLS, _LENGTHS, _VALUES = 0, 1, 2


class UnknownTypeError(TypeError):
    """Values of this type can't be digested."""


@dataclass(slots=True)
class Digest:
    """Of all rows so far; `seed` is whatever else makes them what they are. UnknownTypeError for what has no bytes."""

    seed: str = ""
    rows: int = 0
    _streams: dict[tuple[Path, int], xxhash.xxh3_128] = field(default_factory=dict)
    _lengths: dict[Path, int] = field(default_factory=dict)

    def update(self, batch: pa.RecordBatch) -> None:
        for place, column in enumerate(batch.columns):
            self.add((place,), column)
        self.rows += batch.num_rows

    def hexdigest(self) -> str:
        """32 digits."""
        whole = xxhash.xxh3_128(f"{self.rows}\0{self.seed}".encode())
        for name, stream in sorted(self._streams.items()):
            whole.update(repr(name).encode() + stream.digest())
        return whole.hexdigest()

    def add(self, path: Path, column: pa.Array) -> None:
        """Go on with one column."""
        before = self._lengths.get(path, 0)
        self._lengths[path] = before + len(column)
        if column.null_count:
            places = pc.add(pc.indices_nonzero(column.is_null()).cast(pa.int64()), before)
            self._feed(path, _NULLS, _bytes_of(places))
        self._add_values(path, column)

    def _add_values(self, path: Path, column: pa.Array) -> None:
        kind = column.type
        if pa.types.is_null(kind):
            return
        for applies, plain in _PLAIN:
            if applies(kind):
                self._add_values(path, plain(column))
                return
        for applies, split in _SPLIT:
            if applies(kind):
                split(self, path, column)
                return
        raise UnknownTypeError(f"values of type {kind} have no digest")

    def add_fixed(self, path: Path, column: pa.Array) -> None:
        """Values of one width."""
        if column.null_count:
            width = column.type.bit_width // 8
            column = pc.fill_null(column.view(pa.binary(width)), bytes(width))
        self._feed(path, _VALUES, _bytes_of(column))

    def add_texts(self, path: Path, column: pa.Array) -> None:
        """Lengths, then the texts one after the other."""
        if column.null_count:
            column = pc.fill_null(column, pa.scalar(b"").cast(column.type))
        self._feed(path, _LENGTHS, _bytes_of(pc.binary_length(column)))
        _, offsets, data = column.buffers()
        if data is not None and len(column):
            kind = pa.int64() if _is_large(column.type) else pa.int32()
            ends = pa.Array.from_buffers(kind, len(column) + 1, [None, offsets], offset=column.offset)
            self._feed(path, _VALUES, memoryview(data)[ends[0].as_py() : ends[-1].as_py()])

    def add_list(self, path: Path, column: pa.Array) -> None:
        lengths = pc.fill_null(pc.list_value_length(column).cast(pa.int64()), 0)
        self._feed(path, _LENGTHS, _bytes_of(lengths))
        self.add((*path, 0), column.flatten())

    def add_struct(self, path: Path, column: pa.StructArray) -> None:
        for place, inner in enumerate(column.flatten()):
            self.add((*path, place), inner)

    def _feed(self, path: Path, what: int, data: memoryview) -> None:
        stream = self._streams.get((path, what))
        if stream is None:
            stream = self._streams[path, what] = xxhash.xxh3_128()
        stream.update(data)


def can_digest(schema: pa.Schema) -> bool:
    """Whether rows of this schema have a digest."""
    try:
        for place, column in enumerate(schema):
            Digest().add((place,), pa.nulls(0, column.type))
    except UnknownTypeError:
        return False
    return True


def _bytes_of(column: pa.Array) -> memoryview:
    """The values of an array without nulls, each of the same width."""
    data, width = column.buffers()[1], column.type.bit_width // 8
    return memoryview(data)[column.offset * width : (column.offset + len(column)) * width] if data else memoryview(b"")


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _is_fixed(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_primitive(kind) or types.is_decimal(kind) or types.is_fixed_size_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind) or _is_large(kind))


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _entries(column: pa.MapArray) -> pa.Array:
    kind = column.type
    entry = pa.struct([kind.key_field, kind.item_field])
    return column.cast(pa.list_(pa.field("entries", entry, nullable=False)))


_PLAIN: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], pa.Array]], ...] = (
    (pa.types.is_boolean, lambda column: column.cast(pa.uint8())),
    (pa.types.is_dictionary, lambda column: column.dictionary_decode()),
    (pa.types.is_run_end_encoded, pc.run_end_decode),
    (_is_view, lambda column: column.cast(pa.large_binary())),
    (pa.types.is_map, _entries),
)
"""Types that are digested as others."""

_SPLIT: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Digest, Path, pa.Array], None]], ...] = (
    (_is_fixed, Digest.add_fixed),
    (_is_text, Digest.add_texts),
    (_is_list, Digest.add_list),
    (pa.types.is_struct, Digest.add_struct),
)
