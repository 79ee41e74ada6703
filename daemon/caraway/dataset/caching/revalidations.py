"""Entries that are fetched anew though nobody waits for them: at most so many at a time, whoever asks for it."""

from collections.abc import Callable, Iterable
from functools import partial

import trio

from caraway.dataset.caching.failures import Failures
from caraway.dataset.caching.flights import Failed, Flights, Lost, Order, Outcome
from caraway.dataset.caching.shelf import Counts

AT_ONCE = 10
GIVEN_UP = 10
"""Failures in a row after which a refresh leaves the rest to the next one."""


class Revalidations:
    """Stale entries get one of the places or go without; a refresh waits for places."""

    def __init__(self, flights: Flights, failures: Failures, counts: Counts) -> None:
        self._flights = flights
        self._failures = failures
        self._counts = counts
        self._places = trio.CapacityLimiter(AT_ONCE)

    def __repr__(self) -> str:
        return f"Revalidations({self.running} of {AT_ONCE})"

    @property
    def running(self) -> int:
        return self._places.borrowed_tokens

    def start(self, order: Order) -> None:
        """Fetch a stale entry anew, unless that is under way, failed just now, or all places are taken."""
        if not self._flights.is_open or self._flights.find(order.key) or self._failures.recall(order.key):
            return
        place = object()
        try:
            self._places.acquire_on_behalf_of_nowait(place)
        except trio.WouldBlock:
            self._counts.skipped += 1
            return
        self._counts.revalidations += 1
        self._flights.send(order, partial(self._places.release_on_behalf_of, place))

    async def refresh(self, orders: Iterable[Order], progress: Callable[[Outcome], None]) -> int:
        """Fetch all of these; how many were. It ends early where the source keeps failing."""
        fetched = failed = 0

        async def one(order: Order, place: object) -> None:
            nonlocal fetched, failed
            try:
                outcome = await self._outcome(order)
            finally:
                self._places.release_on_behalf_of(place)
            progress(outcome)
            good = not isinstance(outcome, Failed | Lost)
            fetched, failed = fetched + good, 0 if good else failed + 1

        async with trio.open_nursery() as nursery:
            for order in orders:
                place = object()
                await self._places.acquire_on_behalf_of(place)
                if failed >= GIVEN_UP:
                    self._places.release_on_behalf_of(place)
                    break
                self._counts.revalidations += 1
                nursery.start_soon(one, order, place)
        return fetched

    async def _outcome(self, order: Order) -> Outcome:
        flight = self._flights.board(order)
        try:
            await flight.done.wait()
        finally:
            self._flights.leave(flight)
        assert flight.outcome is not None
        return flight.outcome
