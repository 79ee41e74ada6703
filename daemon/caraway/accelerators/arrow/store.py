"""One dataset in a folder of Arrow files, as its writer knows it; every method blocks."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import assert_never

import pyarrow as pa

from caraway.accelerators.arrow.files import OFFSET_FIELD, FileWriter, LogFile, read_file, write_hidden
from caraway.accelerators.arrow.state import Batch, State
from caraway.accelerators.constraints import Keys
from caraway.accelerators.tally import Tally
from caraway.core.compaction import Policy, is_worn, parts_to_rewrite
from caraway.model import OFFSET_COLUMN, Append, Change, Cursor, Delete, DeleteWhere, TableSpec

POLICY = Policy(fan_in=8)
"""Each merge gathers at least eight files, so a row is copied a few times at most and files stay few."""
_FILE_ROWS = POLICY.part_rows
_BATCH_ROWS = 64 * 1024
_CROWDED = 16
"""A commit that finds so many files merges some itself, whether or not maintenance came by. With 64, one of 50 rows
cost a sixth less, and whoever opened the table then had three times the files to map."""


class Store:
    """Makes new states out of the newest one; the files of states that nobody reads are `retired`."""

    def __init__(self, directory: Path, spec: TableSpec) -> None:
        self.spec = spec
        self.state: State | None = None
        self.retired: set[Path] = set()
        self._directory = directory
        self._files = 0

    def new_path(self, epoch: str) -> Path:
        self._files += 1
        return self._directory / f"{epoch}-{self._files}.arrow"

    def new_state(self) -> State:
        return State(Tally(secrets.token_hex(8)), Keys.of(self.spec))

    # --- commits ---

    def commit(self, changes: Sequence[Change], cursor: Cursor | None) -> State:
        if self.state is not None and (len(self.state.files) >= _CROWDED or is_worn(self.state.size, POLICY)):
            self.merge()
        state = self.state or self.new_state()
        try:
            for change in changes:
                state = self._applied(change, state)
            return self.adopt(state, cursor)
        except BaseException:
            self.abandon(state)
            raise

    def abandon(self, draft: State) -> None:
        """The files of a state that will never be the newest are garbage."""
        self.retired |= draft.paths - (self.state.paths if self.state else frozenset())

    def _applied(self, change: Change, state: State) -> State:
        match change:
            case Append(rows):
                after, batch = state.admit(rows, self.spec)
                if not batch.rows.num_rows:
                    return after
                return replace(after, files=(*after.files, self.write(after.tally.epoch, [batch])))
            case Delete(keys):
                return state.delete(keys, self.spec)
            case DeleteWhere(predicate):
                return state.delete_where(predicate, self.spec)
            case _:
                assert_never(change)

    def adopt(self, after: State, cursor: Cursor | None) -> State:
        """Make `after` the newest state."""
        before = self.state
        same = before is not None and before.tally.epoch == after.tally.epoch
        changed = same and before is not None and after.tally is not before.tally
        generation = before.tally.generation + changed if same and before else 1
        state = self._with_hidden_file(after, before)
        state = replace(state, tally=replace(state.tally, cursor=cursor, generation=generation))
        self._succeed(state)
        return state

    def _succeed(self, state: State) -> None:
        if self.state is not None:
            self.retired |= self.state.paths - state.paths
        self.state = state

    def _with_hidden_file(self, state: State, before: State | None) -> State:
        if before is not None and state.hidden is before.hidden:
            return state
        if not len(state.hidden):
            return replace(state, hidden_path=None)
        path = self.new_path(state.tally.epoch)
        write_hidden(path, state.hidden.sorted())
        return replace(state, hidden_path=path)

    def write(self, epoch: str, batches: Iterable[Batch]) -> LogFile:
        with FileWriter(self.new_path(epoch), self.spec.schema) as writer:
            for batch in batches:
                writer.write(batch.rows, batch.offsets)
            return writer.close()

    def append(self, draft: "Draft", cursor: Cursor | None) -> State:
        """Add the rows of a draft; they go in anew if the epoch went on since the draft began."""
        state = draft.finish()
        if self.state is draft.base:
            return self.adopt(state, cursor)
        stored = [batch for file in draft.files for batch in read_file(file.path)]
        changes = [Append(batch.select(self.spec.schema.names)) for batch in stored]
        self.abandon(state)
        return self.commit(changes, cursor)

    # --- maintenance ---

    def merge(self) -> State | None:
        """Gather small files into greater ones and leave out hidden rows, until nothing of that is due."""
        while self.state is not None and (window := parts_to_rewrite(self.state.sizes(), POLICY)) is not None:
            merged = self._merged(self.state, window)
            if merged is None:
                break
            self._succeed(merged)
        if self.state is not None and self.state.keys.is_worn:
            self.state = replace(self.state, keys=self._reindexed(self.state))
        return self.state

    def _merged(self, state: State, window: slice) -> State | None:
        """None where the files can't become one: their dictionaries do not fit the index type together."""
        old = state.files[window]
        try:
            batches = gathered(_unified(state.batches(old), self.spec.schema))
        except pa.ArrowException:
            return None
        names = self.spec.schema.names
        rows = (Batch(batch.select(names), batch.column(OFFSET_COLUMN)) for batch in batches)
        merged = self.write(state.tally.epoch, rows)
        files = (*state.files[: window.start], *([merged] if merged.rows else []), *state.files[window.stop :])
        hidden = state.hidden.without(old[0].first, old[-1].end)
        after = replace(state, files=files, hidden=hidden)
        return after if hidden is state.hidden else self._with_hidden_file(after, None)

    def _reindexed(self, state: State) -> Keys:
        keys = state.keys.emptied()
        for batch in state.batches(columns=sorted(keys.names)):
            keys = keys.plus(keys.columns_of(batch), batch.column(OFFSET_COLUMN))
        return keys

    def remove(self, paths: frozenset[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
        self.retired -= paths


class Draft:
    """Rows on their way in: a state that grows, over files that nobody sees."""

    def __init__(self, store: Store, base: State | None) -> None:
        self.base = base
        self.files: list[LogFile] = []
        self._store = store
        self._state = base or store.new_state()
        self._writer: FileWriter | None = None
        self._dictionaries: list[pa.Array] = []

    def append(self, rows: pa.RecordBatch) -> None:
        after, batch = self._state.admit(rows, self._store.spec)
        if batch.rows.num_rows:
            self._writer_for(batch.rows).write(batch.rows, batch.offsets)
        self._state = after

    def _writer_for(self, rows: pa.RecordBatch) -> FileWriter:
        """The open file, or a new one where that is full or has other dictionaries: a file holds one for a column."""
        dictionaries = [column.dictionary for column in rows.columns if pa.types.is_dictionary(column.type)]
        same = len(dictionaries) == len(self._dictionaries) and all(
            new.equals(old) for new, old in zip(dictionaries, self._dictionaries, strict=True)
        )
        if self._writer is not None and (not same or self._writer.rows >= _FILE_ROWS):
            self._close()
        if self._writer is None:
            self._writer = FileWriter(self._store.new_path(self._state.tally.epoch), self._store.spec.schema)
        self._dictionaries = dictionaries
        return self._writer

    def _close(self) -> None:
        if self._writer is not None:
            self.files.append(self._writer.close())
            self._writer = None

    def finish(self) -> State:
        """The state with all rows."""
        self._close()
        return replace(self._state, files=(*self._state.files, *self.files))

    def discard(self) -> None:
        """Blocks as long as removing files does."""
        if self._writer is not None:
            self._writer.discard()
        self._store.abandon(replace(self._state, files=tuple(self.files)))


def gathered(batches: Iterable[pa.RecordBatch], rows: int = _BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The same rows in batches that are not small, since a scan pays for each."""
    pending: list[pa.RecordBatch] = []
    for batch in batches:
        if pending and sum(part.num_rows for part in pending) + batch.num_rows > rows:
            yield _concatenated(pending)
            pending = []
        pending.append(batch)
    if pending:
        yield _concatenated(pending)


def _concatenated(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _unified(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same rows with one dictionary a column; ArrowInvalid where it has more words than its index can count."""
    if not any(pa.types.is_dictionary(field.type) for field in schema):
        return batches
    return iter(pa.Table.from_batches(list(batches), schema.append(OFFSET_FIELD)).unify_dictionaries().to_batches())
