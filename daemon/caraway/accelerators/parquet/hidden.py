"""Tombstones on disk: an Arrow IPC file of one ascending int64 column of offsets whose rows are no longer there."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.parquet.disk import sync_directory, sync_file
from caraway.accelerators.parquet.schema import OFFSET_FIELD
from caraway.accelerators.runs import Hidden
from caraway.model import OFFSET_COLUMN

_SCHEMA = pa.schema([OFFSET_FIELD])


def write_hidden(hidden: Hidden, path: Path, *, durable: bool) -> None:
    """Write the offsets for whoever reads them; a file that is there already has them. OSError leaves no file."""
    if not path.exists():
        draft = path.with_suffix(".new")
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            writer.write_batch(pa.record_batch([hidden.sorted()], schema=_SCHEMA))
        draft.rename(path)
    if durable:
        sync_file(path)
        sync_directory(path.parent)


def read_hidden(path: Path) -> Hidden:
    return Hidden.of(hidden_offsets(path))


def hidden_offsets(path: Path | None) -> pa.Int64Array:
    """The offsets of a tombstone file, ascending; none where there is no file."""
    if path is None:
        return pa.array([], pa.int64())
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).get_batch(0).column(0)


def without_hidden(batch: pa.RecordBatch, hidden: pa.Int64Array) -> pa.RecordBatch:
    """A stored batch less the rows whose offset is among `hidden`, an ascending array."""
    offsets = batch.column(OFFSET_COLUMN)
    if len(hidden) == 0 or len(offsets) == 0:
        return batch
    bounds = pa.array([offsets[0].as_py(), offsets[-1].as_py() + 1], pa.int64())
    low, high = pc.search_sorted(hidden, bounds).to_pylist()
    if low == high:
        return batch
    return batch.filter(pc.invert(pc.is_in(offsets, hidden.slice(low, high - low))))
