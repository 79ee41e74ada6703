"""What a writer does to the tables of one dataset; every function blocks, and runs in the caller's transaction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from caraway.accelerators.keys import distinct
from caraway.accelerators.sqlite.chunks import chunked
from caraway.accelerators.sqlite.database import Database
from caraway.accelerators.sqlite.layout import GONE, OFFSET, Layout, Names, indexes, unique_keys
from caraway.accelerators.sqlite.read import Request, rows_from
from caraway.accelerators.sqlite.sql import condition, quoted
from caraway.accelerators.storage import conflict_key, violation
from caraway.core.predicate import Predicate
from caraway.errors import StoreError
from caraway.kernels import conform, max_nanos, rechunk
from caraway.model import OFFSET_COLUMN, OnConflict, TableSpec

_INCOMING = "caraway_incoming"
_MANY = 1024
"""Rows from which the first is written with its offset, and the others in statements of several behind it."""
_ALL = 2**62
"""Beyond every offset."""


class Writer:
    """Knows a dataset's columns and keys; the epoch and the generation come with each call."""

    def __init__(self, database: Database, spec: TableSpec) -> None:
        self.database = database
        self.spec = spec
        self.layout = Layout(spec.schema)
        self.unique = unique_keys(spec)

    @property
    def _replacing(self) -> tuple[str, ...]:
        """The columns whose values an arriving row takes over from a stored one; none where it does not."""
        upsert = self.spec.on_conflict not in {OnConflict.REJECT, OnConflict.DROP}
        return conflict_key(self.spec) if upsert else ()

    # --- tables ---

    def create(self, names: Names) -> None:
        for statement in self.layout.create(names):
            self.database.execute(statement)

    def create_indexes(self, names: Names) -> None:
        """Raises the violation where rows of a bulk load share a key."""
        for statement in indexes(self.spec, names):
            try:
                self.database.execute(statement)
            except StoreError as error:
                raise self._refused(error) from error

    def drop(self, names: Names) -> None:
        for table in (names.rows, names.chunks):
            self.database.execute(f"DROP TABLE IF EXISTS {quoted(table)}")

    # --- rows in ---

    def append(self, names: Names, rows: pa.RecordBatch, first: int, generation: int) -> tuple[int, int]:
        """Add rows by the rule of `on_conflict`; how many came and how many went."""
        offered = distinct(conform(rows, self.spec.schema), self.spec)
        self._ingest_chunks(names, offered, first)
        if self.unique and self.spec.on_conflict is OnConflict.DROP:
            with self._incoming(self.layout.definition()):
                self._ingest(_INCOMING, offered, first, temporary=True)
                return self.move(f"temp.{_INCOMING}", names, generation, shift=0)
        key = self._replacing
        gone = self._mark_equal(names, offered.select(key), generation) if key else 0
        self._ingest(names.rows, offered, first)
        return offered.num_rows, gone

    def load(self, names: Names, rows: pa.RecordBatch, first: int) -> int:
        """Add rows to a table that nobody sees and that has no indexes yet; how many came."""
        offered = distinct(conform(rows, self.spec.schema), self.spec)
        self._ingest(names.rows, offered, first)
        self._ingest_chunks(names, offered, first)
        return int(offered.num_rows)

    def _ingest(self, table: str, rows: pa.RecordBatch, first: int, *, temporary: bool = False) -> None:
        for part in rechunk([rows]):
            encoded = {OFFSET_COLUMN: pa.arange(first, first + part.num_rows)}
            for name in self.layout.in_table:
                encoded[name] = self.layout.codecs[name].encode(part.column(name))
            try:
                self._ingest_part(table, pa.record_batch(encoded), temporary=temporary)
            except StoreError as error:
                raise self._refused(error) from error
            first += part.num_rows

    def _ingest_part(self, table: str, rows: pa.RecordBatch, *, temporary: bool) -> None:
        """The first column is the offset, and no row of the table has a greater one."""
        if temporary or rows.num_rows < _MANY or rows.num_columns == 1:
            self.database.ingest(table, rows, temporary=temporary)
        else:
            self.database.ingest(table, rows.slice(0, 1))
            self.database.ingest_on(table, rows.slice(1).select(rows.schema.names[1:]))

    def _ingest_chunks(self, names: Names, rows: pa.RecordBatch, first: int) -> None:
        if self.layout.in_chunks and rows.num_rows:
            self.database.ingest(names.chunks, chunked(rows.select(self.layout.in_chunks), first))

    def move(self, source: str, names: Names, generation: int, *, shift: int) -> tuple[int, int]:
        """Add the rows of another table by the rule of `on_conflict`; how many came and how many went."""
        key = self._replacing
        gone = self._mark_same_keys(source, names, key, generation) if key else 0
        columns = self.layout.columns()
        shifted = columns.replace(OFFSET, f"{OFFSET} + {shift}", 1)
        verb = "INSERT OR IGNORE" if self.spec.on_conflict is OnConflict.DROP else "INSERT"
        rows = f"SELECT {shifted} FROM {source} ORDER BY {OFFSET}"
        sql = f"{verb} INTO {quoted(names.rows)} ({columns}) {rows}"
        try:
            return self.database.change(sql), gone
        except StoreError as error:
            raise self._refused(error) from error

    def move_chunks(self, source: Names, names: Names, shift: int) -> None:
        if self.layout.in_chunks:
            moved = f"SELECT first + {shift}, last + {shift}, batch FROM {quoted(source.chunks)}"
            self.database.execute(f"INSERT INTO {quoted(names.chunks)} (first, last, batch) {moved}")

    def deduplicate(self, names: Names) -> int:
        """Of the rows of a bulk load that share a key, keep the one that `on_conflict` says; how many went."""
        if self.spec.on_conflict is OnConflict.REJECT:
            return 0
        first = self.spec.on_conflict is OnConflict.DROP
        keys = self.unique if first else [key for key in [conflict_key(self.spec)] if key]
        return sum(self._keep_one(names, key, "min" if first else "max") for key in keys)

    def _keep_one(self, names: Names, key: Sequence[str], which: str) -> int:
        columns = ", ".join(map(quoted, key))
        known = " AND ".join(f"{quoted(column)} IS NOT NULL" for column in key)
        table = quoted(names.rows)
        kept = f"SELECT {which}({OFFSET}) FROM {table} WHERE {known} GROUP BY {columns}"
        return self.database.change(f"DELETE FROM {table} WHERE {known} AND {OFFSET} NOT IN ({kept})")

    # --- rows out ---

    def _mark_same_keys(self, source: str, names: Names, key: Sequence[str], generation: int) -> int:
        same = " AND ".join(f"m.{quoted(column)} = s.{quoted(column)}" for column in key)
        return self._mark_matching(f"{source} s CROSS JOIN {quoted(names.rows)} m ON {same}", names, generation)

    def _mark_matching(self, join: str, names: Names, generation: int) -> int:
        found = f"SELECT m.{OFFSET} FROM {join} WHERE m.{GONE} IS NULL"
        sql = f"UPDATE {quoted(names.rows)} SET {GONE} = ? WHERE {OFFSET} IN ({found})"
        return self.database.change(sql, (generation,))

    def delete(self, names: Names, keys: pa.RecordBatch, generation: int) -> int:
        """Remove rows by primary key, or without one by equality of all columns; how many went."""
        columns = list(self.spec.primary_key or self.spec.schema.names)
        if not self.spec.primary_key and self.layout.in_chunks:
            nested = ", ".join(map(repr, self.layout.in_chunks))
            message = f"Rows of dataset {self.spec.name} can't be found by value: column {nested} is not comparable."
            raise StoreError(message, remedy="Declare acceleration.primary_key.", transient=False)
        wanted = conform(keys, pa.schema([self.spec.schema.field(name).with_nullable(True) for name in columns]))
        return self._mark_equal(names, wanted, generation, by_key=bool(self.spec.primary_key))

    def _mark_equal(self, names: Names, wanted: pa.RecordBatch, generation: int, *, by_key: bool = True) -> int:
        """Remove the rows with these values; `by_key` where they are a key's, of which null is none."""
        stored = [name for name in wanted.schema.names if name in self.layout.in_table]
        part = {name: self.layout.codecs[name].encode(wanted.column(name)) for name in stored}
        with self._incoming(", ".join(map(quoted, stored))):
            self.database.ingest(_INCOMING, pa.record_batch(part), temporary=True)
            if by_key:
                return self._mark_same_keys(f"temp.{_INCOMING}", names, stored, generation)
            same = " AND ".join(f"m.{quoted(name)} IS s.{quoted(name)}" for name in stored)
            return self._mark_matching(
                f"{quoted(names.rows)} m CROSS JOIN temp.{_INCOMING} s ON {same}", names, generation
            )

    def delete_where(self, names: Names, predicate: Predicate, generation: int) -> int:
        """Remove the rows that a predicate is true for; how many went."""
        pushed = condition(predicate, self.layout.types)
        if pushed and pushed.exact:
            sql = f"UPDATE {quoted(names.rows)} SET {GONE} = ? WHERE {GONE} IS NULL AND ({pushed.sql})"
            return self.database.change(sql, (generation, *pushed.values))
        request = Request(
            self.database.path, names.rows, self.spec.schema, _ALL, generation, columns=(), predicate=predicate
        )
        found = [batch.select([OFFSET_COLUMN]) for batch in rows_from(self.database, request)]
        with self._incoming(f"{OFFSET} INTEGER"):
            for offsets in found:
                self.database.ingest(_INCOMING, offsets, temporary=True)
            same = f"m.{OFFSET} = s.{OFFSET}"
            return self._mark_matching(
                f"temp.{_INCOMING} s CROSS JOIN {quoted(names.rows)} m ON {same}", names, generation
            )

    @contextmanager
    def _incoming(self, columns: str) -> Iterator[None]:
        """A temporary table; an error leaves it to the rollback."""
        self.database.execute(f"CREATE TEMP TABLE {_INCOMING} ({columns})")
        yield
        self.database.execute(f"DROP TABLE temp.{_INCOMING}")

    def purge(self, names: Names, floor: int) -> int:
        """Delete for good what no reader of generation `floor` or later sees; how many rows that were."""
        return self.database.change(f"DELETE FROM {quoted(names.rows)} WHERE {GONE} <= ?", (floor,))

    def has_marks(self, names: Names) -> bool:
        """Whether removed rows wait to be deleted."""
        return bool(self.database.execute(f"SELECT 1 FROM {quoted(names.rows)} WHERE {GONE} IS NOT NULL LIMIT 1"))

    def prune_chunks(self, names: Names) -> None:
        """Delete the chunks whose rows are all deleted."""
        if self.layout.in_chunks:
            rows = f"SELECT 1 FROM {quoted(names.rows)} WHERE {OFFSET} BETWEEN first AND last"
            self.database.execute(f"DELETE FROM {quoted(names.chunks)} WHERE NOT EXISTS ({rows})")

    def drop_indexes(self, names: Names) -> None:
        sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
        for (name,) in self.database.execute(sql, (names.rows,)):
            self.database.execute(f"DROP INDEX {quoted(str(name))}")

    def max_time(self, names: Names) -> int | None:
        """The greatest time of the rows that are there, for a time column that was not the time column before."""
        if self.spec.time is None:
            return None
        columns = (self.spec.time.name,)
        request = Request(self.database.path, names.rows, self.spec.schema, _ALL, _ALL, columns=columns)
        times = (max_nanos(batch, self.spec.time) for batch in rows_from(self.database, request))
        return max((time for time in times if time is not None), default=None)

    def _refused(self, error: StoreError) -> StoreError:
        for key in self.unique:
            if all(f".{column}" in error.message for column in key) and "UNIQUE constraint failed" in error.message:
                return violation(key, self.spec.name)
        return error
