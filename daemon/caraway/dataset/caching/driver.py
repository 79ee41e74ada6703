"""Keeps the answers of an API as rows, by request: the driver of refresh_mode caching.

    scan ──▶ Answers ──at hand───────────────────────────────▶ pinned rows
                └──▶ Flights ──RequestSource.fetch──▶ Writer ──▶ store
    clock ──▶ Refresher ──┘

It is ready at once: nothing is loaded, and what an earlier run left is found again, stale as it may be.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn, cast

import trio

from caraway.blocking import call
from caraway.core.retry import backoff
from caraway.core.row_index import OVERHEAD, Entry
from caraway.core.row_shares import NOTHING
from caraway.core.symptom import Cause
from caraway.dataset.bench import Bench
from caraway.dataset.binding import check_clear
from caraway.dataset.caching.answering import Answers, asked_of
from caraway.dataset.caching.aside import each, put_aside
from caraway.dataset.caching.columns import digest_of, gathered, size_of, stored_rows, stored_schema
from caraway.dataset.caching.failures import Failures
from caraway.dataset.caching.flights import Brought, Failed, Flights, Kept, Lost, Order, Outcome, Spooled
from caraway.dataset.caching.opening import load
from caraway.dataset.caching.refreshing import Refresher
from caraway.dataset.caching.revalidations import Revalidations
from caraway.dataset.caching.shelf import Counts, Shelf
from caraway.dataset.caching.writing import Writer
from caraway.dataset.claims import INLINE_BYTES
from caraway.dataset.link import Link
from caraway.dataset.report import Expected, Phase
from caraway.errors import ConfigError, QueryError, QueryFailure, SourceError, StoreError
from caraway.events import CacheOpened
from caraway.model import CachingStatus, DatasetStatus, Fetched, Generation, Pinned, RefreshOverrides, ScanRequest
from caraway.ports import RequestSource


class Caching:
    """The driver of what is kept by request; a `Driver`."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._name = bench.config.name
        self._counts = Counts()
        self._failures = Failures(self._name, bench.report, bench.shared.emit)
        self._flights = Flights(self._name, self._fetch, self._keep)
        self._revalidations = Revalidations(self._flights, self._failures, self._counts)
        self._refresher = Refresher(bench)
        self._broken = trio.Event()
        self._preparing = trio.CapacityLimiter(1)
        self._answers: Answers | None = None
        self._writer: Writer | None = None
        bench.report.caching = self._status

    def __repr__(self) -> str:
        return f"Caching({self._answers and self._answers.shelf}, {self._flights!r}, {self._failures!r})"

    # --- what others ask ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def answer(self, scan: ScanRequest) -> AsyncIterator[Pinned]:
        """Rows for a query, until the context ends; QueryError INVALID, NOT_READY, SOURCE, UNAVAILABLE, RESOURCES."""
        check_clear(scan)
        link, answers = self._bench.binding.link, self._answers
        if link is None or answers is None:
            raise QueryError(f"The cache of dataset {self._name} is not open yet", QueryFailure.NOT_READY)
        async with link.use() as source:
            asked = asked_of(cast("RequestSource", source), scan)
        async with answers.answer(asked) as pinned:
            yield pinned

    @property
    def generation(self) -> Generation | None:
        """What it holds now, in shares; None before it is open."""
        return self._answers.shelf.shares.generation if self._answers is not None else None

    def request_refresh(self, overrides: RefreshOverrides) -> None:
        self._refresher.request(overrides)

    def set_refresh_sql(self, text: str) -> None:
        self._refresher.set_refresh_sql(text)

    def suspected(self, link: Link, error: SourceError) -> None:
        """One request that failed says nothing of the others."""

    def current(self) -> DatasetStatus:
        return self._bench.current()

    def proven(self, now: float) -> None:
        """It is never behind: each answer has an age of its own."""

    def cause(self) -> Cause:
        raise AssertionError(f"dataset {self._name} keeps answers that are as old as they are")

    def _status(self) -> CachingStatus | None:
        if self._answers is None:
            return None
        return self._answers.shelf.status(self._failures.total, self._revalidations.running)

    # --- the task ----------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        await self._bench.open_stored()
        if not await self._opened():
            task_status.started()
            await self._open_until_it_is()
            task_status = trio.TASK_STATUS_IGNORED
        assert self._answers is not None
        assert self._writer is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flights.run)
            nursery.start_soon(self._refresher.run, self._answers.shelf, self._revalidations)
            nursery.start_soon(self._keep_connected)
            self._bench.publish()
            task_status.started()
            await self._writer.run()

    async def _open_until_it_is(self) -> None:
        while True:
            await trio.sleep(backoff(self._bench.report.failures, self._bench.shared.draw()))
            if await self._opened():
                return

    async def _opened(self) -> bool:
        """Connect the source and open the store; whether that succeeded."""
        report = self._bench.report
        try:
            await self._open()
        except (SourceError, StoreError, ConfigError) as error:
            self._unconnected(error)
            return False
        report.succeeded(Phase.SOURCE, Phase.STORE, Phase.CRASH)
        report.failures = 0
        return True

    async def _open(self) -> None:
        began, settings, binding = trio.current_time(), self._bench.settings, self._bench.binding
        await binding.connect(None)
        store, plain = binding.store, binding.schema
        assert store is not None
        assert plain is not None
        if store.snapshot.value is None:
            await store.commit([], None)  # what is only filled by queries is complete when it is empty
        stored = stored_schema(plain, self._name)
        shelf = Shelf(settings.freshness, settings.budget, plain=plain, stored=stored, counts=self._counts)
        await load(store, shelf.index, self._bench.shared.wall)
        if len(shelf.index):
            seconds = trio.current_time() - began
            self._bench.shared.emit(CacheOpened(self._name, len(shelf.index), shelf.index.rows, seconds))
        self._writer = Writer(self._bench, shelf, store)
        self._answers = Answers(
            shelf, store, self._flights, self._revalidations, self._failures, self._bench.shared.spool
        )
        self._flights.open()

    async def _keep_connected(self) -> NoReturn:
        """Connect anew where a failure says that trying again as it is can't help: names and secrets are read anew."""
        while True:
            await self._broken.wait()
            await trio.sleep(backoff(max(1, self._bench.report.failures), self._bench.shared.draw()))
            try:
                await self._bench.binding.connect(None)
            except (SourceError, StoreError, ConfigError) as error:
                self._unconnected(error)
            else:
                self._broken = trio.Event()

    def _unconnected(self, error: Expected) -> None:
        self._bench.report.failures += 1
        self._bench.report.failed(Phase.STORE if isinstance(error, StoreError) else Phase.SOURCE, error)
        self._bench.publish()

    # --- one answer --------------------------------------------------------------------------------------------------

    async def _fetch(self, order: Order) -> Brought | Failed | Lost:
        failing = self._failures.streak
        try:
            brought = await self._brought(order)
        except SourceError as error:
            self._failures.failed(order.key, error)
            if not error.transient:
                self._broken.set()
            self._bench.publish()
            return Failed(error)
        except QueryError as error:  # the request is not one that the source sends
            return Lost(error)
        self._failures.succeeded(order.key)
        if failing:
            self._bench.publish()
        return brought

    async def _brought(self, order: Order) -> Brought:
        link = self._bench.binding.link
        if link is None:
            raise SourceError(f"The source of dataset {self._name} is not connected.")
        async with link.use() as source:
            fetched = await cast("RequestSource", source).fetch(
                order.request, namespace=order.namespace, anew=order.anew
            )
        answers = self._answers
        assert answers is not None
        try:
            if sum(batch.nbytes for batch in fetched.rows) < INLINE_BYTES:
                return self._prepared(order, fetched, answers.shelf)
            return await call(self._prepared, order, fetched, answers.shelf, limiter=self._preparing)
        except StoreError as error:
            message = f"The source's answer does not fit the columns of dataset {self._name}: {error.message}"
            raise SourceError(message) from error

    def _prepared(self, order: Order, fetched: Fetched, shelf: Shelf) -> Brought:
        """The answer as it is stored; may be called in a thread."""
        plain = gathered(fetched.rows, shelf.plain)
        digest = digest_of(plain) if plain.num_rows else NOTHING
        rows = stored_rows(plain, shelf.stored, key=order.key, namespace=order.namespace, at=fetched.at)
        return Brought(fetched.at, rows, digest)

    async def _keep(self, order: Order, brought: Brought) -> Outcome:
        """Store an answer, or put it aside where that can't be."""
        assert self._answers is not None
        assert self._writer is not None
        age = max(0.0, (self._bench.shared.wall() - brought.at).total_seconds())
        rows, now = brought.rows, trio.current_time()
        size = size_of(rows) + OVERHEAD
        entry = Entry(order.key, order.namespace, order.request, now, rows.num_rows, size, brought.digest, age)
        if order.kept and await self._writer.put(entry, rows):
            return Kept(entry)
        try:
            return Spooled(entry, await put_aside(self._bench.shared.spool, rows.schema, each([rows])))
        except QueryError as error:
            return Lost(error)
