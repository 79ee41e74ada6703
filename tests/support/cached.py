"""A results cache before a fake engine, asked as servers ask."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from caraway.caching.results import ResultsCache
from caraway.config.model import ResultsCacheConfig
from caraway.model import CacheStatus, Query
from support.fake_planner import FakePlanner, FakeTables, generation


def cached(engine: FakePlanner, tables: FakeTables | None = None, *, timeout=None, events=None, **config):
    emit = (lambda _: None) if events is None else events.append
    return ResultsCache(
        engine, tables or FakeTables(t=generation()), ResultsCacheConfig(**config), emit, timeout=timeout
    )


async def get(cache: ResultsCache, query: Query) -> tuple[CacheStatus | None, bytes]:
    """Status and body: of what can be served at once, else of an execution."""
    if answer := cache.peek(query):
        return answer.report.status, b"".join(answer.chunks)
    async with cache.execute(query) as result:
        return result.report.status, b"".join([chunk async for chunk in result])


@asynccontextmanager
async def running(cache: ResultsCache) -> AsyncIterator[ResultsCache]:
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        yield cache
        nursery.cancel_scope.cancel()
