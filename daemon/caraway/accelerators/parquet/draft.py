"""The next state of a store while it is made: changes applied in order, nothing visible or durable yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.constraints import Keys
from caraway.accelerators.parquet.hidden import without_hidden
from caraway.accelerators.parquet.read import read_stored
from caraway.accelerators.parquet.schema import aligned, physical_schema, to_physical
from caraway.accelerators.parquet.state import Part, State
from caraway.accelerators.places import asked
from caraway.accelerators.tally import later
from caraway.core.compaction import Size
from caraway.core.predicate import Predicate, columns_of
from caraway.kernels import conform, filter_batch, max_nanos
from caraway.kernels.rowkeys import row_keys
from caraway.model import OFFSET_COLUMN, Append, Change, Delete, DeleteWhere, TableSpec


class Draft:
    """What `base` becomes: `rows` to add, as they are stored, and in `newly_hidden` the offsets to hide."""

    def __init__(self, base: State, spec: TableSpec, stored: pa.Schema, keys: Keys) -> None:
        self._spec = spec
        self._stored = stored
        self.base = base
        self.keys = keys
        self.rows: list[pa.RecordBatch] = []
        self.end_offset = base.end_offset
        self.max_time = base.max_time
        self.hidden = base.hidden
        self.newly_hidden: list[pa.Int64Array] = []

    @property
    def is_empty(self) -> bool:
        """Whether it leaves the contents as they are."""
        return self.end_offset == self.base.end_offset and not self.newly_hidden

    @property
    def size(self) -> Size:
        """How many rows and tombstones it holds in memory, and what a tail would need for them."""
        rows: int = sum(batch.num_rows for batch in self.rows)
        size: int = sum(held.nbytes for held in (*self.rows, *self.newly_hidden))
        return Size(rows + sum(map(len, self.newly_hidden)), size)

    @property
    def emptied(self) -> frozenset[Part]:
        """The parts of the base that have no live row left."""
        if not self.newly_hidden:
            return frozenset()
        parts = self.base.parts
        return frozenset(part for part in parts if len(self.hidden.between(part.first, part.end)) == part.rows)

    def apply(self, change: Change) -> None:
        match change:
            case Append(rows):
                self.append(rows)
            case Delete(keys):
                self._delete(keys)
            case DeleteWhere(predicate):
                self._delete_where(predicate)
            case _:
                assert_never(change)

    def append(self, rows: pa.RecordBatch) -> None:
        """Add rows as constraints allow; StoreError where they refuse the batch."""
        columns = [to_physical(column) for column in conform(rows, self._spec.schema).columns]
        batch = pa.RecordBatch.from_arrays(columns, names=self._spec.schema.names)
        batch, keys, replaced = self.keys.admit(batch)
        self._hide(replaced)
        if batch.num_rows == 0:
            return
        self.max_time = later(self.max_time, max_nanos(batch, self._spec.time))
        offsets = pa.arange(self.end_offset, self.end_offset + batch.num_rows)
        self.end_offset += batch.num_rows
        self.keys = self.keys.plus(keys, offsets)
        self.rows.append(pa.RecordBatch.from_arrays([*batch.columns, offsets], schema=self._stored))

    def _delete(self, keys: pa.RecordBatch) -> None:
        columns = self._spec.primary_key or tuple(self._spec.schema.names)
        wanted = conform(keys, pa.schema([self._spec.schema.field(name) for name in columns]))
        stored = physical_schema(wanted.schema)
        plain = [to_physical(column) for column in wanted.columns]
        batch = pa.RecordBatch.from_arrays(plain, schema=stored.remove(len(plain)))
        before = self.hidden
        if self._spec.primary_key:
            self._hide(self.keys.find(self._spec.primary_key, batch))
        else:
            self._delete_equal(batch, stored)
        if self.hidden is not before:
            self.end_offset += 1  # a delete has an offset, so that a position in the log covers it

    def _delete_equal(self, batch: pa.RecordBatch, stored: pa.Schema) -> None:
        rows = pc.unique(row_keys(batch))
        for live in self._live(stored):
            found = pc.is_in(row_keys(live.select(batch.schema.names)), rows)
            self._hide(live.column(OFFSET_COLUMN).filter(found))

    def _delete_where(self, predicate: Predicate) -> None:
        if (wanted := asked(predicate, self._spec)) is not None:
            self._hide(self._looking_up(wanted.column).look_up(wanted))
            return
        for live in self._live(physical_schema(self._spec.schema, columns_of(predicate)), predicate):
            self._hide(live.column(OFFSET_COLUMN))

    def _looking_up(self, column: str) -> Keys:
        """The keys with a lookup by this column, which is read where that is the first that is asked of it."""
        if not self.keys.has_lookup(column):
            self.keys = self.keys.looking_up(column, self._live(physical_schema(self._spec.schema, {column})))
        return self.keys

    def _live(self, stored: pa.Schema, predicate: Predicate | None = None) -> Iterator[pa.RecordBatch]:
        """The rows that are there now, those of this draft included, for which the predicate is true."""
        hidden = self.hidden.sorted()
        yield from read_stored(self.base.data, hidden, stored, predicate)
        for batch in self.rows:
            yield without_hidden(filter_batch(aligned(batch, stored), predicate), hidden)

    def _hide(self, offsets: pa.Int64Array) -> None:
        if len(offsets):
            self.hidden = self.hidden.plus(offsets)
            self.keys = self.keys.less(offsets)
            self.newly_hidden.append(offsets)
