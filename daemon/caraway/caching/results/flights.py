"""Executions under way that equal queries wait for, instead of running as well."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TypeAlias

import trio

from caraway.caching.results.body import Body
from caraway.core.results_cache import concerns_all
from caraway.errors import QueryError, QueryFailure
from caraway.model import Generation

PATIENCE = 0.25
"""Seconds that a leader may take for a piece of the answer that others wait for."""


@dataclass(frozen=True, slots=True)
class Landed:
    """The whole answer."""

    body: Body


@dataclass(frozen=True, slots=True)
class Failed:
    """Every equal query would fail so."""

    message: str
    failure: QueryFailure


class Call(Enum):
    """What those who waited in vain do."""

    AGAIN = "again"  # look anew: it is known better what the query is, or nobody runs it any more
    ALONE = "alone"  # run by themselves: the answer can't be shared


End: TypeAlias = Landed | Failed | Call


class Flight:
    """One execution; `noted` is what tables held before it was planned, so that nobody joins who knows of more."""

    def __init__(self, noted: Mapping[str, Generation | None]) -> None:
        self.noted = noted
        self.keys: tuple[bytes, ...] = ()
        self.end: End | None = None
        self.done = trio.Event()
        self.begun = trio.Event()
        """Its answer is being given to the leader; set at the end, too."""
        self.given_at = inf
        """When a piece was given that the leader has not come back from; inf: none."""

    def __repr__(self) -> str:
        return f"<Flight of {len(self.noted)} tables, {self.end}>"


class Flights:
    """Those under way, each by all keys that it is known to have."""

    def __init__(self, generation: Callable[[str], Generation | None]) -> None:
        self._generation = generation
        self._flights: dict[bytes, Flight] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._flights

    def joinable(self, key: bytes) -> Flight | None:
        """The one under way for this key, unless a table has changed since it began."""
        flight = self._flights.get(key)
        if flight and all(self._generation(table) == was for table, was in flight.noted.items()):
            return flight
        return None

    @contextmanager
    def led(self, flight: Flight, key: bytes) -> Iterator[None]:
        """Let others find it while the context lasts; whoever still waits at its end looks anew."""
        self.known_as(flight, key)
        try:
            yield
        finally:
            self.finish(flight, Call.AGAIN)

    def known_as(self, flight: Flight, key: bytes) -> None:
        """Let it be found by a further key, in place of one that can't be joined any more."""
        flight.keys += (key,)
        self._flights[key] = flight

    def given(self, flight: Flight, moment: float) -> None:
        """See Flight.given_at."""
        flight.given_at = moment
        flight.begun.set()

    async def wait_end(self, flight: Flight) -> End:
        """How it ends. One whose leader takes the answer too slowly ends here for the others, who look anew."""
        await flight.begun.wait()
        while flight.end is None:
            with trio.move_on_after(PATIENCE):
                await flight.done.wait()
            if trio.current_time() >= flight.given_at + PATIENCE:
                self.finish(flight, Call.AGAIN)
        return flight.end

    def finish(self, flight: Flight, end: End) -> None:
        """Tell those who wait how it ended, the first end being the one that counts; nobody joins any more."""
        if flight.end is None:
            flight.end = end
            flight.begun.set()
            flight.done.set()
        for key in flight.keys:
            if self._flights.get(key) is flight:
                del self._flights[key]


def failed(error: QueryError) -> End:
    """What the failure of one means for those who wait."""
    return Failed(error.message, error.failure) if concerns_all(error.failure) else Call.AGAIN
