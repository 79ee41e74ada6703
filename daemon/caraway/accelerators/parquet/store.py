"""The blocking half of the engine: states of the log made durable. One thread at a time calls it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from caraway.accelerators.constraints import Keys
from caraway.accelerators.parquet import wal
from caraway.accelerators.parquet.catalog import Catalog
from caraway.accelerators.parquet.draft import Draft
from caraway.accelerators.parquet.files import PARTS, new_hidden, new_tail
from caraway.accelerators.parquet.options import Options
from caraway.accelerators.parquet.parts import PartsWriter
from caraway.accelerators.parquet.read import read_stored
from caraway.accelerators.parquet.schema import physical_schema
from caraway.accelerators.parquet.state import Part, State
from caraway.accelerators.runs import Hidden
from caraway.core.compaction import Size, is_full, is_worn, parts_to_rewrite, tail_is_due
from caraway.model import OFFSET_COLUMN, Change, Cursor, ParquetFiles, TableSpec


class Store:
    """A folder with a catalog, part files and tails.

    A method takes the state that it starts from and gives the next one, which is durable then; each makes one step at
    most, so that a failure leaves the caller with the state that the disk has.
    """

    def __init__(self, folder: Path, spec: TableSpec, options: Options, catalog: Catalog) -> None:
        self._folder = folder
        self._spec = spec
        self._options = options
        self._catalog = catalog
        self._stored = physical_schema(spec.schema)
        self._wal = wal.Codec(self._stored)
        self._keys: Keys | None = None

    def commit(self, state: State, changes: Sequence[Change], cursor: Cursor | None) -> State:
        """Apply the changes and store the cursor; durable when it returns, undone when it raises."""
        draft = Draft(state, self._spec, self._stored, self._keys_of(state))
        for change in changes:
            draft.apply(change)
        if draft.is_empty and state.generation and cursor == state.cursor:
            return state
        policy = self._options.policy
        if not (draft.emptied or is_full(draft.size, policy) or is_full(_tail_size(state), policy)):
            return self._log(draft, cursor)
        with _discarding(self._writer(state)) as writer:
            return self.settle(draft, writer, state.generation, cursor)

    def job(self, state: State, *, replacing: bool) -> Job:
        """Begin to stage rows: those of a new epoch, or more of this one."""
        if replacing:
            base = State(uuid.uuid4().hex, tails=(new_tail(self._folder, 0),))
            return Job(self, Draft(base, self._spec, self._stored, Keys.of(self._spec)), self._writer(base))
        return Job(self, Draft(state, self._spec, self._stored, self._keys_of(state)), self._writer(state))

    def settle(self, draft: Draft, writer: PartsWriter, generation: int, cursor: Cursor | None) -> State:
        """Make a draft's rows parts, behind those of its base, into which the base's tails go up; save the result."""
        drain(draft, writer)
        parts, emptied, hidden = writer.finish(), draft.emptied, draft.hidden
        for part in emptied:
            hidden = hidden.without(part.first, part.end)
        after = replace(
            draft.base,
            tails=(new_tail(self._folder, draft.end_offset),),
            parts=(*(part for part in draft.base.parts if part not in emptied), *parts),
            generation=generation if draft.is_empty and draft.base.generation else generation + 1,
            end_offset=draft.end_offset,
            cursor=cursor,
            max_time=draft.max_time,
        )
        saved = self._save(self._hiding(after, hidden), draft.base)
        self._keys = draft.keys
        return saved

    def fold(self, state: State, tail_age: float) -> State:
        """Turn the tails into a part if they are due."""
        tail = _tail_size(state)
        commits = sum(len(tail.marks) for tail in state.tails)
        is_due = tail_is_due(tail, self._options.policy, age=tail_age, commits=commits)
        return self._fold(state) if is_due else state

    def is_worn(self, state: State) -> bool:
        """Whether maintenance is due at once."""
        return is_worn(state.size, self._options.policy)

    def tidy(self, state: State) -> State:
        """Merge or rewrite one window of parts if that is due."""
        window = parts_to_rewrite([_size(part, state.hidden) for part in state.parts], self._options.policy)
        return self._merge(state, window) if window else state

    def close(self) -> None:
        self._catalog.close()

    def _log(self, draft: Draft, cursor: Cursor | None) -> State:
        """A small commit: one append to the tail, one fsync."""
        state, tail = draft.base, draft.base.tails[-1]
        marker = wal.Marker(
            generation=state.generation if draft.is_empty and state.generation else state.generation + 1,
            end_offset=draft.end_offset,
            rows=sum(batch.num_rows for batch in draft.rows),
            cursor=cursor,
            max_time=draft.max_time,
            hidden=pa.concat_arrays([pa.array([], pa.int64()), *draft.newly_hidden]),
        )
        pieces = self._wal.encode(draft.rows, marker, first=tail.length == 0)
        length = wal.append(tail.path, tail.length, pieces)
        self._keys = draft.keys
        return self._hiding(extended(state, length, marker), draft.hidden)

    def _fold(self, state: State) -> State:
        first, tails = state.tails[0].first, replace(state.data, parts=())
        parts = self._rewritten(tails, state.hidden.between(first, state.end_offset))
        tail = new_tail(self._folder, state.end_offset)
        after = replace(state, tails=(tail,), parts=(*state.parts, *parts))
        return self._save(self._hiding(after, state.hidden.without(first, state.end_offset)), state)

    def _merge(self, state: State, window: slice) -> State:
        old = state.parts[window]
        first, end = old[0].first, old[-1].end
        files = ParquetFiles(tuple(part.path for part in old))
        new = self._rewritten(files, state.hidden.between(first, end))
        parts = (*state.parts[: window.start], *new, *state.parts[window.stop :])
        return self._save(self._hiding(replace(state, parts=parts), state.hidden.without(first, end)), state)

    def _rewritten(self, files: ParquetFiles, hidden: pa.Int64Array) -> tuple[Part, ...]:
        with _discarding(self._new_parts()) as writer:
            for batch in read_stored(files, hidden, self._stored):
                writer.write(batch)
            return writer.finish()

    def _save(self, state: State, base: State) -> State:
        """Make a state durable whose parts are; where that fails, the files that it has beyond its base are removed."""
        try:
            return self._catalog.save(state, self._spec.schema)
        except BaseException:
            for path in state.files - base.files:
                path.unlink(missing_ok=True)
            raise

    def _hiding(self, state: State, hidden: Hidden) -> State:
        if hidden is state.hidden:
            return state
        return replace(state, hidden=hidden, hidden_path=new_hidden(self._folder) if len(hidden) else None)

    @property
    def _asked_for(self) -> frozenset[str]:
        """The columns whose values are looked up."""
        return Keys.of(self._spec).names | {column for index in self._spec.indexes for column in index.columns}

    def _new_parts(self) -> PartsWriter:
        return PartsWriter(self._folder / PARTS, self._stored, self._asked_for, self._options)

    def _writer(self, base: State) -> PartsWriter:
        """A writer that begins with the rows of the base's tails, since parts precede tails in the log."""
        writer = self._new_parts()
        with _discarding(writer):
            for batch in read_stored(replace(base.data, parts=()), pa.array([], pa.int64()), self._stored):
                writer.write(batch)
        return writer

    def _keys_of(self, state: State) -> Keys:
        """The indexes of the stored rows; built by reading the key columns when they are first needed, or worn."""
        if self._keys is None or self._keys.is_worn:
            keys = Keys.of(self._spec) if self._keys is None else self._keys.emptied()
            if not keys.is_empty:
                columns = physical_schema(self._spec.schema, keys.names)
                for batch in read_stored(state.data, state.hidden.sorted(), columns):
                    keys = keys.plus(keys.columns_of(batch), batch.column(OFFSET_COLUMN))
            self._keys = keys
        return self._keys


