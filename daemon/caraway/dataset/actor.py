"""The dataset actor: owns one dataset's source and store, and keeps the copy as fresh as its keys ask for.

    requests ──▶ ┌─────────┐ ──▶ status: Latest[DatasetStatus]
                 │ driver  │ ──▶ table:  Latest[TableInfo | None]
    source ────▶ └────┬────┘ ──▶ log:    Latest[Log | None]
                      ▼
                    store         written to by one task, so that loading, retention and maintenance never meet

What its task does depends on the mode: a `Refreshing` fetches, a `Following` reads a stream, a `Keeping` has no source,
a `Caching` fetches what queries ask for.
A failure that is expected becomes an event of the driver's machine and a problem in the status; what is stored stays
served. A bug ends `run`; the store stays open, so that what it holds is served until the supervisor runs the actor
again, or until all stop if it does not.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import trio

from caraway.config.model import Access, Dataset, ReadyState, RefreshMode
from caraway.core.readiness import Serve
from caraway.dataset.bench import Bench
from caraway.dataset.binding import Binding
from caraway.dataset.caching.driver import Caching
from caraway.dataset.driver import Driver
from caraway.dataset.following import Following
from caraway.dataset.keeping import Keeping
from caraway.dataset.lagging import Lagging
from caraway.dataset.link import Link
from caraway.dataset.refreshing import Refreshing
from caraway.dataset.report import Phase, Report
from caraway.dataset.settings import settings_of
from caraway.dataset.shared import Shared
from caraway.dataset.upkeep import Upkeep
from caraway.dataset.writing import WriteQueue
from caraway.errors import ConfigError, QueryError, QueryFailure, SourceError
from caraway.latest import Latest
from caraway.model import (
    Append,
    DatasetStatus,
    Delete,
    Generation,
    Pinned,
    RefreshOverrides,
    ScanRequest,
    TableInfo,
    Written,
)
from caraway.ports import Accelerator, Connect, Log, OpenStore

PLAIN = RefreshOverrides()


class DatasetActor:
    """One dataset. `run` is its task; all else may be called from any task of the same trio run.

    ConfigError for keys that ask for what is not there. `open_store` is not used where nothing is accelerated.
    """

    def __init__(self, config: Dataset, connect: Connect, open_store: OpenStore | None, shared: Shared) -> None:
        self.config = config
        settings = settings_of(config)
        stores = open_store if settings.accelerated else None
        self._binding = Binding(config, connect, stores, shared.spool, suspected=self._suspected)
        self._report = Report(config.name, Serve(config.ready_state.value), shared.wall)
        upkeep = Upkeep(config, settings, self._binding, self._report, shared)
        self._bench = Bench(config, settings, self._binding, self._report, upkeep, shared)
        self._writes = WriteQueue(config.name, shared.wall)
        self._driver = _driver(self._bench, self._writes)
        self._lagging = Lagging(config, self._driver, self._report, shared)

    def __repr__(self) -> str:
        return f"<DatasetActor {self.config.name} {self.status.value.state.value} {self._driver}>"

    @property
    def status(self) -> Latest[DatasetStatus]:
        return self._report.status

    def current(self) -> DatasetStatus:
        """The status with what changes without being published."""
        return self._driver.current()

    @property
    def table(self) -> Latest[TableInfo | None]:
        """What queries know of it; None until the schema is known."""
        return self._binding.table

    @property
    def store(self) -> Accelerator | None:
        """The open store, for those who scan and tail it."""
        return self._binding.store

    @property
    def log(self) -> Latest[Log | None]:
        """The log of the open store; None before there is one."""
        return self._binding.log

    # --- what others ask ---------------------------------------------------------------------------------------------

    async def write(self, changes: Sequence[Append | Delete]) -> Written:
        """Make changes durable, all or none; StoreError, QueryError."""
        if self.config.access is not Access.READ_WRITE:
            message = (
                f"Dataset {self.config.name} is read-only; a memory: dataset takes writes with access: read_write."
            )
            raise QueryError(message, QueryFailure.FORBIDDEN)
        return await self._writes.write(changes)

    def request_refresh(self, overrides: RefreshOverrides = PLAIN) -> None:
        """Ask for one refresh, which starts after this call; ConfigError for one that is not possible."""
        self._check_accelerated()
        self._driver.request_refresh(overrides)

    def set_refresh_sql(self, text: str) -> None:
        """What is selected from now on, until the daemon restarts; ConfigError."""
        self._check_accelerated()
        self._driver.set_refresh_sql(text)

    def resolve(self, scan: ScanRequest) -> AbstractAsyncContextManager[Pinned]:
        """A snapshot that stays until the context ends; QueryError NOT_READY, INVALID, SOURCE, RESOURCES."""
        if isinstance(self._driver, Caching):
            return self._driver.answer(scan)
        return self._binding.answer(scan, fallback=self.config.ready_state is not ReadyState.ON_LOAD)

    @property
    def generation(self) -> Generation | None:
        """What it holds now; None while it is read at its source."""
        if isinstance(self._driver, Caching):
            return self._driver.generation
        return self._binding.generation

    def _check_accelerated(self) -> None:
        if not self._bench.settings.accelerated:
            raise ConfigError(f"Dataset {self.config.name} does not have acceleration enabled")

    # --- the task ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve what is stored, then keep it fresh until cancelled; `started` once what is stored is open."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lagging.run)
            await self._driver.run(task_status)

    async def aclose(self) -> None:
        """Close source and store, within a deadline, when `run` is over for good."""
        self._report.stopping()
        await self._binding.aclose()

    def crashed(self, error: str, restart_in: float | None) -> None:
        """Told by the supervisor: a bug ended `run`."""
        then = f"It is started again in {restart_in:.0f}s." if restart_in is not None else "It is not started again."
        self._report.ended()
        self._report.failed(Phase.CRASH, f"Dataset {self.config.name} met a bug: {error}. {then}")
        self._bench.publish()

    def _suspected(self, link: Link, error: SourceError) -> None:
        self._driver.suspected(link, error)


def _driver(bench: Bench, writes: WriteQueue) -> Driver:
    if bench.settings.accelerated and bench.settings.mode is RefreshMode.DISABLED:
        return Keeping(bench, writes)
    if bench.settings.caches:
        return Caching(bench)
    return Following(bench) if bench.settings.accelerated and bench.config.follows else Refreshing(bench)
