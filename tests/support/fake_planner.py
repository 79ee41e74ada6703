"""A ports.PlanningEngine that answers by SQL text and tells of plans, and the ports.Tables under it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import trio

from caraway.errors import QueryError, QueryFailure
from caraway.latest import Latest
from caraway.model import (
    CacheReading,
    CacheReport,
    Catalog,
    FlightMessage,
    Generation,
    PlanFacts,
    Query,
    ResultFormat,
    TableInfo,
)
from caraway.ports import Planned

SCHEMA = FlightMessage(b"schema", b"")


class FakeTables:
    """`generations` by name; None is a table that can't tell."""

    def __init__(self, **generations: Generation | None) -> None:
        self.generations = generations
        self.catalog = Latest(Catalog(1, tuple(TableInfo(name, b"") for name in generations)))

    def generation(self, table: str) -> Generation | None:
        return self.generations.get(table)

    def change(self, table: str, *parts: int) -> None:
        """Move on the given parts of what a table holds, or the first."""
        was = self.generations[table]
        assert was is not None
        moved = tuple(number + (part in (parts or (0,))) for part, number in enumerate(was.parts))
        self.generations[table] = replace(was, parts=moved, changed_at=trio.current_time())

    def republish(self) -> None:
        """A catalog that differs in its version alone."""
        catalog = self.catalog.value
        self.catalog.publish(replace(catalog, version=catalog.version + 1))

    def resolve(self, scans):
        raise AssertionError("the cache reads no tables")


def generation(*parts: int, epoch: str = "e") -> Generation:
    return Generation(epoch, parts or (0,))


@dataclass
class Script:
    """How one text fares; seconds are spent before the plan is told, before the first chunk, and before each other."""

    chunks: Sequence[bytes | FlightMessage | QueryError] | None = None
    """None: the text and how many executions there were until then."""
    plan: str | None = None
    """None: the text is its own plan."""
    tables: tuple[str, ...] = ("t",)
    cacheable: bool = True
    volatile: bool = False
    told: bool = True
    """Whether the engine tells of the plan at all."""
    planning: float = 0.0
    running: float = 0.0
    streaming: float = 0.0
    error: QueryError | None = None
    rows: int = 1
    readings: tuple[CacheReading, ...] = ()


class FakePlanner:
    """`scripts` by text; `plannings` and `executions` are the queries that got so far, `running` those not yet left."""

    def __init__(self, **scripts: Script) -> None:
        self.scripts = dict(scripts)
        self.plannings: list[Query] = []
        self.executions: list[Query] = []
        self.running = 0
        self.most_running = 0
        self.planned_twice = False
        """As after the death of a worker."""

    @asynccontextmanager
    async def execute(self, query: Query, planned: Planned | None = None) -> AsyncIterator["_Result"]:
        script = self.scripts.get(query.sql) or Script()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            self.plannings.append(query)
            await _spend(script.planning, query)
            if planned is not None and script.told:
                for _ in range(1 + self.planned_twice):
                    planned(self._facts(query, script))
            self.executions.append(query)
            usual = [f"{query.sql} {len(self.executions)}".encode()]
            await _spend(script.running, query)
            if script.error is not None:
                raise script.error
            yield _Result(script, usual if script.chunks is None else script.chunks)
        finally:
            self.running -= 1

    async def plan(self, query: Query) -> FlightMessage:
        await trio.lowlevel.checkpoint()
        return SCHEMA

    async def table_schema(self, name: str) -> FlightMessage:
        await trio.lowlevel.checkpoint()
        return SCHEMA

    def _facts(self, query: Query, script: Script) -> PlanFacts:
        plan = script.plan or f"{query.sql}{query.parameters!r}"
        return PlanFacts(plan, script.tables, script.cacheable, script.volatile)


async def _spend(seconds: float, query: Query) -> None:
    limit = query.timeout if query.timeout is not None else float("inf")
    if seconds > limit:
        await trio.sleep(limit)
        raise QueryError("The query took longer than its timeout.", QueryFailure.TIMEOUT)
    await trio.sleep(seconds)


class _Result:
    def __init__(self, script: Script, chunks: Sequence[bytes | FlightMessage | QueryError]) -> None:
        self._script = script
        self._chunks = iter(chunks)
        self._first = True
        self.schema = SCHEMA
        self.rows = script.rows
        self.report = CacheReport()
        self.readings = script.readings

    def __aiter__(self) -> "_Result":
        return self

    async def __anext__(self) -> bytes | FlightMessage:
        await trio.sleep(0 if self._first else self._script.streaming)
        self._first = False
        for chunk in self._chunks:
            if isinstance(chunk, QueryError):
                raise chunk
            return chunk
        raise StopAsyncIteration


def ask(sql: str, **more: object) -> Query:
    return Query(sql, **({"format": ResultFormat.JSON} | more))
