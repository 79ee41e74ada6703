"""What a dataset keeps of a stream's changes, by its refresh_sql, in the columns of its table."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.keys import distinct
from caraway.config.model import RefreshSql
from caraway.core.predicate import Predicate, bind_now, relative_columns
from caraway.errors import SourceError
from caraway.kernels import conform, keep, mask
from caraway.model import Append, Delete, OnConflict, TableSpec


class Selection:
    """Changes of the source in, changes of the table out. Failures are StoreError, or SourceError for the stream's.

    A row that the condition does not select may have replaced one that it did: with a primary key it removes that.
    """

    def __init__(self, spec: TableSpec, refresh_sql: RefreshSql | None) -> None:
        self._spec = spec
        self._predicate = refresh_sql.predicate if refresh_sql is not None else None
        self._relative = bool(relative_columns(self._predicate))
        self._partial = refresh_sql is not None and refresh_sql.columns is not None
        self._keys = pa.schema([spec.schema.field(name) for name in spec.primary_key or spec.schema.names])

    def copied(self, change: Append | Delete, now: int) -> pa.RecordBatch:
        """The rows of a complete copy; `now` in nanoseconds since 1970 UTC."""
        if isinstance(change, Delete):
            raise self._error("removes rows within a complete copy, which can't hold them", "Report it as a defect.")
        rows = change.rows
        return self._fit(rows if self._predicate is None else keep(rows, self._selects(self._predicate, rows, now)))

    def live(self, changes: Sequence[Append | Delete], now: int) -> list[Append | Delete]:
        """The same news for this table."""
        return [kept for change in changes for kept in self._live(change, now)]

    def _live(self, change: Append | Delete, now: int) -> Iterator[Append | Delete]:
        if isinstance(change, Delete):
            yield Delete(self._removed(change.keys))
        elif self._predicate is None:
            yield Append(self._fit(change.rows))
        else:
            yield from self._split(self._predicate, change.rows, now)

    def _split(self, predicate: Predicate, rows: pa.RecordBatch, now: int) -> Iterator[Append | Delete]:
        """The rows that are selected, after the keys of those that are not."""
        replaces = self._spec.primary_key and self._spec.on_conflict is not OnConflict.DROP
        if replaces:
            rows = distinct(rows, self._spec)  # the last word on each key counts, whether it is selected or not
        selected = self._selects(predicate, rows, now)
        gone, kept = keep(rows, pc.invert(selected)), keep(rows, selected)
        if replaces and gone.num_rows:
            yield Delete(conform(gone, self._keys))
        if kept.num_rows:
            yield Append(self._fit(kept))

    def _selects(self, predicate: Predicate, rows: pa.RecordBatch, now: int) -> pa.BooleanArray:
        return pc.fill_null(mask(rows, bind_now(predicate, now) if self._relative else predicate), False)

    def _removed(self, keys: pa.RecordBatch) -> pa.RecordBatch:
        if not self._spec.primary_key and self._partial:
            remedy = "Set acceleration.primary_key, or select all columns."
            raise self._error("removes rows that can't be told apart by the columns of refresh_sql", remedy)
        missing = [name for name in self._keys.names if name not in keys.schema.names]
        if missing:
            columns = ", ".join(keys.schema.names)
            remedy = f"Set acceleration.primary_key to the source's key ({columns})."
            raise self._error(f"removes rows by {columns}, which does not tell {', '.join(missing)}", remedy)
        return conform(keys, self._keys)

    def _fit(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return conform(rows, self._spec.schema)

    def _error(self, what: str, remedy: str) -> SourceError:
        return SourceError(f"The stream of dataset {self._spec.name} {what}.", remedy=remedy, transient=False)
