"""Writing part files: a stream of stored batches cut into row groups and files of bounded size."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caraway.accelerators.parquet.disk import sync_directory, sync_file
from caraway.accelerators.parquet.options import Options
from caraway.accelerators.parquet.state import Part
from caraway.model import OFFSET_COLUMN

_GROUP_BYTES = 8 * 1024**2
_DICTIONARY_BYTES = 64 * 1024
"""A text column with more distinct values in a row group is better off plain: 4.6 against 3.9 M rows/s, and smaller."""


class PartsWriter:
    """Takes stored batches in offset order; holds one row group in memory, whatever the total.

    `finish` makes all files durable and names them. Files of a writer that was not finished are garbage.
    """

    def __init__(self, folder: Path, schema: pa.Schema, keys: frozenset[str], options: Options) -> None:
        self._folder = folder
        self._schema = schema
        self._options = options
        self._settings = _settings(schema, keys, options)
        self._group: list[pa.RecordBatch] = []
        self._group_rows = self._group_bytes = 0
        self._file: _PartFile | None = None
        self._parts: list[Part] = []

    def write(self, batch: pa.RecordBatch) -> None:
        for piece in _pieces(batch, self._options.row_group_rows):
            if self._group_rows + piece.num_rows > self._options.row_group_rows:
                self._flush()
            self._group.append(piece)
            self._group_rows += piece.num_rows
            self._group_bytes += piece.nbytes
            if self._group_bytes >= _GROUP_BYTES:
                self._flush()

    def finish(self) -> tuple[Part, ...]:
        self._flush()
        self._roll()
        if self._parts:
            sync_directory(self._folder)
        return tuple(self._parts)

    def discard(self) -> None:
        """Give up: close what is open and remove every file."""
        if self._file is not None:
            self._file.abandon()
            self._file = None
        for part in self._parts:
            part.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._group:
            return
        group = pa.Table.from_batches(self._group, self._schema)
        self._group, self._group_rows, self._group_bytes = [], 0, 0
        if self._file is None:
            self._file = _PartFile(self._folder, group, self._settings)
        self._file.write(group)
        policy = self._options.policy
        if self._file.rows >= policy.part_rows or self._file.bytes >= policy.part_bytes:
            self._roll()

    def _roll(self) -> None:
        if self._file is not None:
            self._parts.append(self._file.finish())
            self._file = None


class _PartFile:
    """One part file that is being written; it is gone again where writing fails."""

    def __init__(self, folder: Path, group: pa.Table, settings: dict[str, object]) -> None:
        self.rows = 0
        self._first = self._end = _offset(group, 0)
        self._path = folder / f"{self._first:019d}-{secrets.token_hex(4)}.parquet"
        self._writer: Any = None
        self._sink = pa.OSFile(str(self._path), "wb")
        with self._abandoning():
            self._writer = pq.ParquetWriter(self._sink, group.schema, **settings)

    @property
    def bytes(self) -> int:
        return int(self._sink.tell())

    def write(self, group: pa.Table) -> None:
        with self._abandoning():
            self._writer.write_table(group, row_group_size=group.num_rows)
        self.rows += group.num_rows
        self._end = _offset(group, group.num_rows - 1) + 1

    def finish(self) -> Part:
        with self._abandoning():
            self._writer.close()
            self._sink.close()
            sync_file(self._path)
        return Part(self._path, self._first, self._end, self.rows, self._path.stat().st_size)

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.is_open = False  # its destructor would write a footer
        with suppress(OSError):  # what is still buffered may not fit either
            self._sink.close()
        self._path.unlink(missing_ok=True)

    @contextmanager
    def _abandoning(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.abandon()
            raise


def _offset(group: pa.Table, row: int) -> int:
    offset: int = group.column(OFFSET_COLUMN)[row].as_py()
    return offset


def _pieces(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    step = max(1, min(rows, _GROUP_BYTES * batch.num_rows // max(batch.nbytes, 1)))
    return (batch.slice(start, step) for start in range(0, batch.num_rows, step))


def _settings(schema: pa.Schema, keys: frozenset[str], options: Options) -> dict[str, object]:
    """Bloom filters only where a point query would ask: on key columns, one value a row at most.

    Numbers are stored as differences: of orders, that took half the CPU and a tenth of the bytes of plain zstd, and
    DataFusion and DuckDB read them twice as fast. Floats gain no such thing (BYTE_STREAM_SPLIT makes prices larger).
    """
    texts = [field.name for field in schema if _is_text(field.type)]
    blooms = [field.name for field in schema if field.name in keys and not pa.types.is_boolean(field.type)]
    return {
        "compression": options.compression.upper(),
        "use_dictionary": texts or False,
        "dictionary_pagesize_limit": _DICTIONARY_BYTES,
        "column_encoding": {field.name: "DELTA_BINARY_PACKED" for field in schema if _is_whole(field.type)},
        "write_page_index": True,
        "bloom_filter_options": {name: {"ndv": options.row_group_rows, "fpp": 0.01} for name in blooms} or None,
    }


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(is_kind(kind) for is_kind in texts)


def _is_whole(kind: pa.DataType) -> bool:
    """Whether Parquet stores it as INT32 or INT64."""
    types = pa.types
    kinds = (types.is_integer, types.is_date32, types.is_time, types.is_timestamp)
    return any(is_kind(kind) for is_kind in kinds)
