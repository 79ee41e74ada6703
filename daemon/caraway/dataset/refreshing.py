"""Keeps a dataset fresh by fetching: on its schedule, on request, and again after failures.

    mailbox ──Requested──▶ ┌────────────────┐
    clock ─────────Due───▶ │  core/refresh  │
                           └───────┬────────┘
            connect, fit, fetch ◀──┘         one task, so that refresh, retention and maintenance never meet

A dataset without acceleration has nothing to fetch: its source is connected, and anew when a query failed there.
"""

import math

import pyarrow as pa
import trio

from caraway.config.model import RefreshMode, RefreshSql
from caraway.core import refresh, symptom
from caraway.core.checkpoint import Checkpoint
from caraway.core.refresh import Failed, Fetch, Policy, Requested, Run, Running, State, Succeeded, Waiting
from caraway.core.retry import backoff
from caraway.core.schedule import delayed, due_after, first_due
from caraway.core.symptom import Cause
from caraway.dataset.bench import Bench
from caraway.dataset.fetch import Fetched, Order, fetch
from caraway.dataset.lagging import age_of
from caraway.dataset.link import Link
from caraway.dataset.mailbox import Mailbox
from caraway.dataset.report import Expected, Phase
from caraway.dataset.settings import fetch_mode
from caraway.errors import ConfigError, SourceError, StoreError
from caraway.events import (
    RefreshFailed,
    RefreshFinished,
    RefreshScheduled,
    RefreshSkipped,
    RefreshStarted,
)
from caraway.model import DatasetStatus, RefreshOverrides
from caraway.ports import Accelerator

UNTIL_REACHED = Policy(retries=None)
"""Until its source was reached once a dataset tries for ever: `refresh_retry_*` are about refreshing."""
WANTED = 5.0
"""Seconds after a failure in which a source that queries ask for is looked for again."""

NEW: State = Waiting(-math.inf)


