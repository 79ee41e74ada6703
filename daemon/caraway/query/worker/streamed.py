"""A table whose rows come from a fresh reader at each scan, so that a big SQLite table is never held in memory.

DataFusion's binding takes foreign tables as pyarrow datasets: it asks one for its schema, its fragments, and a scanner
over columns and a filter. These classes answer that much and hold no dataset underneath.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from datafusion.catalog import Table

from caraway.accelerators.read import read_snapshot
from caraway.core.predicate import all_of, columns_of
from caraway.model import Pinned, ScanRequest


def streamed_table(request: ScanRequest, pinned: Pinned, schema: pa.Schema) -> Table:
    """What may be shown of the snapshot, read with the request's predicate; a scan narrows the columns further."""
    return Table(StreamedDataset(request, pinned, schema))


class StreamedScanner:
    """One scan: the stored rows that the request's predicate leaves, then the engine's own filter, exactly."""

    def __init__(
        self, dataset: "StreamedDataset", columns: Sequence[str] | None, condition: pc.Expression | None
    ) -> None:
        self._dataset = dataset
        self._columns = list(columns) if columns is not None else dataset.schema.names
        self._condition = condition

    @property
    def projected_schema(self) -> pa.Schema:
        return pa.schema([self._dataset.schema.field(name) for name in self._columns])

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        with self._dataset.read(self._read) as reader:
            for batch in reader:
                yield self._kept(batch).select(self._columns)

    def _kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        match self._condition:
            case None:
                return batch
            case pa.Scalar() as constant:  # the optimiser reduced the filter to TRUE, FALSE or NULL
                return batch if constant.as_py() else batch.slice(0, 0)
            case condition:
                return batch.filter(condition)

    @property
    def _read(self) -> tuple[str, ...]:
        """The condition does not say which columns it reads; those of the request include them."""
        if self._condition is not None:
            return self._dataset.wanted
        return tuple(self._columns) or self._dataset.wanted[:1]


class StreamedDataset(ds.Dataset):  # type: ignore[misc]
    """A dataset of one fragment, which is itself."""

    def __init__(self, request: ScanRequest, pinned: Pinned, schema: pa.Schema) -> None:
        # The base class forbids construction and holds a C++ dataset; nothing of it is used but its type.
        self._request = request
        self._pinned = pinned
        self._schema = schema

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    @property
    def wanted(self) -> tuple[str, ...]:
        return self._request.columns or tuple(self._schema.names)

    def read(self, columns: tuple[str, ...]) -> pa.RecordBatchReader:
        request, pinned = self._request, self._pinned
        hidden = sorted(columns_of(pinned.only).difference(self._schema.names))
        stored = pa.schema([*self._schema, *(pa.field(name, pa.string()) for name in hidden)])
        predicate = all_of(request.predicate, pinned.only)
        return read_snapshot(pinned.snapshot, stored, columns, predicate, request.limit)

    def get_fragments(self, filter: pc.Expression | None = None) -> "Iterator[StreamedDataset]":  # noqa: A002, ARG002
        yield self

    def scanner(
        self,
        schema: pa.Schema | None = None,  # noqa: ARG002
        *,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002
        batch_size: int | None = None,  # noqa: ARG002
    ) -> StreamedScanner:
        return StreamedScanner(self, columns, filter)
