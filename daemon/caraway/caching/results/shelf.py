"""What is kept, judged by its age and by its tables; what may be kept; what is packed."""

from dataclasses import replace

import trio

from caraway import blocking
from caraway.caching.results.body import Body, Served
from caraway.caching.results.chunks import Chunks, Packed, pack, unpack, weight
from caraway.caching.results.entry import Entry
from caraway.caching.results.reports import Reports
from caraway.caching.results.run import Run
from caraway.caching.results.store import Store
from caraway.core.results_cache import (
    Noted,
    Outcome,
    Policy,
    Reason,
    Standing,
    Verdict,
    first_change,
    is_over,
    judge,
    notes,
    objection,
)
from caraway.model import CacheStatus, Directives, Query
from caraway.ports import Tables

INLINE = 16 * 1024
"""Bytes that are packed and unpacked at once; more of them take a thread."""
THREADS = 2
SWEEP = 0.25
"""Seconds that an answer may stay in memory after its time; it is not served in them."""


class Shelf:
    """Entries under the rules of `core/results_cache.py`."""

    def __init__(self, store: Store, policy: Policy, tables: Tables, reports: Reports, *, packs: bool) -> None:
        self._reports = reports
        self._store = store
        self._policy = policy
        self._tables = tables
        self._packs = packs
        self._threads = trio.CapacityLimiter(THREADS)

    def look_up(self, key: bytes | None, directives: Directives) -> tuple[Entry | None, Verdict]:
        """What is kept under a key, and whether it is the answer."""
        entry = self._store.get(key) if key is not None else None
        now = trio.current_time()
        if entry is None:
            return None, judge(None, now, self._policy, directives)
        self._check_tables(entry, now)
        return entry, judge(entry.standing, now, self._policy, directives)

    def used(self, key: bytes) -> None:
        """Let the eviction policy know that the key was asked for."""
        self._store.used(key)

    def give_up(self, entry: Entry, reason: Reason) -> None:
        """Forget what serves nobody any more."""
        if reason.final:
            self._store.drop(entry.key, "expired" if reason is Reason.EXPIRED else "invalidated")

    def at_once(self, entry: Entry, status: CacheStatus) -> Served | None:
        """The entry as an answer; None where it takes a thread to unpack it."""
        now = trio.current_time()
        if entry.packed is None:
            return entry.served(status, now)
        return entry.unpacked(unpack(entry.packed), status, now) if entry.packed.unpacked_size <= INLINE else None

    async def served(self, entry: Entry, status: CacheStatus) -> Served:
        """The entry as an answer."""
        if (ready := self.at_once(entry, status)) is not None:
            return ready
        assert entry.packed is not None
        chunks = await blocking.call(unpack, entry.packed, limiter=self._threads)
        return entry.unpacked(chunks, status, trio.current_time())

    def shared(self, body: Body, query: Query) -> Served:
        """What another's execution brought, as an answer to a query that missed as well."""
        report = self._reports.of(query)[CacheStatus.MISS]
        return body.served(body.chunks, report, body.readings_at(trio.current_time()))

    async def keep(self, run: Run, body: Body) -> Outcome:
        """Keep a complete answer under its key, if it may be."""
        packed = await self._packed(body.chunks) if self._packs else None
        now = trio.current_time()
        noted = notes(run.tables or (), run.noted, body.readings)
        if noted is None:
            return Outcome.INVALIDATED_MID_FLIGHT
        changed = first_change(noted, self._tables.generation, now)
        if (why_not := objection(body.readings, changed)) is not None:
            return why_not
        if packed is not None:
            body = replace(body, chunks=())
        return self._put(run, body, packed, noted=noted, now=now)

    async def sweep(self) -> None:
        """Forget what is too old, for ever."""
        while True:
            oldest = await self._store.wait_oldest()
            await trio.sleep_until(oldest.stored_at + self._policy.ttl + self._policy.stale_while_revalidate + SWEEP)
            self._store.expire(self._is_over)

    def _put(self, run: Run, body: Body, packed: Packed | None, *, noted: tuple[Noted, ...], now: float) -> Outcome:
        asked = run.asked
        assert asked.key is not None
        other = self._store.get(asked.key)
        if other is not None and other.began > run.began:
            return Outcome.PUT_FAILED
        told = self._reports.of(asked.query)
        entry = Entry(asked.key, asked.query, body, packed, noted, run.began, Standing(now), told)
        return Outcome.STORED if self._store.put(entry) else Outcome.PUT_FAILED

    def _is_over(self, standing: Standing) -> bool:
        return is_over(standing, trio.current_time(), self._policy)

    def _check_tables(self, entry: Entry, now: float) -> None:
        changed = first_change(entry.noted, self._tables.generation, now)
        if changed is not None and (entry.standing.changed_at is None or changed < entry.standing.changed_at):
            entry.standing = replace(entry.standing, changed_at=changed)

    async def _packed(self, chunks: Chunks) -> Packed | None:
        if sum(map(weight, chunks)) <= INLINE:
            return pack(chunks)
        return await blocking.call(pack, chunks, limiter=self._threads)
