"""A dataset's two ends, the source that it reads and the store that it keeps, opened and fitted to each other."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pyarrow as pa
import trio

from caraway.config.model import Dataset, OnZeroResults, RefreshMode, RefreshSql
from caraway.core.checkpoint import decode
from caraway.core.window import TimeAxis
from caraway.dataset.answer import source_snapshot, stored_snapshot
from caraway.dataset.caching.columns import stored_schema
from caraway.dataset.caching.opening import open_cache
from caraway.dataset.fitting import (
    check_retention,
    follows_schema,
    grows,
    must_reopen,
    partition_axis,
    projected,
    time_axis,
    widened,
)
from caraway.dataset.link import Link
from caraway.dataset.log import LoggedStore
from caraway.dataset.spool import Spool
from caraway.errors import ConfigError, ConfigProblem, QueryError, QueryFailure, SourceError, StoreError
from caraway.latest import Latest
from caraway.model import Generation, Pinned, ScanRequest, Snapshot, TableInfo
from caraway.ports import Accelerator, Connect, Log, OpenStore, RequestSource, Source

CLOSING = 10.0
"""Seconds that closing a store may take: a commit that runs, and an fsync."""


class Binding:
    """Written to by one actor's task; queries read through `answer` at any time."""

    def __init__(
        self,
        config: Dataset,
        connect: Connect,
        open_store: OpenStore | None,
        spool: Spool,
        *,
        suspected: Callable[[Link, SourceError], None],
    ) -> None:
        self.table: Latest[TableInfo | None] = Latest(None)
        self.log: Latest[Log | None] = Latest(None)
        self.store: LoggedStore | None = None
        self.link: Link | None = None
        self.refused: Callable[[], str] = str
        """Told that a query was turned away for want of a source; what that one fails with, if it does."""
        self._config = config
        self._connect = connect
        self._open_store = open_store
        self._spool = spool
        self._suspected = suspected
        self._schema: pa.Schema | None = None
        keys = config.acceleration
        self._caches = open_store is not None and keys is not None and keys.refresh_mode is RefreshMode.CACHING

    @property
    def schema(self) -> pa.Schema | None:
        """The table's columns, once they are known."""
        return self._schema

    @property
    def snapshot(self) -> Snapshot | None:
        return self.store.snapshot.value if self.store is not None else None

    @property
    def generation(self) -> Generation | None:
        """What the store holds now; None without one."""
        if self.store is None or self.snapshot is None:
            return None
        return Generation(self.snapshot.epoch, (self.snapshot.generation,), self.store.changed_at)

    @property
    def loaded(self) -> bool:
        """Whether queries can be answered in full."""
        return self.link is not None if self._open_store is None else self.snapshot is not None

    @property
    def time(self) -> TimeAxis | None:
        return time_axis(self._known(), self._config.time_column, self._config.name)

    @property
    def axes(self) -> tuple[TimeAxis, ...]:
        """The time column and the time partition column, where the dataset has them."""
        partition = partition_axis(self._known(), self._config.time_partition_column, self._config.name)
        return tuple(axis for axis in (self.time, partition) if axis is not None)

    async def open_stored(self) -> None:
        """Open what an earlier run left, if anything; StoreError, ConfigError.

        A cache is opened once its source has told which columns its requests are in.
        """
        if self._caches:
            return
        if self._open_store is not None and self.store is None:
            await self._open(self._open_store, None)
        if self.store is not None:
            self._announce(self.store.spec.schema)

    async def connect(self, refresh_sql: RefreshSql | None) -> Link:
        """The source, connected and fitted to the store, which is opened now if it was not; any expected error.

        One that failed a reader is replaced.
        """
        if self.link is not None and not self.link.suspect:
            if follows_schema(self._config):
                async with self.link.use() as source:
                    await self._fit(source, refresh_sql)
            return self.link
        source = await self._connect()
        link = Link(source, self._suspected)
        try:
            await self._fit(source, refresh_sql)
        except BaseException:
            await link.retire()
            raise
        await self.disconnect()
        self.link = link
        return link

    async def disconnect(self) -> None:
        """Drop the source, so that the next `connect` finds it as it is then; queries that read it go on."""
        link, self.link = self.link, None
        if link is not None:
            await link.retire()

    async def aclose(self) -> None:
        """Close both ends, within a deadline, whatever is being cancelled."""
        with trio.move_on_after(CLOSING, shield=True):
            await self.disconnect()
            await self._close()

    @asynccontextmanager
    async def answer(self, scan: ScanRequest, *, fallback: bool) -> AsyncIterator[Pinned]:
        """A snapshot for a query, of the store or else of the source; QueryError NOT_READY, SOURCE, RESOURCES."""
        if self.store is not None and self.snapshot is not None and not scan.from_source:
            with stored_snapshot(self.store) as snapshot:
                yield Pinned(snapshot)
        elif self.link is not None and self._schema is not None and self._may_ask_source(scan, fallback):
            check_clear(scan)
            async with source_snapshot(self.link, scan, self._schema, self._spool) as snapshot:
                yield Pinned(snapshot)
        else:
            raise self._not_ready()

    def _may_ask_source(self, scan: ScanRequest, fallback: bool) -> bool:
        return scan.from_source or fallback or self._open_store is None

    async def _fit(self, source: Source, refresh_sql: RefreshSql | None) -> None:
        found = projected(await source.schema(), refresh_sql, self._config.name)
        self._check(found)
        requested = source.request_columns if isinstance(source, RequestSource) else None
        if self._caches and requested is None:
            message = "refresh_mode caching keeps the answers of an API by request, which this source does not have"
            raise ConfigError(ConfigProblem(message, "acceleration.refresh_mode"))
        if self._open_store is not None and self._caches:
            await self._fit_cache(self._open_store, found)
        elif self._open_store is not None:
            await self._fit_store(self._open_store, found, refresh_sql)
        columns = requested if self._open_store is None or self._caches else None
        self._announce(found if self.store is None or self._caches else self.store.spec.schema, columns or ())

    def _check(self, found: pa.Schema) -> None:
        """ConfigError where the dataset's keys do not fit its columns."""
        time_axis(found, self._config.time_column, self._config.name)
        partition_axis(found, self._config.time_partition_column, self._config.name)
        check_retention(found, self._config)

    async def _fit_store(self, open_store: OpenStore, found: pa.Schema, refresh_sql: RefreshSql | None) -> None:
        if self.store is not None and self._must_reopen(self.store, found, refresh_sql):
            found = widened(self.store.spec.schema, found) if grows(self._config) else found
            await self._close()
        if self.store is None:
            try:
                await self._open(open_store, found)
            except (StoreError, ConfigError):  # these columns are refused: what is stored goes on being served
                await self._open(open_store, None)
                raise

    async def _fit_cache(self, open_store: OpenStore, found: pa.Schema) -> None:
        schema = stored_schema(found, self._config.name)
        if self.store is None:
            await self._open(partial(open_cache, open_store, self._config), schema)
        elif not self.store.spec.schema.equals(schema):
            message = f"The source's columns of dataset {self._config.name} have changed."
            raise SourceError(message, remedy="They are taken over at the next start.", transient=False)

    async def _open(self, open_store: Callable[..., Awaitable[Accelerator | None]], schema: pa.Schema | None) -> None:
        """Rows of a cache belong to those who asked for them, so that nobody follows its log."""
        store = await open_store(schema)
        self.store = LoggedStore(store) if store is not None else None
        self.log.publish(None if self._caches else self.store)

    async def _close(self) -> None:
        store, self.store = self.store, None
        self.log.publish(None)
        if store is not None:
            await store.aclose()

    def _must_reopen(self, store: LoggedStore, found: pa.Schema, refresh_sql: RefreshSql | None) -> bool:
        stored = decode(self.snapshot.cursor) if self.snapshot is not None else None
        asked = stored is not None and stored.refresh_sql != (refresh_sql.text if refresh_sql is not None else None)
        return must_reopen(store.spec.schema, found, self._config, asked=asked)

    def _announce(self, schema: pa.Schema, request_columns: tuple[str, ...] = ()) -> None:
        self._schema = schema
        acceleration = self._config.acceleration
        zero = acceleration is not None and acceleration.on_zero_results is OnZeroResults.USE_SOURCE
        from_source, comment = zero and not self._caches, self._config.description
        encoded = schema.serialize().to_pybytes()
        self.table.publish(TableInfo(self._config.name, encoded, from_source, comment, request_columns))

    def _known(self) -> pa.Schema:
        if self._schema is None:
            raise RuntimeError(f"the schema of {self._config.name} is not known yet")
        return self._schema

    def _not_ready(self) -> QueryError:
        message = f"Acceleration not ready; loading initial data for {self._config.name}"
        if self._open_store is None or self.snapshot is not None:
            message = f"The source of dataset {self._config.name} is not connected"
            why = self.refused()
            message = f"{message}: {why}" if why else message
        return QueryError(message, QueryFailure.NOT_READY)


def check_clear(scan: ScanRequest) -> None:
    """QueryError INVALID for conditions from which it can't be told what to ask the source for."""
    if scan.unclear:
        names = ", ".join(scan.unclear)
        message = (
            f"A condition on {names} does not tell which requests to send for dataset {scan.table}. "
            "Compare such a column with values by =, IN, OR of these on one column, or IN (SELECT ...)."
        )
        raise QueryError(message)
