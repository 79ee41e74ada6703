"""When a caching dataset fetches by itself: to warm up, on its schedule, on request.

    start ──▶ the requests of refresh_sql that are not fresh; with refresh_on_startup: always all, or else all entries
    schedule ──▶ the requests of refresh_sql, and entries past their ttl
    request ──▶ the requests of its refresh_sql, or of the dataset's, or else all entries; no cache on the way counts

What refresh_sql names is fetched for `public`, since nobody asks for it; an entry for whom it belongs to.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain
from typing import NoReturn, assert_never

import trio

from caraway.config.model import RefreshMode, RefreshOnStartup, RefreshSql
from caraway.config.sql import parse_refresh_sql
from caraway.core.row_cache import Verdict, is_kept, judge
from caraway.core.schedule import delayed, due_after
from caraway.dataset.bench import Bench
from caraway.dataset.caching.answering import order_of
from caraway.dataset.caching.flights import Kept, Order, Outcome
from caraway.dataset.caching.revalidations import Revalidations
from caraway.dataset.caching.shelf import Shelf
from caraway.dataset.mailbox import Mailbox
from caraway.dataset.report import Phase
from caraway.errors import ConfigError, ConfigProblem, QueryError, SourceError
from caraway.events import RefreshFailed, RefreshFinished, RefreshStarted
from caraway.model import ANONYMOUS, RefreshOverrides
from caraway.ports import RequestSource

_MODE = RefreshMode.CACHING.value


class Which(Enum):
    """What one refresh is about."""

    MISSING = "missing"  # what refresh_sql names and is not fresh
    DUE = "due"  # what refresh_sql names, and entries past their ttl
    ALL = "all"  # what refresh_sql names, or else all entries


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants a refresh, at `due`; `sql` None: what the dataset's refresh_sql names."""

    due: float
    sql: RefreshSql | None = None


