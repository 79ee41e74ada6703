"""Stores what arrives of a stream over one connection: news in commits of many, a copy beside what is served.

add ──▶ pending ──flush──▶ commit (rows and cursor, one transaction)
                  └──────▶ staging ──finish_copy──▶ served
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count

import trio

from caraway.config.model import RefreshSql
from caraway.core.checkpoint import Checkpoint, encode
from caraway.core.retry import backoff
from caraway.core.stream import SLOWEST
from caraway.dataset.bench import Bench
from caraway.dataset.fetch import nanos
from caraway.dataset.gather import Held, merged
from caraway.dataset.pulse import Place, Pulse
from caraway.dataset.report import Phase
from caraway.dataset.selection import Selection
from caraway.dataset.summons import Summons
from caraway.errors import StoreError
from caraway.events import StreamSnapshotFinished
from caraway.model import Append, Cursor, Delete
from caraway.ports import Accelerator, Staging

CURSOR_EVERY = 5.0
"""Least seconds between two commits that store a cursor alone: what it passed over is nothing to this table."""


@dataclass(slots=True)
class _Pending:
    """What was added since the last flush, with the place and the cursor behind it."""

    changes: list[Append | Delete]
    place: Place
    cursor: Cursor | None


@dataclass(slots=True)
class _Copy:
    """A copy under way."""

    staging: Staging
    began: float
    rows: int = 0
    bytes: int = 0


class Intake:
    """One task's; failures are StoreError and SourceError, after which it is of no more use but for `aclose`."""

    def __init__(
        self, bench: Bench, pulse: Pulse, summons: Summons, store: Accelerator, refresh_sql: RefreshSql | None
    ) -> None:
        self._bench = bench
        self._pulse = pulse
        self._store = store
        self._refresh_sql = refresh_sql.text if refresh_sql is not None else None
        self._selection = Selection(store.spec, refresh_sql)
        self._summons = summons
        self._pending: _Pending | None = None
        self._copy: _Copy | None = None
        self._held = AsyncExitStack()
        self._committed = trio.current_time()

    def __repr__(self) -> str:
        return f"<Intake {self._bench.config.name} {self._copy}>"

    @property
    def copying(self) -> bool:
        return self._copy is not None

    def add(self, changes: Sequence[Append | Delete], held: Held) -> None:
        """Take in changes in order, and the cursor behind them."""
        if self._pending is None:
            self._pending = _Pending([], held.place, held.arrival.cursor)
        self._pending.changes += changes
        self._pending.place, self._pending.cursor = held.place, held.arrival.cursor

    async def flush(self) -> None:
        """Store what was added; a full disk is waited for, as long as nobody asks for another copy."""
        pending = self._pending
        if pending is None:
            return
        if self._copy is not None:
            await self._stage(self._copy, pending)
        else:
            await self._commit(pending)
            self._pending = None

    async def begin_copy(self, came: float) -> None:
        """What is added from now on, which began to come at `came`, is a complete copy; one under way is discarded."""
        if self._copy is None:
            await self.flush()
        await self.drop_copy()
        self._pending = None
        self._pulse.snapshotting(came)
        self._bench.report.began()
        self._bench.doing("waiting for a turn")
        await self._held.enter_async_context(self._bench.shared.permits)
        staging = await self._held.enter_async_context(self._store.stage(replace=True))
        self._copy = _Copy(staging, trio.current_time())
        self._bench.doing("taking a complete copy")

    async def finish_copy(self) -> None:
        """Serve the copy, with all that was added, instead of what was there."""
        await self.flush()
        copy, pending, self._pending = self._copy, self._pending, None
        assert copy is not None
        assert pending is not None
        self._bench.report.last_refresh = self._bench.shared.wall()
        await copy.staging.commit(self._cursor(pending, copied=True))
        await self.drop_copy()
        self._pulse.stored(pending.place, copied=True)
        self._noted(copy.rows)
        seconds = trio.current_time() - copy.began
        self._bench.shared.emit(StreamSnapshotFinished(self._bench.config.name, copy.rows, copy.bytes, seconds))

    async def drop_copy(self) -> None:
        """Discard the copy that is under way, if one is."""
        self._copy = None
        await self._held.aclose()
        self._bench.report.ended()

    async def aclose(self) -> None:
        await self.drop_copy()

    async def _stage(self, copy: _Copy, pending: _Pending) -> None:
        now = nanos(self._bench.shared.wall())
        for change in merged(pending.changes):
            rows = self._selection.copied(change, now)
            if rows.num_rows:
                await copy.staging.append(rows)
                self._bench.upkeep.note(rows)
            copy.rows += rows.num_rows
            copy.bytes += rows.nbytes
            self._pulse.staged(rows.num_rows)
            self._bench.report.progress(rows.num_rows)
        self._pending = replace(pending, changes=[])

    async def _commit(self, pending: _Pending) -> None:
        """Rows and cursor in one transaction."""
        news = self._selection.live(merged(pending.changes), nanos(self._bench.shared.wall()))
        for change in news:
            if isinstance(change, Append):
                self._bench.upkeep.note(change.rows)
        if self._pulse.proven(trio.current_time()) is None:
            self._begin_history()
        if news or self._store.snapshot.value is None or trio.current_time() - self._committed >= CURSOR_EVERY:
            await self._commit_at_last(news, pending)
        self._pulse.stored(pending.place)

    def _begin_history(self) -> None:
        """A source without a past: what it has not told does not exist."""
        self._bench.report.last_refresh = self._bench.shared.wall()
        self._pulse.resumed(0.0, None)

    async def _commit_at_last(self, news: Sequence[Append | Delete], pending: _Pending) -> None:
        for failures in count(1):
            try:
                await self._store.commit(news, self._cursor(pending))
            except StoreError as error:
                self._bench.report.failed(Phase.WRITE, error)
                self._bench.publish()
                pause = backoff(min(failures, SLOWEST), self._bench.shared.draw())
                if not error.transient or await self._asked_within(pause):
                    raise
            else:
                self._noted(sum(change.rows.num_rows for change in news if isinstance(change, Append)))
                return
            await self._bench.upkeep.run()

    async def _asked_within(self, seconds: float) -> bool:
        """Whether another copy is asked for while we wait so long."""
        until = trio.current_time() + seconds
        while trio.current_time() < until and not self._summons.due:
            await self._summons.wait(until)
        return self._summons.due

    def _cursor(self, pending: _Pending, *, copied: bool = False) -> Cursor:
        """What is stored beside the rows."""
        now, wall = trio.current_time(), self._bench.shared.wall()
        age = timedelta(seconds=now - self._pulse.proven_with(pending.place, now, copied=copied))
        refreshed = self._bench.report.last_refresh or wall
        return encode(Checkpoint(refreshed, wall - age, self._refresh_sql, None, pending.cursor))

    def _noted(self, rows: int) -> None:
        self._committed = trio.current_time()
        self._bench.report.succeeded(Phase.WRITE)
        self._bench.upkeep.committed(rows)
