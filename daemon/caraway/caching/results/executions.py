"""Executions whose answers may be kept and shared."""

from contextlib import AsyncExitStack

import trio

from caraway.caching.results import keys
from caraway.caching.results.body import Passing, Replay
from caraway.caching.results.collect import Collecting, Collection
from caraway.caching.results.flights import Call, End, Flight, Flights, failed
from caraway.caching.results.growing import Growing
from caraway.caching.results.memo import Known, Memo
from caraway.caching.results.reports import Reports
from caraway.caching.results.run import Asked, PlanKnownError, Run
from caraway.caching.results.shelf import Shelf
from caraway.core.results_cache import Hit, Stale
from caraway.errors import QueryError
from caraway.model import CacheStatus, PlanFacts
from caraway.ports import Planned, PlanningEngine, QueryResult, Tables


class Executions:
    """Runs queries on an engine; what it learns of them goes to the memo, the shelf and those who wait."""

    def __init__(
        self,
        engine: PlanningEngine,
        tables: Tables,
        shelf: Shelf,
        reports: Reports,
        *,
        memo: Memo,
        collecting: Collecting,
    ) -> None:
        self.flights = Flights(tables.generation)
        self._engine = engine
        self._tables = tables
        self._shelf = shelf
        self._reports = reports
        self._memo = memo
        self._collecting = collecting

    def note(self, asked: Asked) -> Run:
        """What the tables hold now, which is before the query is planned."""
        tables = asked.known.tables if asked.known else [info.name for info in self._tables.catalog.value.tables]
        return Run(asked, {table: self._tables.generation(table) for table in tables}, trio.current_time())

    async def lead(self, run: Run, key: bytes, stack: AsyncExitStack) -> QueryResult | None:
        """Run a query that equal ones may wait for until `stack` ends; as `run`."""
        run.flight = flight = Flight(run.noted)
        stack.enter_context(self.flights.led(flight, key))
        try:
            return await self.run(run, CacheStatus.MISS, stack)
        except QueryError as error:
            self.flights.finish(flight, failed(error))
            raise

    async def run(self, run: Run, status: CacheStatus, stack: AsyncExitStack) -> QueryResult | None:
        """The answer, kept if it can be; what it still holds of the engine is left to `stack`, which is its own.

        None where planning told enough: an equal query is kept or under way, or nothing was to be run.
        """
        try:
            result = await stack.enter_async_context(self._engine.execute(run.asked.in_time(), self._told(run)))
        except PlanKnownError:
            self._finish(run, Call.AGAIN)
            return None
        told = self._reports.of(run.asked.query)
        if run.tables is None or run.asked.passes_by:
            self._finish(run, Call.ALONE)
            return Passing(result, told[None])
        held = Collection(self._collecting)
        growing = Growing(run, result, told[status], held, shelf=self._shelf, flights=self.flights)
        stack.callback(growing.close)
        body = await growing.whole()
        return growing if body is None else Replay(body.served(body.chunks, told[status], body.readings))

    async def pass_by(self, asked: Asked, status: CacheStatus | None, stack: AsyncExitStack) -> QueryResult:
        """The answer as it comes, for nobody else."""
        result = await stack.enter_async_context(self._engine.execute(asked.in_time(), None))
        return Passing(result, self._reports.of(asked.query)[status])

    def _finish(self, run: Run, end: End) -> None:
        if run.flight is not None:
            self.flights.finish(run.flight, end)

    # --- what planning tells -----------------------------------------------------------------------------------------

    def _told(self, run: Run) -> Planned:
        """What the engine calls once the query is planned; a worker that dies makes it plan again."""

        def planned(facts: PlanFacts) -> None:
            self._learn(run, facts)
            if run.asked.wants_no_run:
                raise PlanKnownError
            if run.asked.passes_by:
                self._finish(run, Call.ALONE)
            elif run.flight is not None:
                self._find_others(run, run.flight)

        return planned

    def _learn(self, run: Run, facts: PlanFacts) -> None:
        asked = run.asked
        plan = None if facts.volatile else keys.plan_key(asked.query, asked.version, facts.key)
        run.tables, asked.known = facts.tables, Known(facts.tables, facts.cacheable, plan)
        self._memo.put(asked.text, asked.known)

    def _find_others(self, run: Run, flight: Flight) -> None:
        key = run.asked.key
        assert key is not None
        flight.noted = {table: was for table, was in flight.noted.items() if table in (run.tables or ())}
        if key in flight.keys:
            return
        _, verdict = self._shelf.look_up(key, run.asked.query.directives)
        if isinstance(verdict, Hit | Stale) or self.flights.joinable(key):
            raise PlanKnownError
        self.flights.known_as(flight, key)
