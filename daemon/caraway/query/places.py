"""Places to run in, for as many queries as may run at once: lent while a query waits for what others bring it."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import NoReturn, TypeAlias

import trio

from caraway.core import admission
from caraway.core.admission import Limits, Queue, Ticket
from caraway.errors import QueryError, QueryFailure

Elsewhere: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
"""Makes the context in which a query waits for others: its place may be lent meanwhile, and is had again at the end."""

MOMENT = 0.05
"""Seconds that a query keeps its place while it waits for its tables: most are there at once."""


class Places:
    """Anybody takes one; `run` lends those whose queries wait elsewhere."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queue = Queue()
        self._granted: dict[int, trio.Event] = {}
        self._tickets = itertools.count(1)
        self._elsewhere: dict[int, float] = {}
        self._left = trio.Event()

    def __repr__(self) -> str:
        queue = self._queue
        return f"running={len(queue.running)} waiting={len(queue.waiting)} paused={len(queue.paused)}"

    async def run(self) -> NoReturn:
        """Give the places of queries that are elsewhere for more than a moment to others, until cancelled."""
        while True:
            await self._left.wait()
            self._left = trio.Event()
            while self._elsewhere:
                await trio.sleep(MOMENT)
                self._lend(trio.current_time() - MOMENT)

    @asynccontextmanager
    async def taken(self, principal: str, *, alone: bool) -> AsyncIterator[Elsewhere]:
        """Wait for a place and have it until the context ends; QueryError OVERLOADED."""
        ticket = Ticket(next(self._tickets), principal, alone)
        queue = admission.arrive(self._queue, ticket, self._limits)
        if queue is None:
            raise self._full()
        self._queue, self._granted[ticket.id] = queue, trio.Event()
        self._grant()
        try:
            if not self._granted[ticket.id].is_set():
                await self._granted[ticket.id].wait()
            yield partial(self._away, ticket.id)
        finally:
            del self._granted[ticket.id]
            self._queue = admission.leave(self._queue, ticket.id)
            self._grant()

    @asynccontextmanager
    async def _away(self, ticket_id: int) -> AsyncIterator[None]:
        self._elsewhere[ticket_id] = trio.current_time()
        self._left.set()
        try:
            yield
        finally:
            self._elsewhere.pop(ticket_id, None)
            self._queue = admission.resume(self._queue, ticket_id)
            self._grant()
        await self._granted[ticket_id].wait()

    def _lend(self, before: float) -> None:
        """The places of those who left before a moment."""
        for ticket_id in [each for each, since in self._elsewhere.items() if since <= before]:
            queue = admission.pause(self._queue, ticket_id, self._limits)
            if queue is not self._queue:
                self._queue, self._granted[ticket_id] = queue, trio.Event()
                del self._elsewhere[ticket_id]
        self._grant()

    def _grant(self) -> None:
        self._queue, tickets = admission.grant(self._queue, self._limits)
        for ticket in tickets:
            self._granted[ticket.id].set()

    def _full(self) -> QueryError:
        return QueryError(
            f"{len(self._queue.waiting)} queries wait already (runtime.query.max_concurrent_queries is "
            f"{self._limits.running}). Try again later.",
            QueryFailure.OVERLOADED,
        )
