"""A query on its way through the cache, and an execution of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import trio

from caraway.caching.results import keys
from caraway.caching.results.flights import End, Flight, Flights
from caraway.caching.results.memo import Known
from caraway.core.results_cache import Outcome
from caraway.errors import QueryError, QueryFailure
from caraway.events import QueryFinished
from caraway.model import Generation, Query


class PlanKnownError(Exception):
    """Ends an execution once it is planned: nothing is to be run, as what is known now will tell."""


class Asked:
    """One query, with what is known of it so far."""

    def __init__(self, query: Query, version: int, *, by_text: bool, timeout: float | None) -> None:
        """`by_text`: its key is the text (cache_key_type: sql), not the plan."""
        self.query = query
        self.version = version
        self.text = keys.text_key(query, version)
        self.known: Known | None = None
        self.rejected = False
        self._own_key = (
            keys.client_key(query, version) if query.cache_key is not None else self.text if by_text else None
        )
        self._began = trio.current_time()
        limit = query.timeout if query.timeout is not None else timeout
        self.deadline = math.inf if limit is None else self._began + limit

    @property
    def key(self) -> bytes | None:
        """Its key in the cache; None as long as only planning can tell."""
        return self._own_key or (self.known.plan_key if self.known else None)

    @property
    def wants_no_run(self) -> bool:
        """Whether it is to be answered out of the cache or not at all."""
        return self.query.directives.only_if_cached and not self.query.directives.no_cache

    @property
    def passes_by(self) -> bool:
        """Whether its plan is known to be none whose answers are kept."""
        return self.known is not None and not (self.known.cacheable and self.key)

    def finished(self, rows: int = 0, *, failure: str = "", error: str = "") -> QueryFinished:
        """What is told of a query that ends without an execution of its own."""
        query, seconds = self.query, trio.current_time() - self._began
        return QueryFinished(query.sql, query.protocol, query.principal.id, rows, seconds, failure, error)

    def in_time(self) -> Query:
        """The query with the time that is left to it."""
        if self.deadline == math.inf:
            return self.query
        return replace(self.query, timeout=max(0.0, self.deadline - trio.current_time()))

    async def follow(self, flight: Flight, flights: Flights) -> End:
        """How another's execution ends, waited for no longer than for one's own."""
        with trio.CancelScope(deadline=self.deadline):
            return await flights.wait_end(flight)
        raise QueryError(
            "The query took longer than its timeout (runtime.query.timeout), waiting for an equal one that runs.",
            QueryFailure.TIMEOUT,
        )


@dataclass(slots=True)
class Run:
    """One execution: what was noted before it, who waits for it, and what planning told of it."""

    asked: Asked
    noted: Mapping[str, Generation | None]
    began: float
    flight: Flight | None = None
    tables: tuple[str, ...] | None = None
    """None as long as it is not planned."""
    outcome: Outcome | None = None
    """None as long as nothing was tried to be kept."""