class Refreshing:
    """The driver of what is fetched; a `Driver`."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._name = bench.config.name
        self._settings, self._report, self._shared = bench.settings, bench.report, bench.shared
        self._refresh_sql = bench.settings.acceleration.refresh_sql
        self._mailbox: Mailbox[Requested] = Mailbox()
        self._state = NEW
        self._first: float | None = None  # when the stored rows ask for a refresh, until one was asked for otherwise
        self._reached = False
        self._useless = 0  # failed connections in a row; one that had answered a query begins the count anew
        self._proven: float | None = None  # when the last reading that succeeded began
        self._failed_at = -math.inf
        bench.binding.refused = self._refused

    def __repr__(self) -> str:
        return repr(self._state)

    # --- what others ask ---------------------------------------------------------------------------------------------

    def request_refresh(self, overrides: RefreshOverrides) -> None:
        fetch_mode(overrides.refresh_mode, self._settings.mode)
        if overrides.refresh_sql is not None:
            self._bench.parsed(overrides.refresh_sql)
        jitter = overrides.refresh_jitter_max
        wait = delayed(self._settings.schedule.jitter if jitter is None else jitter, self._shared.draw())
        special = overrides.refresh_sql is not None or overrides.refresh_mode is not None
        self._mailbox.post(Requested(trio.current_time() + wait, overrides if special else None))

    def set_refresh_sql(self, text: str) -> None:
        """What every refresh from now on selects."""
        self._refresh_sql = self._bench.parsed(text)

    def suspected(self, link: Link, error: SourceError) -> None:
        """A query failed at the source: where no refresh does, connect anew, less often the less it helps."""
        if self._settings.accelerated:
            return
        self._useless = 1 if link.served else self._useless + 1
        pause = backoff(self._useless, self._shared.draw())
        asked = trio.current_time() + (error.retry_after or 0.0)
        self._mailbox.post(Requested(max(asked, link.since + pause)))

    def _refused(self) -> str:
        """A query is turned away: look for the source soon, however often that was in vain; why it is not there."""
        soon = self._failed_at + WANTED
        if not self._settings.accelerated and isinstance(self._state, Waiting) and soon < self._state.until:
            self._mailbox.post(Requested(soon))
        problem = self._report.problem_of(Phase.REFRESH)
        return f"{problem.message} {problem.remedy}".rstrip() if problem is not None else ""

    def current(self) -> DatasetStatus:
        return self._report.current()

    def proven(self, now: float) -> float | None:  # noqa: ARG002
        return self._proven

    def cause(self) -> Cause:
        store, failed = self._report.problem_of(Phase.STORE), self._report.problem_of(Phase.REFRESH, Phase.CRASH)
        if store is not None:
            return symptom.unstored(store.message, store.remedy)
        if failed is not None:
            return symptom.failing(failed.message, failed.remedy)
        if self._report.running:
            return symptom.refreshing()
        return symptom.waiting(refresh.deadline(self._state) - trio.current_time())

    # --- the task ----------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        stored = await self._bench.open_stored()
        if stored is not None and self._proven is None:
            self._proven = trio.current_time() - age_of(stored.proven_at, self._shared.wall())
        self._state = self._resumed(trio.current_time(), stored)
        self._publish()
        task_status.started()
        while True:
            await self._turn()

    def _resumed(self, now: float, stored: Checkpoint | None) -> State:
        """Where to go on: a run that a bug ended is run again; a new actor looks for its source at once."""
        match self._state:
            case Running(_, failures, run, again):
                return Waiting(now, failures + 1, run if again is None else Run(again.overrides))
            case state if state is not NEW:
                return state
            case _:
                self._first = self._first_due(now, stored)
                return Waiting(self._first if self._bench.binding.snapshot is None else now)

    def _first_due(self, now: float, stored: Checkpoint | None) -> float:
        startup = self._settings.startup(_text(self._refresh_sql))
        schedule, at, chance = self._settings.schedule, self._shared.wall(), self._shared.draw()
        return first_due(schedule, startup, stored, now=now, at=at, chance=chance)

    async def _turn(self) -> None:
        """Wait for the next thing to do, and do it."""
        with trio.move_on_at(min(refresh.deadline(self._state), self._bench.upkeep.deadline)):
            await self._mailbox.wait_posted()
        self._read_mailbox()
        await self._bench.upkeep.run()
        if refresh.deadline(self._state) <= trio.current_time():
            action = self._step(refresh.Due())
            if action is not None:
                await self._refresh(action.run)
        self._publish()

    def _read_mailbox(self) -> None:
        request = self._mailbox.take_nowait()
        if request is not None:
            self._first = None
            self._step(request)

    def _step(self, event: refresh.Event) -> Fetch | None:
        self._state, action = refresh.step(self._state, event, trio.current_time(), self._policy)
        return action

    @property
    def _policy(self) -> Policy:
        return self._settings.policy if self._reached else UNTIL_REACHED

    # --- refresh -----------------------------------------------------------------------------------------------------

    async def _refresh(self, run: Run) -> None:
        """One attempt, from the wait for a turn to the event that it ends with."""
        self._report.began()
        self._doing("waiting for a turn")
        async with self._shared.permits:
            event = await self._attempt(run)
        self._report.ended()
        self._read_mailbox()
        self._step(event)
        wait = refresh.deadline(self._state) - trio.current_time()
        if wait < math.inf:
            self._shared.emit(RefreshScheduled(self._name, wait))

    async def _attempt(self, run: Run) -> Succeeded | Failed:
        mode = fetch_mode(run.overrides.refresh_mode if run.overrides is not None else None, self._settings.mode)
        try:
            due = await self._load(run, mode)
        except (SourceError, StoreError, ConfigError) as error:
            # the next attempt finds the source, its secrets and schema as they are then
            await self._bench.binding.disconnect()
            self._failed_at = trio.current_time()
            self._report.failed(Phase.REFRESH, error)
            failed = self._failed(error)
            retry_in = refresh.pause(run, failed, self._policy)
            self._shared.emit(RefreshFailed(self._name, mode.value, str(error), retry_in))
            return failed
        self._report.succeeded(Phase.REFRESH, Phase.STORE, Phase.CRASH)
        return Succeeded(due)

    async def _load(self, run: Run, mode: RefreshMode) -> float:
        """Connect, and fetch if it is time; when the next refresh is due."""
        self._doing("connecting")
        link = await self._bench.binding.connect(self._refresh_sql)
        self._reached = True
        store, first, self._first = self._bench.binding.store, self._first, None
        if store is None:
            return math.inf
        if first is not None and first > trio.current_time():
            return first
        self._doing("loading")
        await self._fetch(link, store, self._order(run.overrides, mode), mode)
        return self._next_due()

    async def _fetch(self, link: Link, store: Accelerator, order: Order, mode: RefreshMode) -> None:
        began, size = trio.current_time(), 0
        newest = store.snapshot.value.max_time if store.snapshot.value is not None else None

        def loading() -> None:
            self._shared.emit(RefreshStarted(self._name, mode.value))

        def progress(batch: pa.RecordBatch) -> None:
            nonlocal size
            size += batch.nbytes
            self._bench.upkeep.note(batch)
            self._report.progress(batch.num_rows)

        async with link.use() as source:
            fetched = await fetch(source, store, order, wall=self._shared.wall, loading=loading, progress=progress)
        self._proven = began
        if self._report.rows:
            self._report.max_time_before = newest
        self._finished(fetched, mode, size, trio.current_time() - began)
        await store.maintain()

    def _order(self, overrides: RefreshOverrides | None, mode: RefreshMode) -> Order:
        text = overrides.refresh_sql if overrides is not None else None
        acceleration = self._settings.acceleration
        return Order(
            mode is RefreshMode.FULL,
            self._bench.parsed(text) if text is not None else self._refresh_sql,
            self._bench.binding.axes,
            acceleration.refresh_data_window,
            acceleration.refresh_append_overlap,
            special=overrides is not None,
        )

    def _finished(self, fetched: Fetched, mode: RefreshMode, size: int, seconds: float) -> None:
        self._report.last_refresh = fetched.checkpoint.refreshed_at
        self._report.proven_at = fetched.checkpoint.proven_at
        if fetched.snapshot is None:
            self._shared.emit(RefreshSkipped(self._name, mode.value))
        else:
            self._shared.emit(RefreshFinished(self._name, mode.value, self._report.rows, size, seconds))

    def _failed(self, error: Expected) -> Failed:
        transient = not isinstance(error, ConfigError) and error.transient
        retry_after = error.retry_after if isinstance(error, SourceError) else None
        return Failed(self._next_due(), transient, self._shared.draw(), retry_after)

    def _next_due(self) -> float:
        return due_after(self._settings.schedule, trio.current_time(), self._shared.wall(), self._shared.draw())

    # --- status ------------------------------------------------------------------------------------------------------

    def _doing(self, activity: str) -> None:
        self._report.activity = activity
        self._publish()

    def _publish(self) -> None:
        self._report.failures = self._state.failures
        self._report.due = refresh.deadline(self._state)
        self._bench.publish()


def _text(refresh_sql: RefreshSql | None) -> str | None:
    return refresh_sql.text if refresh_sql is not None else None