class Refresher:
    """Asked by anybody; `run` is the task that refreshes."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._sql = bench.settings.acceleration.refresh_sql
        self._mailbox: Mailbox[Request] = Mailbox()
        self._waiting: Request | None = None
        self._due = math.inf

    def __repr__(self) -> str:
        return f"Refresher(due {self._due}, {self._waiting})"

    # --- what others ask ---------------------------------------------------------------------------------------------

    def request(self, overrides: RefreshOverrides) -> None:
        if overrides.refresh_mode not in (None, _MODE):
            message = f"{overrides.refresh_mode!r} is not possible for dataset {self._name}, whose mode is {_MODE}"
            raise ConfigError(ConfigProblem(message, "refresh_mode"))
        sql = self._parsed(overrides.refresh_sql) if overrides.refresh_sql is not None else None
        jitter = overrides.refresh_jitter_max
        wait = delayed(self._bench.settings.schedule.jitter if jitter is None else jitter, self._bench.shared.draw())
        self._mailbox.post(Request(trio.current_time() + wait, sql))

    def set_refresh_sql(self, text: str) -> None:
        self._sql = self._parsed(text)

    def _parsed(self, text: str) -> RefreshSql:
        return parse_refresh_sql(text, self._name)

    @property
    def _name(self) -> str:
        return self._bench.config.name

    # --- the task ----------------------------------------------------------------------------------------------------

    async def run(self, shelf: Shelf, revalidations: Revalidations) -> NoReturn:
        """Refresh when it is time, until cancelled."""
        always = self._bench.settings.acceleration.refresh_on_startup is RefreshOnStartup.ALWAYS
        await self._refresh(shelf, revalidations, Which.ALL if always else Which.MISSING, None)
        while True:
            with trio.move_on_at(min(self._due, self._waiting.due if self._waiting is not None else math.inf)):
                await self._mailbox.wait_posted()
            self._waiting = self._mailbox.take_nowait() or self._waiting
            now, asked = trio.current_time(), self._waiting
            if asked is not None and asked.due <= now:
                self._waiting = None
                await self._refresh(shelf, revalidations, Which.ALL, asked.sql)
            elif self._due <= now:
                await self._refresh(shelf, revalidations, Which.DUE, None)

    async def _refresh(self, shelf: Shelf, revalidations: Revalidations, which: Which, sql: RefreshSql | None) -> None:
        report, shared = self._bench.report, self._bench.shared
        try:
            orders = self._orders(shelf, which, await self._named(sql or self._sql))
        except (QueryError, ConfigError, SourceError) as error:
            self._unnamed(error, lasting=sql is None)
        else:
            if sql is None:
                report.succeeded(Phase.REFRESH)
            first = next(orders, None)
            if first is not None:
                async with shared.permits:
                    await self._fetch(revalidations, chain([first], orders))
            elif which is not Which.MISSING:
                report.last_refresh = shared.wall()
        schedule = self._bench.settings.schedule
        self._due = report.due = due_after(schedule, trio.current_time(), shared.wall(), shared.draw())
        self._bench.publish()

    async def _fetch(self, revalidations: Revalidations, orders: Iterator[Order]) -> None:
        report, shared, began = self._bench.report, self._bench.shared, trio.current_time()
        size = 0

        def progress(outcome: Outcome) -> None:
            nonlocal size
            if isinstance(outcome, Kept):
                size += outcome.entry.size
                report.progress(outcome.entry.rows)

        report.began()
        self._bench.publish()
        shared.emit(RefreshStarted(self._name, _MODE))
        fetched = await revalidations.refresh(orders, progress)
        if fetched:
            report.last_refresh = shared.wall()
            shared.emit(RefreshFinished(self._name, _MODE, report.rows, size, trio.current_time() - began))
        report.ended()

    def _unnamed(self, error: QueryError | ConfigError | SourceError, *, lasting: bool) -> None:
        """It can't be told what to fetch; what one request alone named is no problem that lasts."""
        problem = (
            ConfigError(ConfigProblem(error.message, "acceleration.refresh_sql"))
            if isinstance(error, QueryError)
            else error
        )
        if lasting:
            self._bench.report.failed(Phase.REFRESH, problem)
        self._bench.shared.emit(RefreshFailed(self._name, _MODE, str(problem), None))

    # --- what is fetched ---------------------------------------------------------------------------------------------

    async def _named(self, sql: RefreshSql | None) -> Sequence[Order] | None:
        """The requests of a refresh_sql; None where it names none."""
        link = self._bench.binding.link
        if sql is None or sql.predicate is None or link is None:
            return None
        async with link.use() as source:
            assert isinstance(source, RequestSource)
            requests = source.requests((sql.predicate,))
        if requests is None:
            return None
        return [order_of(ANONYMOUS.id, request) for request in requests if is_kept(request)]

    def _orders(self, shelf: Shelf, which: Which, named: Sequence[Order] | None) -> Iterator[Order]:
        match which:
            case Which.MISSING:
                return (order for order in named or () if not _is_fresh(shelf, order.key))
            case Which.ALL:
                chosen = iter(named) if named is not None else _entries(shelf, stale=False)
                return (replace(order, anew=True) for order in chosen)
            case Which.DUE:
                keys = {order.key for order in named or ()}
                return chain(named or (), (order for order in _entries(shelf, stale=True) if order.key not in keys))
            case _:
                assert_never(which)


def _entries(shelf: Shelf, *, stale: bool) -> Iterator[Order]:
    """Those of now that are there still when their turn comes; with `stale` those alone that are past their ttl."""
    for entry in list(shelf.index):
        if not (stale and _is_fresh(shelf, entry.key)) and shelf.index.find(entry.key) is not None:
            yield Order(entry.key, entry.namespace, entry.request)


def _is_fresh(shelf: Shelf, key: str) -> bool:
    entry = shelf.index.find(key)
    if entry is None:
        return shelf.empty(key) is not None
    return judge(trio.current_time() - entry.fetched, shelf.policy) is Verdict.FRESH
