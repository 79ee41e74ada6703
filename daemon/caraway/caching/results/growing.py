"""Answers on their way: held while they are given, and kept once they are complete, unless that is too much."""

from collections import deque
from collections.abc import AsyncIterator
from math import inf

import trio

from caraway.caching.results.body import Body
from caraway.caching.results.chunks import Chunk, joined, owned
from caraway.caching.results.collect import SMALL, Collection
from caraway.caching.results.flights import Call, End, Flights, Landed, failed
from caraway.caching.results.run import Run
from caraway.caching.results.shelf import Shelf
from caraway.core.results_cache import Outcome
from caraway.errors import QueryError
from caraway.model import CacheReading, CacheReport, FlightMessage
from caraway.ports import QueryResult


class Growing:
    """A `ports.QueryResult` that comes from an engine; `whole` first.

    A small answer is gathered before it is given. Of a larger one nothing waits: each chunk is given as it comes. (To
    gather 8 MiB of an answer took 20 ms until its first byte left, and a tenth of a scan's time.)
    """

    def __init__(
        self, run: Run, result: QueryResult, report: CacheReport, held: Collection, *, shelf: Shelf, flights: Flights
    ) -> None:
        self._run = run
        self._result = result
        self._rest = aiter(result)
        self._held: Collection | None = held
        self._begun = deque[Chunk]()
        self._shelf = shelf
        self._flights = flights
        self._readings, self._read_at = result.readings, trio.current_time()
        self.report = report

    @property
    def schema(self) -> FlightMessage:
        return self._result.schema

    @property
    def rows(self) -> int:
        return self._result.rows

    @property
    def readings(self) -> tuple[CacheReading, ...]:
        return self._result.readings

    def close(self) -> None:
        """Hold nothing any more."""
        if self._held is not None:
            self._held.close()
            self._held = None

    async def whole(self) -> Body | None:
        """The answer, kept if it may be, where it is small; None for one that is to be taken from here."""
        async for chunk in self._rest:
            self._begun.append(chunk)
            self._hold(chunk)
            if self._held is None or self._held.size > SMALL:
                return None
        return await self._complete()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        self._given_at(inf)
        chunk = self._begun.popleft() if self._begun else await self._next()
        self._given_at(trio.current_time())
        return chunk

    async def _next(self) -> Chunk:
        try:
            chunk = await anext(self._rest)
        except StopAsyncIteration:
            await self._complete()
            raise
        except QueryError as error:
            self._end(failed(error))
            raise
        self._hold(chunk)
        return chunk

    def _hold(self, chunk: Chunk) -> None:
        if self._held is not None and not self._held.add(chunk):
            self.close()
            self._run.outcome = Outcome.COLLECT_FAILED
            self._end(Call.ALONE)

    async def _complete(self) -> Body | None:
        if self._held is None:
            return None
        chunks = joined(map(owned, self._held.chunks))
        self.close()
        body = Body(self.schema, chunks, self.rows, self._readings, self._read_at)
        try:
            self._run.outcome = await self._shelf.keep(self._run, body)
        finally:
            self._end(Landed(body))
        return body

    def _end(self, end: End) -> None:
        if self._run.flight is not None:
            self._flights.finish(self._run.flight, end)

    def _given_at(self, moment: float) -> None:
        if self._run.flight is not None:
            self._flights.given(self._run.flight, moment)
