"""Stale answers: served within their window, computed anew in the background, as they were asked."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from caraway.errors import QueryError, QueryFailure
from caraway.model import CacheReading, CacheStatus, Directives, Principal, ReadingStatus, ResultFormat
from support.cached import cached, get, running
from support.fake_planner import FakePlanner, FakeTables, Script, ask, generation

HIT, MISS, STALE = CacheStatus.HIT, CacheStatus.MISS, CacheStatus.STALE
WINDOW = {"item_ttl": 10.0, "stale_while_revalidate_ttl": 30.0}


def outcomes(cache):
    return {name: count for name, count in cache.statistics().swr_revalidations.items() if count}


@pytest.mark.parametrize("kind", ["plan", "sql"])
async def test_by_age(autojump_clock, kind):
    engine = FakePlanner(a=Script(running=1.0))
    cache = cached(engine, **WINDOW, cache_key_type=kind)
    async with running(cache):
        await get(cache, ask("a"))
        await trio.sleep(10.0)
        assert await get(cache, ask("a")) == (HIT, b"a 1")
        await trio.sleep(1.0)
        assert await get(cache, ask("a")) == (STALE, b"a 1")
        await trio.sleep(0.5)
        assert await get(cache, ask("a")) == (STALE, b"a 1")
        await trio.sleep(0.5)
        await wait_all_tasks_blocked()
        assert await get(cache, ask("a")) == (HIT, b"a 2")
        assert len(engine.executions) == 2
        assert outcomes(cache) == {"stored": 1}
        assert cache.statistics().stale_swr_count == 1
        assert cache.statistics().swr_background_query_count == 1
        assert cache.statistics().hits == 4


@pytest.mark.parametrize(("chunks", "outcome"), [(3, "stored"), (9, "collect_failed")])
async def test_a_larger_answer_is_taken_to_its_end(autojump_clock, chunks, outcome):
    engine = FakePlanner(a=Script([bytes(2**20)] * 3, streaming=1.0))
    cache = cached(engine, **WINDOW)
    async with running(cache):
        await get(cache, ask("a"))
        engine.scripts["a"].chunks = [b"x" * 2**20] * chunks
        await trio.sleep(11.0)
        assert await get(cache, ask("a")) == (STALE, bytes(3 * 2**20))
        await trio.sleep(11.0)
        assert outcomes(cache) == {outcome: 1}
        assert await get(cache, ask("a")) == ((HIT, b"x" * 3 * 2**20) if chunks == 3 else (STALE, bytes(3 * 2**20)))
        assert engine.running == 0


async def test_the_end_of_the_window(autojump_clock):
    engine = FakePlanner()
    cache = cached(engine, **WINDOW)
    for past, status in ((0.0, STALE), (1e-6, MISS)):
        await get(cache, ask("a", directives=Directives(no_cache=True)))
        await trio.sleep(40.0 + past)
        assert (await get(cache, ask("a")))[0] is status
    assert cache.statistics().stale_swr_count == 1  # nothing was there to run it
    assert cache.statistics().evictions["expired"] == 1


async def test_by_tables(autojump_clock):
    tables = FakeTables(t=generation())
    engine = FakePlanner(a=Script())
    cache = cached(engine, tables, item_ttl=100.0, stale_while_revalidate_ttl=30.0)
    async with running(cache):
        await get(cache, ask("a"))
        await trio.sleep(5.0)
        engine.scripts["a"].error = QueryError("no", QueryFailure.SOURCE)
        tables.change("t")
        await trio.sleep(10.0)
        tables.change("t")  # the window is that of the first change that was seen, or it would never end
        await trio.sleep(10.0)
        assert await get(cache, ask("a")) == (STALE, b"a 1")
        await trio.sleep(10.0)
        tables.change("t")
        assert await get(cache, ask("a")) == (STALE, b"a 1")
        await trio.sleep(10.0)
        assert await get(cache, ask("a")) == (STALE, b"a 1")
        await trio.sleep(1e-6)
        with pytest.raises(QueryError, match="no"):
            await get(cache, ask("a"))
        assert outcomes(cache) == {"query_failed": 3}
        assert cache.statistics().invalidation_stale_hits == 3
        assert cache.statistics().stale_rejections["window_expired"] == 1
        assert cache.statistics().evictions["invalidated"] == 1


async def test_what_is_asked_anew_is_what_was_asked(autojump_clock):
    engine = FakePlanner()
    cache = cached(engine, **WINDOW)
    query = ask(
        "a",
        parameters={"x": (1, "two")},
        principal=Principal("apikey:1"),
        format=ResultFormat.CSV,
        compression="zstd",
        timeout=7.0,
        protocol="http",
        directives=Directives(max_stale=99.0),
    )
    async with running(cache):
        await get(cache, query)
        await trio.sleep(11.0)
        assert (await get(cache, query))[0] is STALE
        await wait_all_tasks_blocked()
        again = engine.executions[1]
        assert (again.sql, again.parameters, again.principal) == (query.sql, query.parameters, query.principal)
        assert (again.format, again.compression, again.timeout) == (query.format, query.compression, query.timeout)
        assert again.protocol == "internal"
        assert (await get(cache, query))[0] is HIT


async def test_a_client_s_key_keeps_the_query_that_it_stands_for(autojump_clock):
    engine = FakePlanner()
    cache = cached(engine, **WINDOW)
    async with running(cache):
        await get(cache, ask("a", cache_key="mine"))
        await trio.sleep(11.0)
        assert await get(cache, ask("b", cache_key="mine")) == (STALE, b"a 1")
        await wait_all_tasks_blocked()
        assert await get(cache, ask("b", cache_key="mine")) == (HIT, b"a 2")


async def test_a_revalidated_answer_still_ends_with_its_tables(autojump_clock):
    tables = FakeTables(t=generation())
    cache = cached(FakePlanner(), tables, **WINDOW)
    async with running(cache):
        await get(cache, ask("a"))
        await trio.sleep(11.0)
        await get(cache, ask("a"))
        await wait_all_tasks_blocked()
        assert (await get(cache, ask("a")))[0] is HIT
        tables.change("t")
        assert (await get(cache, ask("a")))[0] is STALE


async def test_a_bounded_number_at_a_time(autojump_clock):
    engine = FakePlanner()
    cache = cached(engine, **WINDOW)
    texts = [f"text {number}" for number in range(50)]
    async with running(cache):
        for text in texts:
            await get(cache, ask(text))
            engine.scripts[text] = Script(running=5.0)
        await trio.sleep(11.0)
        engine.most_running = 0
        for _ in range(3):
            for text in texts:
                assert (await get(cache, ask(text)))[0] is STALE
            await trio.sleep(1.0)
        assert engine.most_running == 8
        assert cache.statistics().stale_swr_count == 3 * 50 - 8
        await trio.sleep(5.0)
        assert outcomes(cache) == {"stored": 8}
        assert [(await get(cache, ask(text)))[0] for text in texts].count(HIT) == 8


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (Script(error=QueryError("no", QueryFailure.SOURCE)), "query_failed"),
        (Script(error=QueryError("no", QueryFailure.CANCELLED)), "query_failed"),
        (Script([b"x", QueryError("late", QueryFailure.RESOURCES)]), "query_failed"),
        (Script([bytes(9 * 1024**2)]), "collect_failed"),
        (Script(readings=(CacheReading("t", ReadingStatus.STALE_IF_ERROR),)), "transient_errors"),
        (Script(cacheable=False), "unboundable"),
        (Script(volatile=True), "unboundable"),
    ],
)
async def test_what_can_not_be_had_leaves_what_there_is(autojump_clock, script, outcome):
    engine = FakePlanner()
    cache = cached(engine, **WINDOW)
    async with running(cache):
        await get(cache, ask("a", cache_key=None))
        await trio.sleep(11.0)
        engine.scripts["a"] = script
        assert await get(cache, ask("a")) == (STALE, b"a 1")
        await wait_all_tasks_blocked()
        assert outcomes(cache) == {outcome: 1}
        assert cache.statistics().items_count == 1
        assert engine.running == 0
        assert not cache._executions.flights._flights
        await trio.sleep(29.5)
        assert cache.statistics().items_count == 0


async def test_a_change_while_it_is_computed(autojump_clock):
    tables = FakeTables(t=generation())
    engine = FakePlanner()
    cache = cached(engine, tables, **WINDOW)
    async with running(cache):
        await get(cache, ask("a"))
        await trio.sleep(11.0)
        engine.scripts["a"] = Script(running=2.0)
        await get(cache, ask("a"))
        await trio.sleep(1.0)
        tables.change("t")
        await trio.sleep(2.0)
        assert outcomes(cache) == {"invalidated_mid_flight": 1}
        assert await get(cache, ask("a")) == (STALE, b"a 1")
        await trio.sleep(3.0)
        assert await get(cache, ask("a")) == (HIT, b"a 3")


async def test_a_miss_waits_for_the_revalidation_that_runs(autojump_clock):
    engine = FakePlanner()
    cache = cached(engine, **WINDOW)
    async with running(cache):
        await get(cache, ask("a"))
        await trio.sleep(39.5)
        engine.scripts["a"] = Script(running=5.0)
        assert (await get(cache, ask("a")))[0] is STALE
        await trio.sleep(1.0)
        assert await get(cache, ask("a")) == (MISS, b"a 2")
        assert len(engine.executions) == 2


async def test_a_catalog_that_moves_on(autojump_clock):
    tables = FakeTables(t=generation())
    engine = FakePlanner(a=Script(planning=1.0))
    cache = cached(engine, tables, **WINDOW)
    async with running(cache):
        await get(cache, ask("a"))
        await trio.sleep(11.0)
        await get(cache, ask("a"))
        await wait_all_tasks_blocked()
        tables.republish()
        await trio.sleep(1.5)
        assert outcomes(cache) == {"stored": 1}
        assert (await get(cache, ask("a")))[0] is MISS
        await trio.sleep(41.0)
        assert cache.statistics().items_count == 0


async def test_it_stops_and_starts_again(autojump_clock):
    engine = FakePlanner()
    cache = cached(engine, **WINDOW)
    async with running(cache):
        await get(cache, ask("a"))
        await trio.sleep(11.0)
        engine.scripts["a"] = Script(running=5.0)
        assert (await get(cache, ask("a")))[0] is STALE
        await trio.sleep(1.0)
        assert engine.running == 1
    assert engine.running == 0
    assert (await get(cache, ask("a")))[0] is STALE
    async with running(cache):
        assert (await get(cache, ask("a")))[0] is STALE
        await trio.sleep(5.5)
        assert (await get(cache, ask("a")))[0] is HIT
