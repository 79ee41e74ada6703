"""Immutable Arrow IPC files of a log: the table's columns, then the offset; and files of hidden offsets."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from caraway.errors import StoreError
from caraway.kernels import keep, rechunk
from caraway.model import OFFSET_COLUMN

OFFSET_FIELD = pa.field(OFFSET_COLUMN, pa.int64(), nullable=False)
_HIDDEN = pa.schema([OFFSET_FIELD])


@dataclass(frozen=True, slots=True)
class LogFile:
    """Rows with offsets in [first, end); `bytes` is the size of the file."""

    path: Path
    first: int
    end: int
    rows: int
    bytes: int


class FileWriter:
    """Writes one file; leaving the context by an error removes it. A full tmpfs is a StoreError."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.first = self.end = self.rows = 0
        self._schema = schema.append(OFFSET_FIELD)
        with storing(path):
            self._sink = pa.OSFile(str(path), "wb")
            self._writer = pa.ipc.new_file(self._sink, self._schema)

    def write(self, rows: pa.RecordBatch, offsets: pa.Int64Array) -> None:
        if not rows.num_rows:
            return
        self.first = self.first if self.rows else offsets[0].as_py()
        self.end = offsets[-1].as_py() + 1
        self.rows += rows.num_rows
        with storing(self.path):
            for part in rechunk([pa.RecordBatch.from_arrays([*rows.columns, offsets], schema=self._schema)]):
                self._writer.write_batch(part)

    def close(self) -> LogFile:
        with storing(self.path):
            self._writer.close()
            self._sink.close()
            return LogFile(self.path, self.first, self.end, self.rows, self.path.stat().st_size)

    def discard(self) -> None:
        self._sink.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.discard()


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Maps what the file system says to StoreError."""
    try:
        yield
    except OSError as error:
        remedy = "Free memory there, or keep the dataset in a file (acceleration.mode: file)."
        raise StoreError(f"{path} can't be written: {error}.", remedy=remedy) from error


def write_hidden(path: Path, offsets: pa.Int64Array) -> None:
    """Write ascending offsets as an Arrow IPC file of one column."""
    with storing(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _HIDDEN) as writer:
        writer.write_batch(pa.record_batch([offsets], schema=_HIDDEN))


def read_hidden(path: Path | None) -> pa.Int64Array:
    """The hidden offsets, ascending."""
    if path is None:
        return pa.array([], pa.int64())
    return next(read_file(path)).column(0)


def read_file(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a file, mapped: they take no memory of their own."""
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error}.") from error


def live(batches: Iterable[pa.RecordBatch], hidden: pa.Int64Array) -> Iterator[pa.RecordBatch]:
    """The rows whose offset is not hidden; no batch is empty."""
    for batch in batches:
        rows = _without(batch, hidden) if len(hidden) and batch.num_rows else batch
        if rows.num_rows:
            yield rows


def _without(batch: pa.RecordBatch, hidden: pa.Int64Array) -> pa.RecordBatch:
    offsets = batch.column(OFFSET_COLUMN)
    bounds = pa.array([offsets[0].as_py(), offsets[-1].as_py() + 1], pa.int64())
    low, high = pc.search_sorted(hidden, bounds).to_pylist()
    return batch if low == high else keep(batch, pc.invert(pc.is_in(offsets, hidden.slice(low, high - low))))
