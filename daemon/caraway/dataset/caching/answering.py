"""Answers a scan of a caching dataset: judges each request by the index, waits for what has to be fetched, pins.

    request ──fresh, or empty──▶ at hand
            ──stale────────────▶ at hand; fetched anew beside it if there is a place
            ──expired, missing─▶ flight ──▶ rows, or what expired where the source failed

All that a scan needs is leased until it is pinned, so that the answer to one of its requests is not evicted while it
waits for another.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import assert_never
from uuid import uuid4

import pyarrow as pa
import trio

from caraway.core.predicate import Not, Predicate, all_of
from caraway.core.row_cache import Verdict, entry_key, is_kept, judge, stands_in
from caraway.core.row_shares import share_of
from caraway.dataset.answer import stored_snapshot
from caraway.dataset.caching.aside import Aside, put_aside
from caraway.dataset.caching.columns import of_entries, of_namespace
from caraway.dataset.caching.failures import Failures
from caraway.dataset.caching.flights import Failed, Flight, Flights, Kept, Lost, Order, Spooled
from caraway.dataset.caching.revalidations import Revalidations
from caraway.dataset.caching.shelf import Shelf
from caraway.dataset.spool import Spool
from caraway.errors import QueryError, QueryFailure, SourceError, StoreError, unnamed
from caraway.model import CacheReading, Pinned, ReadingStatus, Request, ScanRequest
from caraway.ports import Accelerator, RequestSource

AHEAD = 16
"""Requests of one scan that are under way at a time."""
_OLDEST = 2.0**31
"""The greatest age that is told (RFC 9111 1.2.2)."""
_GRAVITY = list(ReadingStatus)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a scan wants: the answers to requests, and with `all` what is stored in the namespace."""

    dataset: str
    namespace: str
    orders: tuple[Order, ...]
    all: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What there is for one request; `aside` where its rows are not in the store."""

    status: ReadingStatus
    given: float
    aside: Aside | None = None


def asked_of(source: RequestSource, scan: ScanRequest) -> Asked:
    """The requests that a scan names; QueryError INVALID for those that are not possible."""
    conditions = scan.each or (scan.predicate,)
    found = [source.requests((condition,)) for condition in conditions]
    named = [condition for condition, requests in zip(conditions, found, strict=True) if requests is not None]
    requests = found[0] if len(found) == 1 else source.requests(named) if named else None
    whole = len(named) < len(conditions)
    if whole and not source.request_columns:  # there is one request, and no way to name it
        requests, whole = (Request(),), False
    namespace = scan.principal.id
    return Asked(scan.table, namespace, tuple(order_of(namespace, each) for each in requests or ()), whole)


def order_of(namespace: str, request: Request) -> Order:
    """One that is not kept has a key of its own, so that it is shared with nobody."""
    kept = is_kept(request)
    return Order(entry_key(namespace, request) if kept else uuid4().hex, namespace, request, kept)


@dataclass(frozen=True, slots=True)
class Answers:
    """Anybody asks; nothing of an answer outlives its context."""

    shelf: Shelf
    store: Accelerator
    flights: Flights
    revalidations: Revalidations
    failures: Failures
    spool: Spool

    @asynccontextmanager
    async def answer(self, asked: Asked) -> AsyncIterator[Pinned]:
        """Rows that stay until the context ends; QueryError SOURCE, UNAVAILABLE, RESOURCES."""
        with ExitStack() as held:
            yield await self._pinned(asked, held)

    async def _pinned(self, asked: Asked, held: ExitStack) -> Pinned:
        now = trio.current_time()
        parts = {order.key: part for order in asked.orders if (part := self._at_hand(order, now)) is not None}
        wanted = [order for order in asked.orders if order.key not in parts]
        if not wanted:
            return self._stored(asked, parts, held)
        with self._leased(asked):
            parts |= await self._brought(wanted, now, held)
            if all(part.aside is None for part in parts.values()):
                return self._stored(asked, parts, held)
            return await self._spooled(asked, parts, held)

    @contextmanager
    def _leased(self, asked: Asked) -> Iterator[None]:
        keys = [order.key for order in asked.orders]
        self.shelf.index.lease(keys)
        try:
            yield
        finally:
            self.shelf.index.release(keys)

    # --- what is there -----------------------------------------------------------------------------------------------

    def _at_hand(self, order: Order, now: float) -> Part | None:
        """What can be served at once."""
        index, counts = self.shelf.index, self.shelf.counts
        entry = index.find(order.key)
        if entry is None:
            empty = self.shelf.empty(order.key)
            counts.hits += empty is not None
            return Part(ReadingStatus.HIT, empty) if empty is not None else None
        match judge(now - entry.fetched, self.shelf.policy):
            case Verdict.FRESH:
                index.use(order.key)
                counts.hits += 1
                return Part(ReadingStatus.HIT, entry.given)
            case Verdict.STALE:
                index.use(order.key)
                counts.stale += 1
                self.revalidations.start(order)
                return Part(ReadingStatus.STALE, entry.given)
            case Verdict.EXPIRED:
                return None
            case other:
                assert_never(other)

    # --- what is not -------------------------------------------------------------------------------------------------

    async def _brought(self, wanted: Sequence[Order], now: float, held: ExitStack) -> dict[str, Part]:
        """What requests bring that are sent now, some at a time; what was judged expired was so at `now`."""
        parts: dict[str, Part] = {}
        ahead: deque[tuple[Order, Flight | SourceError]] = deque()
        for order in wanted:
            if len(ahead) == AHEAD:
                parts |= await self._landed(*ahead.popleft(), now)
            ahead.append((order, self._board(order, held)))
        while ahead:
            parts |= await self._landed(*ahead.popleft(), now)
        return parts

    def _board(self, order: Order, held: ExitStack) -> Flight | SourceError:
        error = self.failures.recall(order.key) if order.kept else None
        if error is not None:
            return error
        self.shelf.counts.coalesced += self.flights.find(order.key) is not None
        flight = self.flights.board(order)
        held.callback(self.flights.leave, flight)
        return flight

    async def _landed(self, order: Order, flight: Flight | SourceError, now: float) -> dict[str, Part]:
        if isinstance(flight, SourceError):
            return {order.key: self._instead(order, flight, now)}
        await flight.done.wait()
        match flight.outcome:
            case Kept(entry):
                part = Part(ReadingStatus.MISS, entry.given)
            case Spooled(entry, aside):
                part = Part(ReadingStatus.MISS, entry.given, aside)
            case Failed(error):
                return {order.key: self._instead(order, error, now)}
            case Lost(error):
                raise QueryError(error.message, error.failure) from error
            case None:
                raise AssertionError("a flight that is done has brought something")
        self.shelf.counts.misses += 1
        return {order.key: part}

    def _instead(self, order: Order, error: SourceError, now: float) -> Part:
        """What expired, where the source failed and it may stand in."""
        entry = self.shelf.index.find(order.key)
        if entry is None or not stands_in(now - entry.fetched, self.shelf.policy):
            self.shelf.counts.misses += 1
            dataset = self.flights.dataset
            raise QueryError(
                f"The source of dataset {dataset} failed: {unnamed(str(error), dataset)}", QueryFailure.SOURCE
            )
        self.shelf.index.use(order.key)
        self.shelf.counts.stale_if_error += 1
        return Part(ReadingStatus.STALE_IF_ERROR, entry.given)

    # --- what is shown -----------------------------------------------------------------------------------------------

    def _stored(self, asked: Asked, parts: Mapping[str, Part], held: ExitStack) -> Pinned:
        only = of_namespace(asked.namespace) if asked.all else of_entries(parts)
        return Pinned(held.enter_context(stored_snapshot(self.store)), only, self._reading(asked, parts))

    async def _spooled(self, asked: Asked, parts: Mapping[str, Part], held: ExitStack) -> Pinned:
        """The rows that are not in the store, in a file together with those that are."""
        asides = {key: part.aside for key, part in parts.items() if part.aside is not None}
        reading = self._reading(asked, parts)
        if len(asides) == len(parts) == 1 and not asked.all:
            return Pinned(next(iter(asides.values())).snapshot, reading=reading)
        stored = of_entries([key for key in parts if key not in asides])
        only = all_of(of_namespace(asked.namespace), Not(of_entries(asides))) if asked.all else stored
        try:
            async with aclosing(self._together(only, list(asides.values()))) as rows:
                aside = await put_aside(self.spool, self.shelf.stored, rows)
        except StoreError as error:
            raise QueryError(str(error), QueryFailure.UNAVAILABLE) from error
        held.callback(aside.discard)
        return Pinned(aside.snapshot, reading=reading)

    async def _together(self, only: Predicate | None, asides: Sequence[Aside]) -> AsyncGenerator[pa.RecordBatch, None]:
        with self.store.pin() as snapshot:
            async with self.store.scan(snapshot, None, only) as stored:
                async for batch in stored:
                    yield batch
        for aside in asides:
            async with aclosing(aside.rows()) as rows:
                async for batch in rows:
                    yield batch

    def _reading(self, asked: Asked, parts: Mapping[str, Part]) -> CacheReading:
        now, index = trio.current_time(), self.shelf.index
        times, statuses = [part.given for part in parts.values()], [part.status for part in parts.values()]
        if asked.all and (oldest := index.oldest(asked.namespace)) is not None:
            fresh = judge(now - oldest, self.shelf.policy) is Verdict.FRESH
            times.append(oldest)
            statuses.append(ReadingStatus.HIT if fresh else ReadingStatus.STALE)
        told = not asked.all and all(order.kept for order in asked.orders)
        return CacheReading(
            dataset=asked.dataset,
            status=max(statuses, key=_GRAVITY.index, default=ReadingStatus.HIT),
            age=min(now - min(times, default=now), _OLDEST),
            entries=index.count(asked.namespace) if asked.all else len(parts),
            shares=tuple(sorted({share_of(key) for key in parts})) if told else None,
            generation=self.shelf.shares.generation,
        )
