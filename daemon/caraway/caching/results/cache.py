"""The results cache: answers in memory before a query engine.

A query is found by the key that its request names, by its text, or by its plan. The plan is known from an earlier
time, or from planning it now: then the execution ends right after planning where an equal one is kept or under way.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import assert_never

import trio

from caraway.caching.results import keys
from caraway.caching.results.body import Replay, Served
from caraway.caching.results.collect import Collecting
from caraway.caching.results.entry import Entry
from caraway.caching.results.executions import Executions
from caraway.caching.results.flights import Call, Failed, Landed
from caraway.caching.results.memo import Memo
from caraway.caching.results.reports import Counts, Reports
from caraway.caching.results.revalidation import Revalidation
from caraway.caching.results.run import Asked
from caraway.caching.results.shelf import Shelf
from caraway.caching.results.store import Store
from caraway.config.model import ResultsCacheConfig
from caraway.core.results_cache import Bypass, Hit, Miss, NotCached, Policy, Reason, Stale
from caraway.errors import QueryError, QueryFailure
from caraway.events import QueryFinished
from caraway.model import CacheStatus, FlightMessage, Query, ResultsCacheStatistics
from caraway.ports import Emit, PlanningEngine, QueryResult, Tables

MEMO_SHARE = 20
"""One in so many bytes is for what is known of texts."""


class ResultsCache:
    """A `ports.CachingEngine` before a PlanningEngine; `run` must be running for stale answers to become fresh."""

    def __init__(
        self,
        engine: PlanningEngine,
        tables: Tables,
        config: ResultsCacheConfig,
        emit: Emit,
        *,
        timeout: float | None = None,
    ) -> None:
        """`timeout` is that of queries which have none of their own (runtime.query.timeout)."""
        policy = Policy(config.item_ttl, config.stale_while_revalidate_ttl)
        memory = config.max_size if config.enabled else 0
        self._config = config
        self._engine = engine
        self._tables = tables
        self._emit = emit
        self._timeout = timeout
        self._by_text = config.cache_key_type == "sql"
        self._memo = Memo(memory // MEMO_SHARE)
        self._store = Store(memory - memory // MEMO_SHARE, config.eviction_policy)
        self._counts = Counts()
        reports = Reports(policy)
        self._shelf = Shelf(self._store, policy, tables, reports, packs=config.encoding == "zstd")
        self._executions = Executions(
            engine, tables, self._shelf, reports, memo=self._memo, collecting=Collecting(memory)
        )
        self._revalidation = Revalidation(self._executions, self._asked, self._counts)

    def __repr__(self) -> str:
        return f"<ResultsCache {self._store!r}>"

    # --- answers -----------------------------------------------------------------------------------------------------

    def peek(self, query: Query) -> Served | None:
        """See ports.CachingEngine."""
        if not self._config.enabled or (key := self._key(query)) is None:
            return None
        entry, verdict = self._shelf.look_up(key, query.directives)
        if isinstance(verdict, NotCached):
            self._counts.rejected(verdict.reason)
            raise self._refused(self._asked(query))
        if entry is None or not isinstance(verdict, Hit | Stale):
            return None
        status = CacheStatus.HIT if isinstance(verdict, Hit) else CacheStatus.STALE
        if served := self._shelf.at_once(entry, status):
            self._take(entry, verdict, query)
            self._counts.answered(status)
        return served

    @asynccontextmanager
    async def execute(self, query: Query) -> AsyncIterator[QueryResult]:
        """See ports.QueryEngine."""
        if not self._config.enabled:
            async with self._engine.execute(query) as passed:
                yield passed
            return
        async with AsyncExitStack() as stack:
            result = await self._answer(query, stack)
            self._counts.answered(result.report.status)
            yield result

    async def plan(self, query: Query) -> FlightMessage:
        """See ports.QueryEngine."""
        return await self._engine.plan(query)

    async def table_schema(self, name: str) -> FlightMessage:
        """See ports.QueryEngine."""
        return await self._engine.table_schema(name)

    def statistics(self) -> ResultsCacheStatistics:
        """What is held now, and what was counted since the start."""
        counts = self._counts
        return ResultsCacheStatistics(
            max_size_bytes=self._config.max_size if self._config.enabled else 0,
            size_bytes=self._store.size + self._memo.size,
            items_count=len(self._store),
            requests=counts.hits + counts.misses,
            hits=counts.hits,
            misses=counts.misses,
            coalesced=counts.coalesced,
            stale_swr_count=counts.skipped,
            swr_background_query_count=sum(counts.revalidations.values()),
            invalidation_stale_hits=counts.changed_hits,
            evictions=dict(self._store.evictions),
            stale_rejections=dict(counts.rejections),
            swr_revalidations=dict(counts.revalidations),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Revalidate what was served stale, and forget what is too old, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._shelf.sweep)
            await nursery.start(self._revalidation.run)
            task_status.started()

    # --- one query ---------------------------------------------------------------------------------------------------

    def _key(self, query: Query) -> bytes | None:
        """Where its answer is, as far as that can be told without planning."""
        version = self._tables.catalog.value.version
        if query.cache_key is not None:
            return keys.client_key(query, version)
        text = keys.text_key(query, version)
        if self._by_text:
            return text
        known = self._memo.get(text)
        return known.plan_key if known else None

    def _asked(self, query: Query) -> Asked:
        version = self._tables.catalog.value.version
        asked = Asked(query, version, by_text=self._by_text, timeout=self._timeout)
        asked.known = self._memo.get(asked.text)
        return asked

    async def _answer(self, query: Query, stack: AsyncExitStack) -> QueryResult:
        asked = self._asked(query)
        while (result := await self._attempt(asked, stack)) is None:
            asked.known = asked.known or self._memo.get(asked.text)
        return result

    async def _attempt(self, asked: Asked, stack: AsyncExitStack) -> QueryResult | None:
        """An answer; None where it has to be looked for anew."""
        if asked.passes_by and not asked.wants_no_run:
            return await self._executions.pass_by(asked, None, stack)
        if asked.known is None and asked.wants_no_run and asked.key is None:
            await self._only_plan(asked, stack)
            return None
        entry, verdict = self._shelf.look_up(asked.key, asked.query.directives)
        match verdict:
            case Hit() | Stale():
                assert entry is not None
                self._take(entry, verdict, asked.query)
                status = CacheStatus.HIT if isinstance(verdict, Hit) else CacheStatus.STALE
                return Replay(await self._shelf.served(entry, status))
            case NotCached(reason):
                self._counts.rejected(reason)
                raise self._refused(asked)
            case Bypass():
                return await self._executions.run(self._executions.note(asked), CacheStatus.BYPASS, stack)
            case Miss(reason):
                self._reject(asked, entry, reason)
                return await self._run_or_wait(asked, stack)
            case _:
                assert_never(verdict)

    async def _only_plan(self, asked: Asked, stack: AsyncExitStack) -> None:
        """Learn the query's key; an engine that tells of no plan would run it."""
        if await self._executions.run(self._executions.note(asked), CacheStatus.MISS, stack) is not None:
            raise self._refused(asked)

    def _refused(self, asked: Asked) -> QueryError:
        error = not_cached()
        self._emit(asked.finished(failure=error.failure.value, error=error.message))
        return error

    def _take(self, entry: Entry, verdict: Hit | Stale, query: Query) -> None:
        self._shelf.used(entry.key)
        self._emit(QueryFinished(query.sql, query.protocol, query.principal.id, entry.body.rows, 0.0))
        if isinstance(verdict, Stale):
            self._counts.changed_hits += verdict.changed
            self._revalidation.soon(entry)

    def _reject(self, asked: Asked, entry: Entry | None, reason: Reason) -> None:
        if asked.key is not None:
            self._shelf.used(asked.key)
        if entry is not None and not asked.rejected:
            asked.rejected = True
            self._counts.rejected(reason)
            self._shelf.give_up(entry, reason)

    async def _run_or_wait(self, asked: Asked, stack: AsyncExitStack) -> QueryResult | None:
        key = asked.key or asked.text
        if (flight := self._executions.flights.joinable(key)) is None:
            return await self._executions.lead(self._executions.note(asked), key, stack)
        match await asked.follow(flight, self._executions.flights):
            case Landed(body):
                self._counts.coalesced += 1
                self._emit(asked.finished(body.rows))
                return Replay(self._shelf.shared(body, asked.query))
            case Failed(message, failure):
                self._emit(asked.finished(failure=failure.value, error=message))
                raise QueryError(message, failure)
            case Call.ALONE:
                asked.known = asked.known or self._memo.get(asked.text)
                return await self._executions.pass_by(asked, None if asked.passes_by else CacheStatus.MISS, stack)
            case Call.AGAIN:
                return None


def not_cached() -> QueryError:
    """What a request gets that wants no execution, where there is no answer for it."""
    return QueryError(
        "The results cache has no answer to this query that may be given, and the request forbids to run it "
        "(only-if-cached). Ask without only-if-cached.",
        QueryFailure.NOT_CACHED,
    )