@contextmanager
def _discarding(writer: PartsWriter) -> Iterator[PartsWriter]:
    """Leave no file behind where the block fails."""
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise


def extended(state: State, length: int, marker: wal.Marker) -> State:
    """A state after a commit to its open tail; what the commit hid is not in `hidden` yet."""
    *sealed, tail = state.tails
    return replace(
        state,
        tails=(*sealed, tail.extended(marker.end_offset, marker.rows, length)),
        generation=marker.generation,
        end_offset=marker.end_offset,
        cursor=marker.cursor,
        max_time=marker.max_time,
    )


def drain(draft: Draft, writer: PartsWriter) -> None:
    """Write what a draft holds in memory."""
    for batch in draft.rows:
        writer.write(batch)
    draft.rows.clear()


def _tail_size(state: State) -> Size:
    return Size(sum(tail.rows for tail in state.tails), sum(tail.length for tail in state.tails))


def _size(part: Part, hidden: Hidden) -> Size:
    return Size(part.rows, part.bytes, len(hidden.between(part.first, part.end)) if len(hidden) else 0)


class Job:
    """Rows on their way into part files, in bounded memory; nothing of it is visible before `finish`."""

    def __init__(self, store: Store, draft: Draft, writer: PartsWriter) -> None:
        self._store = store
        self._draft = draft
        self._writer = writer

    @property
    def base(self) -> State:
        return self._draft.base

    def append(self, rows: pa.RecordBatch) -> None:
        self._draft.append(rows)
        drain(self._draft, self._writer)

    def finish(self, generation: int, cursor: Cursor | None) -> State:
        """The durable state that follows `generation`, the store's newest; without a row it only has another cursor."""
        if self._draft.is_empty and self.base.generation:
            self._writer.discard()
            return self._store.commit(self.base, [], cursor)
        return self._store.settle(self._draft, self._writer, generation, cursor)

    def discard(self) -> None:
        self._writer.discard()
