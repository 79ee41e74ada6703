"""The dataset actor: owns one dataset's source and store, and keeps the copy as fresh as its keys ask for.

    mailbox ──Requested──▶ ┌────────────────┐ ──▶ status: Latest[DatasetStatus]
    clock ─────────Due───▶ │  core/refresh  │ ──▶ table:  Latest[TableInfo | None]
                           └───────┬────────┘
            connect, fit, fetch ◀──┘         one task, so that refresh, retention and maintenance never meet

A failure that is expected becomes an event of the machine and a problem in the status; what is stored stays served.
A bug ends `run`; the store stays open, so that what it holds is served until the supervisor runs the actor again,
or until all stop if it does not.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import pyarrow as pa
import trio

from caraway.config.model import Dataset, ReadyState, RefreshMode, RefreshSql
from caraway.config.sql import parse_refresh_sql
from caraway.core import refresh
from caraway.core.checkpoint import Checkpoint, decode
from caraway.core.readiness import Serve
from caraway.core.refresh import Failed, Fetch, Policy, Requested, Run, Running, State, Succeeded, Waiting
from caraway.core.retry import backoff
from caraway.core.schedule import delayed, due_after, first_due
from caraway.dataset.binding import Binding
from caraway.dataset.fetch import Fetched, Order, fetch
from caraway.dataset.fitting import check_columns
from caraway.dataset.link import Link
from caraway.dataset.mailbox import Mailbox
from caraway.dataset.report import Expected, Phase, Report
from caraway.dataset.settings import fetch_mode, settings_of
from caraway.dataset.shared import Shared
from caraway.dataset.upkeep import Upkeep
from caraway.errors import ConfigError, QueryError, QueryFailure, SourceError, StoreError
from caraway.events import (
    RefreshFailed,
    RefreshFinished,
    RefreshScheduled,
    RefreshSkipped,
    RefreshStarted,
    RetentionBlind,
)
from caraway.latest import Latest
from caraway.model import Append, DatasetStatus, Delete, RefreshOverrides, ScanRequest, Snapshot, TableInfo, Written
from caraway.ports import Accelerator, Connect, Log, OpenStore

UNTIL_REACHED = Policy(retries=None)
"""Until its source was reached once a dataset tries for ever: `refresh_retry_*` are about refreshing."""

NEW: State = Waiting(-math.inf)
PLAIN = RefreshOverrides()


class DatasetActor:
    """One dataset. `run` is its task; all else may be called from any task of the same trio run.

    ConfigError for keys that ask for what is not there. `open_store` is not used where nothing is accelerated.
    """

    def __init__(self, config: Dataset, connect: Connect, open_store: OpenStore | None, shared: Shared) -> None:
        self.config = config
        self._shared = shared
        self._settings = settings_of(config)
        self._refresh_sql = self._settings.acceleration.refresh_sql
        stores = open_store if self._settings.accelerated else None
        self._binding = Binding(config, connect, stores, shared.spool, suspected=self._reconnect)
        self._report = Report(config.name, Serve(config.ready_state.value), shared.wall)
        self._upkeep = Upkeep(config.name, self._settings, self._binding, self._report, shared)
        self._mailbox: Mailbox[Requested] = Mailbox()
        self._state = NEW
        self._first: float | None = None  # when the stored rows ask for a refresh, until one was asked for otherwise
        self._reached = False
        self._useless = 0  # failed connections in a row; one that had answered a query begins the count anew
        self._blind = False
        self._log: Latest[Log | None] = Latest(None)

    def __repr__(self) -> str:
        return f"<DatasetActor {self.config.name} {self.status.value.state.value} {self._state}>"

    @property
    def status(self) -> Latest[DatasetStatus]:
        return self._report.status

    def current(self) -> DatasetStatus:
        """The status with what changes without being published."""
        return self.status.value

    @property
    def log(self) -> Latest[Log | None]:
        """The log of the open store; None before there is one."""
        return self._log

    async def write(self, changes: Sequence[Append | Delete]) -> Written:  # noqa: ARG002
        """Make changes durable, all or none; StoreError, QueryError."""
        raise QueryError(f"Dataset {self.config.name} is not written to.", QueryFailure.FORBIDDEN)

    @property
    def table(self) -> Latest[TableInfo | None]:
        """What queries know of it; None until the schema is known."""
        return self._binding.table

    @property
    def store(self) -> Accelerator | None:
        """The open store, for those who scan and tail it."""
        return self._binding.store

    # --- what others ask ---------------------------------------------------------------------------------------------

    def request_refresh(self, overrides: RefreshOverrides = PLAIN) -> None:
        """Ask for one refresh, which starts after this call; ConfigError for one that is not possible."""
        self._check_refreshed()
        fetch_mode(overrides.refresh_mode, self._settings.mode)
        if overrides.refresh_sql is not None:
            self._parsed(overrides.refresh_sql)
        jitter = overrides.refresh_jitter_max
        wait = delayed(self._settings.schedule.jitter if jitter is None else jitter, self._shared.draw())
        special = overrides.refresh_sql is not None or overrides.refresh_mode is not None
        self._mailbox.post(Requested(trio.current_time() + wait, overrides if special else None))

    def set_refresh_sql(self, text: str) -> None:
        """What every refresh from now on selects, until the daemon restarts; ConfigError."""
        self._check_refreshed()
        self._refresh_sql = self._parsed(text)

    def resolve(self, scan: ScanRequest) -> AbstractAsyncContextManager[Snapshot]:
        """A snapshot that stays until the context ends; QueryError NOT_READY, SOURCE, RESOURCES."""
        return self._binding.answer(scan, fallback=self.config.ready_state is not ReadyState.ON_LOAD)

    def crashed(self, error: str, restart_in: float | None) -> None:
        """Told by the supervisor: a bug ended `run`."""
        then = f"It is started again in {restart_in:.0f}s." if restart_in is not None else "It is not started again."
        self._report.ended()
        self._report.failed(Phase.CRASH, f"Dataset {self.config.name} met a bug: {error}. {then}")
        self._publish()

    def _reconnect(self, link: Link, error: SourceError) -> None:
        """A query failed at the source: where no refresh does, connect anew, less often the less it helps."""
        if self._settings.accelerated:
            return
        self._useless = 1 if link.served else self._useless + 1
        pause = backoff(self._useless, self._shared.draw())
        asked = trio.current_time() + (error.retry_after or 0.0)
        self._mailbox.post(Requested(max(asked, link.since + pause)))

    def _check_refreshed(self) -> None:
        if not self._settings.accelerated:
            raise ConfigError(f"Dataset {self.config.name} does not have acceleration enabled")
        if self._settings.mode is RefreshMode.DISABLED:
            raise ConfigError(f"Dataset {self.config.name} is written to and has no source to refresh from")

    def _parsed(self, text: str) -> RefreshSql:
        parsed = parse_refresh_sql(text, self.config.name)
        if self._binding.schema is not None:
            check_columns(self._binding.schema, parsed, self.config.name)
        return parsed

    # --- the task ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve what is stored, then keep it fresh until cancelled; `started` once what is stored is open."""
        await self._start()
        task_status.started()
        while True:
            await self._turn()

    async def aclose(self) -> None:
        """Close source and store, within a deadline, when `run` is over for good."""
        self._report.stopping()
        await self._binding.aclose()

    async def _start(self) -> None:
        try:
            await self._binding.open_stored()
        except (StoreError, ConfigError) as error:
            self._report.failed(Phase.STORE, error)
        stored = self._stored()
        if stored is not None:
            self._report.last_refresh, self._report.proven_at = stored.refreshed_at, stored.proven_at
        self._state = self._resumed(trio.current_time(), stored)
        self._upkeep.start()
        self._publish()

    def _resumed(self, now: float, stored: Checkpoint | None) -> State:
        """Where to go on: a run that a bug ended is run again; a new actor looks for its source at once."""
        match self._state:
            case Running(_, failures, run, again):
                return Waiting(now, failures + 1, run if again is None else Run(again.overrides))
            case state if state is not NEW:
                return state
            case _:
                self._first = self._first_due(now, stored)
                return Waiting(self._first if self._binding.snapshot is None else now)

    def _first_due(self, now: float, stored: Checkpoint | None) -> float:
        startup = self._settings.startup(_text(self._refresh_sql))
        schedule, at, chance = self._settings.schedule, self._shared.wall(), self._shared.draw()
        return first_due(schedule, startup, stored, now=now, at=at, chance=chance)

    async def _turn(self) -> None:
        """Wait for the next thing to do, and do it."""
        with trio.move_on_at(min(refresh.deadline(self._state), self._upkeep.deadline)):
            await self._mailbox.wait_posted()
        self._read_mailbox()
        await self._upkeep.run()
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
            self._shared.emit(RefreshScheduled(self.config.name, wait))

    async def _attempt(self, run: Run) -> Succeeded | Failed:
        mode = fetch_mode(run.overrides.refresh_mode if run.overrides is not None else None, self._settings.mode)
        try:
            due = await self._load(run, mode)
        except (SourceError, StoreError, ConfigError) as error:
            await (
                self._binding.disconnect()
            )  # the next attempt finds the source, its secrets and schema as they are then
            self._report.failed(Phase.REFRESH, error)
            failed = self._failed(error)
            retry_in = refresh.pause(run, failed, self._policy)
            self._shared.emit(RefreshFailed(self.config.name, mode.value, str(error), retry_in))
            return failed
        self._report.succeeded(Phase.REFRESH, Phase.STORE, Phase.CRASH)
        return Succeeded(due)

    async def _load(self, run: Run, mode: RefreshMode) -> float:
        """Connect, and fetch if it is time; when the next refresh is due."""
        self._doing("connecting")
        link = await self._binding.connect(self._refresh_sql)
        self._reached = True
        store, first, self._first = self._binding.store, self._first, None
        if store is None:
            return math.inf
        if mode is RefreshMode.DISABLED:
            if store.snapshot.value is None:
                await store.commit([], None)  # what is only written to is complete when it is empty
            return math.inf
        if first is not None and first > trio.current_time():
            return first
        self._doing("loading")
        await self._fetch(link, store, self._order(run.overrides, mode), mode)
        return self._next_due()

    async def _fetch(self, link: Link, store: Accelerator, order: Order, mode: RefreshMode) -> None:
        began, size = trio.current_time(), 0

        def loading() -> None:
            self._shared.emit(RefreshStarted(self.config.name, mode.value))

        def progress(batch: pa.RecordBatch) -> None:
            nonlocal size
            size += batch.nbytes
            self._note(batch)

        async with link.use() as source:
            fetched = await fetch(source, store, order, wall=self._shared.wall, loading=loading, progress=progress)
        self._finished(fetched, mode, size, trio.current_time() - began)
        await store.maintain()

    def _order(self, overrides: RefreshOverrides | None, mode: RefreshMode) -> Order:
        text = overrides.refresh_sql if overrides is not None else None
        acceleration = self._settings.acceleration
        return Order(
            mode is RefreshMode.FULL,
            self._parsed(text) if text is not None else self._refresh_sql,
            self._binding.axes,
            acceleration.refresh_data_window,
            acceleration.refresh_append_overlap,
            special=overrides is not None,
        )

    def _note(self, batch: pa.RecordBatch) -> None:
        """A batch was staged."""
        time = self.config.time_column
        if time is not None and not self._blind and self._settings.evicts_every < math.inf:
            missing = batch.column(time.name).null_count
            self._blind = missing > 0
            if self._blind:
                self._shared.emit(RetentionBlind(self.config.name, time.name, missing))
        self._report.progress(batch.num_rows)

    def _finished(self, fetched: Fetched, mode: RefreshMode, size: int, seconds: float) -> None:
        self._report.last_refresh = fetched.checkpoint.refreshed_at
        self._report.proven_at = fetched.checkpoint.proven_at
        name, rows = self.config.name, self._report.rows
        if fetched.snapshot is None:
            self._shared.emit(RefreshSkipped(name, mode.value))
        else:
            self._shared.emit(RefreshFinished(name, mode.value, rows, size, seconds))

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

    def _stored(self) -> Checkpoint | None:
        snapshot = self._binding.snapshot
        return decode(snapshot.cursor) if snapshot is not None else None

    def _publish(self) -> None:
        report, binding = self._report, self._binding
        report.loaded = report.loaded or binding.loaded
        report.resolved = binding.schema is not None
        report.snapshot = binding.snapshot
        report.failures = self._state.failures
        report.due = refresh.deadline(self._state)
        report.publish()


def _text(refresh_sql: RefreshSql | None) -> str | None:
    return refresh_sql.text if refresh_sql is not None else None
