"""The batches of a snapshot's Arrow files and tails, in place: what an earlier snapshot had is not read again.

Small batches are joined with their neighbours. Where rows are hidden, each batch has LIVE_COLUMN, which tells which of
its rows are still there: a filter by it is free, where a join with the hidden offsets takes each query 1 ms.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from caraway.core.compaction import runs_to_merge
from caraway.model import OFFSET_COLUMN, ArrowFiles, IpcTail, ParquetFiles

BATCH_ROWS = 65_536
SMALL_ROWS, SMALL_BYTES = 4_096, 256 * 1024
"""A batch below both is copied in less time than the engine takes to get one more, which is 50 us."""
JOINED_ROWS = 4 * SMALL_ROWS
"""Of a tail, so many are joined at most: what is no longer small is not copied for a next snapshot."""
LIVE_COLUMN = "__caraway_live"

_ALL_LIVE = pa.repeat(True, BATCH_ROWS)
_NONE = pa.array([], pa.int64())


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of at most BATCH_ROWS rows, of which `gone` are hidden; `live` tells which are not, if any is."""

    stored: pa.RecordBatch
    gone: int = 0
    live: pa.BooleanArray | None = None

    def without(self, hidden: pa.Int64Array) -> "Rows":
        """With those rows hidden that have these offsets; each time there are the same ones, or more."""
        offsets = self.stored.column(OFFSET_COLUMN)
        bounds = pa.array([offsets[0].as_py(), offsets[-1].as_py() + 1], pa.int64())
        low, high = pc.search_sorted(hidden, bounds).to_pylist()
        if high - low == self.gone:
            return self
        return replace(self, gone=high - low, live=pc.invert(pc.is_in(offsets, hidden.slice(low, high - low))))

    def marked(self) -> pa.RecordBatch:
        """The batch with LIVE_COLUMN."""
        live = self.live if self.live is not None else _ALL_LIVE.slice(0, self.stored.num_rows)
        return self.stored.append_column(LIVE_COLUMN, live)


@dataclass(frozen=True, slots=True)
class File:
    """The rows of the first `length` bytes of a file, or of all of it."""

    rows: tuple[Rows, ...]
    length: int = 0

    def without(self, hidden: pa.Int64Array) -> "File":
        return replace(self, rows=tuple(rows.without(hidden) for rows in self.rows))


@dataclass(frozen=True, slots=True)
class Stored:
    """What was read for one snapshot, by path; files are never written anew, tails only grow."""

    files: Mapping[Path, File] = field(default_factory=dict)
    hides: bool = False

    def batches(self) -> Iterator[list[pa.RecordBatch]]:
        """Runs of batches that have the same columns: files stay as they are when the table gets another one."""
        every = [rows.marked() if self.hides else rows.stored for file in self.files.values() for rows in file.rows]
        for _, run in groupby(every, key=lambda batch: batch.schema):
            yield list(joined(run))


def read(data: ArrowFiles | ParquetFiles, before: Stored) -> Stored:
    """The rows of a snapshot's Arrow files, or of its tails, in log order; what `before` has of them is taken over."""
    match data:
        case ArrowFiles(paths):
            files = {path: before.files.get(path) or _mapped_file(path) for path in paths}
        case ParquetFiles(_, tails):
            files = {tail.path: _grown(tail, before.files.get(tail.path)) for tail in tails if tail.length}
    hidden = _hidden_offsets(data.hidden)
    if not len(hidden):
        return Stored(files)
    return Stored({path: file.without(hidden) for path, file in files.items()}, hides=True)


def mapped(path: Path) -> list[pa.RecordBatch]:
    """The batches of an Arrow file, in place; they keep the mapping alive."""
    with pa.memory_map(os.fspath(path)) as source:
        reader = pa.ipc.open_file(source)
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, neighbouring batches that are small as one."""
    for small, run in groupby(batches, _is_small):
        neighbours = list(run)
        yield from _together(neighbours) if small else neighbours


def _mapped_file(path: Path) -> File:
    return File(tuple(_cut(mapped(path))))


def _cut(batches: Iterable[pa.RecordBatch]) -> Iterator[Rows]:
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield Rows(batch.slice(start, BATCH_ROWS))


def _grown(tail: IpcTail, before: File | None) -> File:
    """The committed rows of a write-ahead file. What came since `before` is joined with what is there as runs of a log
    are, so that a row is copied a few times at most however many commits it takes until the tail is full."""
    from caraway.accelerators.parquet.wal import batches

    known = before if before is not None and before.length <= tail.length else File(())
    rows = list(known.rows)
    with pa.memory_map(os.fspath(tail.path)) as source:
        for new in _cut(batches(source.read_buffer(tail.length), known.length)):
            rows.append(new)
            _merge_newest(rows)
    return File(tuple(rows), tail.length)


def _merge_newest(rows: list[Rows]) -> None:
    count = runs_to_merge([each.stored.num_rows for each in rows], JOINED_ROWS)
    if count:
        rows[-count:] = [Rows(pa.concat_batches([each.stored for each in rows[-count:]]))]


def _hidden_offsets(path: Path | None) -> pa.Int64Array:
    return pa.concat_arrays([_NONE, *(batch.column(0) for batch in mapped(path))]) if path is not None else _NONE


def _is_small(batch: pa.RecordBatch) -> bool:
    return bool(batch.num_rows < SMALL_ROWS and batch.nbytes < SMALL_BYTES)


def _together(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """As few batches as there can be; as they are where their dictionaries do not fit one index type."""
    try:
        whole: list[pa.RecordBatch] = pa.Table.from_batches(batches).combine_chunks().to_batches(BATCH_ROWS)
    except pa.ArrowInvalid:
        return list(batches)
    return whole
