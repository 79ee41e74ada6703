"""Fetches under way, one a key: whoever wants the same answer meanwhile waits for it, and takes no part in its end.

board ──▶ Flight ──fetch──▶ keep ──▶ landed: Kept | Spooled | Failed | Lost
            └─nobody waits any more─▶ cancelled
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import pyarrow as pa
import trio

from caraway.core.row_index import Entry
from caraway.dataset.caching.aside import Aside
from caraway.errors import QueryError, QueryFailure, SourceError
from caraway.model import Request

FETCHES = 64
"""Fetches of a dataset that run at a time; their answers are in memory until they are stored."""


@dataclass(frozen=True, slots=True)
class Order:
    """The answer that is wanted; one that is not `kept` passes the store by, one `anew` every other cache too."""

    key: str
    namespace: str
    request: Request
    kept: bool = True
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Brought:
    """What the source gave, as it would be stored; `at` is when (aware UTC)."""

    at: datetime
    rows: pa.RecordBatch
    digest: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows are stored, or there are none."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Spooled:
    """The rows could not be stored, or are not to be; they are in a file while somebody reads them."""

    entry: Entry
    aside: Aside


@dataclass(frozen=True, slots=True)
class Failed:
    """The source did not deliver."""

    error: SourceError


@dataclass(frozen=True, slots=True)
class Lost:
    """It did, and there is nowhere to keep it; or all ends."""

    error: QueryError


Outcome: TypeAlias = Kept | Spooled | Failed | Lost
Fetch: TypeAlias = Callable[[Order], Awaitable[Brought | Failed | Lost]]
Keep: TypeAlias = Callable[[Order, Brought], Awaitable[Outcome]]


@dataclass(slots=True, eq=False)
class Flight:
    """`waiting` are those who hold it, or what it brought. One that was sent has `landed` to be called at its end."""

    order: Order
    landed: Callable[[], None] | None = None
    waiting: int = 0
    fetched: bool = False
    outcome: Outcome | None = None
    done: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Flights:
    """Anybody boards; `run` is the task in which all of them fly."""

    def __init__(self, dataset: str, fetch: Fetch, keep: Keep) -> None:
        self.dataset = dataset
        self._fetch = fetch
        self._keep = keep
        self._flights: dict[str, Flight] = {}
        self._ordered: deque[Flight] = deque()
        self._posted = trio.Event()
        self._permits = trio.CapacityLimiter(FETCHES)
        self._open = False

    def __repr__(self) -> str:
        return f"<Flights of {self.dataset}: {len(self._flights)}, {self._permits.borrowed_tokens} fetch>"

    @property
    def is_open(self) -> bool:
        """Whether one can board."""
        return self._open

    def open(self) -> None:
        """Take orders from now on; `run` begins in the same step."""
        self._open = True

    def find(self, key: str) -> Flight | None:
        """The one that is under way."""
        return self._flights.get(key)

    def board(self, order: Order) -> Flight:
        """Wait for the answer, which another may have asked for before; to be left. QueryError UNAVAILABLE."""
        flight = self._flights.get(order.key) or self._begin(Flight(order))
        flight.waiting += 1
        return flight

    def send(self, order: Order, landed: Callable[[], None]) -> None:
        """Fetch it though nobody waits; `landed` is called at the end. There is no flight of this key now."""
        self._begin(Flight(order, landed))

    def leave(self, flight: Flight) -> None:
        """Wait for it no longer, or read what it brought no longer."""
        flight.waiting -= 1
        if flight.waiting == 0 and flight.landed is None and not flight.fetched:
            flight.scope.cancel()
            self._forget(flight)
        _discard_unread(flight)

    async def run(self) -> None:
        """Fly until cancelled; those who wait then get `Lost`."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    await self._posted.wait()
                    self._posted = trio.Event()
                    while self._ordered:
                        nursery.start_soon(self._fly, self._ordered.popleft())
        finally:
            self._open = False
            self._ordered.clear()
            for flight in list(self._flights.values()):
                self._land(flight, Lost(self._stopped()))

    def _begin(self, flight: Flight) -> Flight:
        if not self._open:
            raise self._stopped()
        self._flights[flight.order.key] = flight
        self._ordered.append(flight)
        self._posted.set()
        return flight

    async def _fly(self, flight: Flight) -> None:
        async with self._permits:
            answer: Brought | Failed | Lost | None = None
            with flight.scope:
                answer = await self._fetch(flight.order)
            if answer is None or flight.scope.cancel_called:  # nobody waits
                return
            flight.fetched = True
            outcome = await self._keep(flight.order, answer) if isinstance(answer, Brought) else answer
            self._land(flight, outcome)

    def _land(self, flight: Flight, outcome: Outcome) -> None:
        self._forget(flight)
        flight.outcome = outcome
        flight.done.set()
        if flight.landed is not None:
            flight.landed()
        _discard_unread(flight)

    def _forget(self, flight: Flight) -> None:
        if self._flights.get(flight.order.key) is flight:
            del self._flights[flight.order.key]

    def _stopped(self) -> QueryError:
        message = f"Dataset {self.dataset} does not fetch now; its status tells why. Try again."
        return QueryError(message, QueryFailure.UNAVAILABLE)


def _discard_unread(flight: Flight) -> None:
    if flight.waiting == 0 and isinstance(flight.outcome, Spooled):
        flight.outcome.aside.discard()
