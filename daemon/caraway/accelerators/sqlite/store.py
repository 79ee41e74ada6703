"""One dataset in a SQLite file, as its writer knows it; every method blocks."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import assert_never

import pyarrow as pa

from caraway.accelerators.sqlite import ledger
from caraway.accelerators.sqlite.database import Database
from caraway.accelerators.sqlite.layout import Names, create_chunks
from caraway.accelerators.sqlite.sql import quoted
from caraway.accelerators.sqlite.table import Writer
from caraway.accelerators.tally import Tally
from caraway.core.compaction import Policy, Size, is_worn
from caraway.errors import ViolationError
from caraway.kernels import max_nanos
from caraway.model import Append, Change, Cursor, Delete, DeleteWhere, OnConflict, TableSpec

_POLICY = Policy()
_ROW_BYTES = 256
"""What a row is taken to have where there is none to tell."""


@dataclass(frozen=True, slots=True)
class Readers:
    """Who reads what: rows removed at `floor` or before are seen by nobody, nor are epochs that are not named."""

    floor: int
    epochs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Load:
    """Rows on their way in, in a table of their own named after a new epoch; offsets start at `base`."""

    epoch: str
    base: int = 0
    made: bool = False
    state: Tally = field(default_factory=lambda: Tally(""))

    @property
    def next_offset(self) -> int:
        return max(self.base, self.state.end_offset)


class Store:
    """Holds the file's only writing connection of this dataset."""

    def __init__(self, database: Database, spec: TableSpec, state: Tally | None) -> None:
        self.spec = spec
        self.state = state
        self._database = database
        self._writer = Writer(database, spec)
        self._leftovers: set[str] = set()
        self._marked = True
        """Whether rows may be there that are removed but not yet deleted."""
        self._gone = 0
        """How many were removed since some were deleted last."""

    @property
    def path(self) -> Path:
        return self._database.path

    def check_there(self) -> None:
        """StoreError where the file is no longer found; from any thread."""
        self._database.check_there()

    def names(self, epoch: str) -> Names:
        return Names(self.spec.name, epoch)

    # --- commits ---

    def commit(self, changes: Sequence[Change], cursor: Cursor | None) -> Tally:
        with self._database.transaction():
            before = self.state or self._new_epoch()
            after = before
            for change in changes:
                after = self._applied(change, after)
            state = self._saved(before, after, cursor)
        self.state = state
        return state

    def _new_epoch(self) -> Tally:
        state = Tally(secrets.token_hex(8))
        self._writer.create(self.names(state.epoch))
        self._writer.create_indexes(self.names(state.epoch))
        return state

    @property
    def _next_generation(self) -> int:
        return self.state.generation + 1 if self.state else 1

    def _saved(self, before: Tally, after: Tally, cursor: Cursor | None) -> Tally:
        """The last step of a transaction; what it returns is the state once that has succeeded."""
        changed = self.state is not None and after is not before
        state = replace(after, cursor=cursor, generation=self._next_generation if changed else before.generation)
        ledger.save(self._database, self.spec, state)
        return state

    def _applied(self, change: Change, state: Tally) -> Tally:
        names, generation = self.names(state.epoch), self._next_generation
        match change:
            case Append(rows):
                came, gone = self._writer.append(names, rows, state.end_offset, generation)
                size = rows.nbytes * came // max(rows.num_rows, 1)
                end = state.end_offset + rows.num_rows
                return self._marking(gone, state.shrunk).grown(came, size, end, max_nanos(rows, self.spec.time))
            case Delete(keys):
                return self._marking(self._writer.delete(names, keys, generation), state.deleted)
            case DeleteWhere(predicate):
                return self._marking(self._writer.delete_where(names, predicate, generation), state.shrunk)
            case _:
                assert_never(change)

    def _marking(self, rows: int, count: Callable[[int], Tally]) -> Tally:
        """The count after so many rows were marked as removed."""
        self._marked = self._marked or rows > 0
        self._gone += rows
        return count(rows)

    @property
    def is_worn(self) -> bool:
        """Whether to delete what is removed cannot wait for maintenance."""
        if self.state is None or not self._gone:
            return False
        each = self.state.bytes // self.state.rows if self.state.rows else _ROW_BYTES
        rows = self.state.rows + self._gone
        return is_worn(Size(rows, rows * each, self._gone), _POLICY)

    # --- bulk loads ---

    def load(self, load: Load, rows: pa.RecordBatch) -> Load:
        """Write rows of a load in a transaction of their own, whose durability is that of the last step."""
        names = self.names(load.epoch)
        self._database.durable(False)
        try:
            with self._database.transaction():
                if not load.made:
                    self._writer.create(names)
                came = self._writer.load(names, rows, load.next_offset)
        finally:
            self._database.durable(True)
        end = load.next_offset + rows.num_rows
        state = load.state.grown(came, rows.nbytes, end, max_nanos(rows, self.spec.time))
        return replace(load, made=True, state=state)

    def replace(self, load: Load, cursor: Cursor | None) -> Tally:
        """Make the load the dataset's epoch."""
        names = self.names(load.epoch)
        self._database.durable(False)
        try:
            with self._database.transaction():
                if not load.made:
                    self._writer.create(names)
                gone = self._unique(names)
        finally:
            self._database.durable(True)
        state = replace(load.state, epoch=load.epoch, cursor=cursor).shrunk(gone)
        with self._database.transaction():
            ledger.save(self._database, self.spec, state)
        if self.state:
            self._leftovers.add(self.state.epoch)
        self.state = state
        return state

    def _unique(self, names: Names) -> int:
        """Build the indexes over a load; how many of its rows others of it replaced."""
        self._database.execute("SAVEPOINT unindexed")
        try:
            self._writer.create_indexes(names)
        except ViolationError:
            if self.spec.on_conflict is OnConflict.REJECT:
                raise
            self._database.execute("ROLLBACK TO unindexed")
        else:
            return 0
        gone = self._writer.deduplicate(names)
        self._writer.create_indexes(names)
        return gone

    def append(self, load: Load, cursor: Cursor | None) -> Tally:
        """Add the rows of the load to the epoch."""
        if not load.made:
            return self.commit((), cursor)
        source = self.names(load.epoch)
        with self._database.transaction():
            before = self.state or self._new_epoch()
            shift = before.end_offset - load.base
            staged = load.state.shrunk(self._writer.deduplicate(source))
            names = self.names(before.epoch)
            came, gone = self._writer.move(quoted(source.rows), names, self._next_generation, shift=shift)
            self._writer.move_chunks(source, names, shift)
            size = staged.bytes * came // max(staged.rows, 1)
            after = self._marking(gone, before.shrunk)
            after = after.grown(came, size, staged.end_offset + shift, staged.max_time)
            state = self._saved(before, after, cursor)
        self.state = state
        return state

    def leave(self, epoch: str) -> None:
        """The load is over; its table is dropped with the next maintenance unless it is the epoch now."""
        if self.state is None or self.state.epoch != epoch:
            self._leftovers.add(epoch)

    # --- maintenance ---

    def drop_leftovers(self, readers: Readers) -> None:
        """Free the tables of epochs and loads that nobody reads."""
        for epoch in sorted(self._leftovers - readers.epochs):
            with self._database.transaction():
                self._writer.drop(self.names(epoch))
            self._leftovers.discard(epoch)

    def maintain(self, readers: Readers) -> None:
        """Delete what is removed and unread, and bring the log into the file."""
        self.drop_leftovers(readers)
        self.purge(readers)
        self._database.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._database.trim()

    def purge(self, readers: Readers) -> None:
        """Delete what is removed, as far as nobody reads it."""
        self._gone = 0
        if self.state and self._marked:
            names = self.names(self.state.epoch)
            with self._database.transaction():
                self._writer.purge(names, readers.floor)
                self._writer.prune_chunks(names)
                self._marked = self._writer.has_marks(names)

    def evolve(self, entry: ledger.Entry) -> None:
        """Take up columns that are new, and other keys, indexes or time column; within a transaction."""
        if self.state is None:
            return
        names = self.names(self.state.epoch)
        for name in self._writer.layout.in_table:
            if name not in entry.schema.names:
                stored = self._writer.layout.codecs[name].stored.name
                self._database.execute(f"ALTER TABLE {quoted(names.rows)} ADD COLUMN {quoted(name)} {stored}")
        if self._writer.layout.in_chunks:
            self._database.execute(create_chunks(names))
        if entry.keys != ledger.keys_of(self.spec):
            self._writer.drop_indexes(names)
            self._writer.create_indexes(names)
            self.state = replace(self.state, max_time=self._writer.max_time(names))
        ledger.save(self._database, self.spec, self.state)

    def close(self) -> None:
        self._database.close()
