"""A private HTTP cache for each namespace, before a transport.

    send ─▶ store.find ─▶ judge ─┬─ fresh, or stale and allowed ──────────────────────────▶ answer
                                 └─ else: a flight, one for all equal requests at a time
                                       └▶ transport ─▶ conclude ─▶ store.put or remove ───▶ answer

The rules are in `core/freshness.py` and its neighbours; here is what waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias, assert_never

import trio

from caraway.caching.responses.store import ResponseStore
from caraway.core.freshness import Policy, Stored, Verdict, age_of, judge, terms_of
from caraway.core.freshness_answers import (
    Again,
    Confirmed,
    Keep,
    Outlived,
    Passed,
    Replaced,
    bypasses,
    conclude,
    conditional,
    dated,
    outlives,
    respond,
    shareable,
    voided,
)
from caraway.core.freshness_control import CacheControl, cache_control
from caraway.core.freshness_keys import flight_of, key_of
from caraway.errors import SourceError
from caraway.model import HttpRequest, HttpResponse, ResponseCacheStatistics
from caraway.ports import Send

REVALIDATIONS = 8
"""In the background at a time; who finds them busy is served all the same."""

_Count: TypeAlias = Literal[
    "hits", "stale", "revalidated", "misses", "coalesced", "bypassed", "revalidations", "skipped", "failures"
]


@dataclass(frozen=True, slots=True)
class _Errand:
    """A request that the store does not answer alone, with what it had; equal requests have an equal `flight`."""

    request: HttpRequest
    key: bytes
    flight: bytes
    stored: Stored | None


@dataclass(frozen=True, slots=True)
class _Landing:
    """How an errand ended; `shared`: whoever asked the same meanwhile may have the answer too."""

    answer: HttpResponse
    count: _Count
    shared: bool


class _Flight:
    """An errand under way; `outcome` None once it has landed: it was given up, and somebody else has to go."""

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.outcome: _Landing | SourceError | None = None


class ResponseCache:
    """Answers requests from a store as far as RFC 9111 allows, and else from `send`; without a store from that alone.

    `run` revalidates in the background what the origin allows to be served meanwhile. While it does not run, the one
    who asks waits for that.
    """

    def __init__(
        self,
        send: Send,
        store: ResponseStore | None,
        policy: Policy | None = None,
        *,
        wall: Callable[[], datetime],
        revalidations: int = REVALIDATIONS,
    ) -> None:
        self._send = send
        self._store = store
        self._policy = policy or Policy()
        self._wall = wall
        self._epoch = wall().timestamp() - trio.current_time()
        self._flights: dict[bytes, _Flight] = {}
        self._revalidations = revalidations
        self._due: trio.MemorySendChannel[tuple[_Flight, _Errand]] | None = None
        self._behind = 0
        self._counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<ResponseCache: {len(self._flights)} under way, {self.statistics()}>"

    def statistics(self) -> ResponseCacheStatistics:
        if self._store is None:
            return ResponseCacheStatistics(**self._counts)
        held = self._store.held
        return ResponseCacheStatistics(
            size_bytes=held.size_bytes, items=held.items, evictions=held.evictions, **self._counts
        )

    async def send(self, request: HttpRequest, *, namespace: str) -> HttpResponse:
        """The answer to a request; its `age` is RFC 9111's current_age. SourceError where there is none.

        Nothing is shared between namespaces. Whatever else parts those who ask, such as headers that an origin answers
        by without naming them in Vary, belongs into the namespace.
        """
        asked = cache_control(request.headers)
        if self._store is None or bypasses(request, asked, self._policy):
            return await self._pass(request, namespace)
        key = key_of(namespace, request)
        stored = await self._store.find(key, request.headers)
        errand = _Errand(request, key, flight_of(key, request), stored)
        if stored is not None and (served := self._serve(stored, asked, errand)) is not None:
            return served
        if "only-if-cached" in asked:
            return self._counted("misses", HttpResponse(504))
        return await self._join(errand)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Revalidate what was served stale, so many at a time, until cancelled."""
        if self._due is not None:
            raise RuntimeError("the cache runs already")
        due, receive = trio.open_memory_channel[tuple[_Flight, _Errand]](self._revalidations)
        self._due = due
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._revalidations):
                    nursery.start_soon(self._revalidate, receive)
                task_status.started()
        finally:
            self._due = None
            self._give_up(receive)

    async def aclose(self) -> None:
        """Close the store; no request may be under way."""
        if self._store is not None:
            await self._store.aclose()

    def _serve(self, stored: Stored, asked: CacheControl, errand: _Errand) -> HttpResponse | None:
        """The stored answer, where it may be given now."""
        age = age_of(stored, self._now())
        match judge(terms_of(stored.status, stored.headers, self._policy), age, asked):
            case Verdict.FRESH:
                return self._counted("hits", respond(stored, age))
            case Verdict.STALE:
                return self._counted("stale", respond(stored, age))
            case Verdict.BEHIND if self._start(errand):
                return self._counted("stale", respond(stored, age))
            case Verdict.BEHIND | Verdict.VALIDATE:
                return None
            case verdict:
                assert_never(verdict)

    def _start(self, errand: _Errand) -> bool:
        """See to it that an errand is run in the background, unless as many are as may be; False: nobody runs any."""
        if self._due is None:
            return False
        if errand.flight in self._flights:
            return True
        if self._behind >= self._revalidations:
            self._counts["skipped"] += 1
            return True
        self._behind += 1
        flight = self._flights[errand.flight] = _Flight()
        self._due.send_nowait((flight, errand))
        return True

    async def _revalidate(self, due: trio.MemoryReceiveChannel[tuple[_Flight, _Errand]]) -> None:
        async for flight, errand in due:
            self._counts["revalidations"] += 1
            try:
                await self._lead(flight, errand)
            except SourceError:
                pass  # it is counted, and who asked has an answer
            finally:
                self._behind -= 1

    def _give_up(self, due: trio.MemoryReceiveChannel[tuple[_Flight, _Errand]]) -> None:
        """Land the flights that nobody will run, so that nobody waits for them."""
        while due.statistics().current_buffer_used:
            flight, errand = due.receive_nowait()
            self._behind -= 1
            self._land(flight, errand)

    async def _join(self, errand: _Errand) -> HttpResponse:
        """The answer that an equal request brings, or that of a flight of our own where there is none to wait for."""
        while (flight := self._flights.get(errand.flight)) is not None:
            await flight.landed.wait()
            match flight.outcome:
                case _Landing(answer, _, shared=True):
                    return self._counted("coalesced", answer)
                case _Landing():
                    return self._landed(await self._ask(errand))
                case SourceError() as error:
                    self._counts["coalesced"] += 1
                    raise error.again()
                case None:
                    continue
        flight = self._flights[errand.flight] = _Flight()
        return self._landed(await self._lead(flight, errand))

    async def _lead(self, flight: _Flight, errand: _Errand) -> _Landing:
        try:
            flight.outcome = landing = await self._ask(errand)
        except SourceError as error:
            flight.outcome = error.again()
            raise
        finally:
            self._land(flight, errand)
        return landing

    def _land(self, flight: _Flight, errand: _Errand) -> None:
        del self._flights[errand.flight]
        flight.landed.set()

    async def _ask(self, errand: _Errand) -> _Landing:
        """Ask the origin, with a condition where something is stored, and store what comes of it."""
        assert self._store is not None
        request, stored = errand.request, errand.stored
        try:
            answer = await self._exchange(conditional(request, stored) if stored is not None else request)
        except SourceError:
            self._counts["failures"] += 1
            if stored is not None and outlives(request, stored, now=self._now(), policy=self._policy):
                return self._outlived(stored)
            raise
        match conclude(request, stored, answer, now=self._now(), policy=self._policy):
            case Keep(kept):
                await self._store.put(errand.key, kept)
            case Confirmed(fresh, kept):
                await (self._store.put(errand.key, fresh, same_body=True) if kept else self._store.remove(errand.key))
                return self._land_on(errand, respond(fresh, fresh.initial_age), "revalidated")
            case Outlived():
                assert stored is not None
                self._counts["failures"] += 1
                return self._outlived(stored)
            case Replaced():
                await self._store.remove(errand.key)
            case Passed():
                pass
            case Again():
                await self._store.remove(errand.key)
                return await self._ask(replace(errand, stored=None))
            case conclusion:
                assert_never(conclusion)
        return self._land_on(errand, answer, "misses")

    def _land_on(self, errand: _Errand, answer: HttpResponse, count: _Count) -> _Landing:
        return _Landing(answer, count, shareable(errand.request, answer, self._policy))

    def _outlived(self, stored: Stored) -> _Landing:
        return _Landing(respond(stored, age_of(stored, self._now())), "stale", shared=True)

    def _landed(self, landing: _Landing) -> HttpResponse:
        return self._counted(landing.count, landing.answer)

    async def _pass(self, request: HttpRequest, namespace: str) -> HttpResponse:
        """Send a request that the cache has no part in, but that it may have to forget something after."""
        self._counts["bypassed"] += 1
        answer = await self._exchange(request)
        if self._store is not None:
            for resource in voided(namespace, request, answer, self._policy):
                await self._store.remove(resource)
        return answer

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        answer = await self._send(request)
        return dated(answer, self._wall().timestamp())

    def _counted(self, count: _Count, answer: HttpResponse) -> HttpResponse:
        self._counts[count] += 1
        return answer

    def _now(self) -> float:
        """Seconds since 1970 as it was at the start, by the monotonic clock from then on."""
        return self._epoch + trio.current_time()
