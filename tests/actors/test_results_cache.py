"""The results cache: what is kept, for how long, for whom, and what each answer says of itself."""

import math

import pytest
import trio

from caraway.errors import QueryError, QueryFailure
from caraway.model import (
    SYSTEM,
    CacheReading,
    CacheReport,
    CacheScope,
    CacheStatus,
    Directives,
    FlightMessage,
    Principal,
    ReadingStatus,
    ResultFormat,
)
from support.cached import cached, get, running
from support.fake_planner import SCHEMA, FakePlanner, FakeTables, Script, ask, generation

HIT, MISS, STALE, BYPASS = CacheStatus.HIT, CacheStatus.MISS, CacheStatus.STALE, CacheStatus.BYPASS
ALICE, BOB = Principal("apikey:aaaaaaaaaaaaaaaa"), Principal("apikey:bbbbbbbbbbbbbbbb")
NOTHING = None, b""


# --- hits and misses -------------------------------------------------------------------------------------------------


async def test_a_second_time_nothing_runs():
    engine = FakePlanner()
    cache = cached(engine)
    assert cache.peek(ask("a")) is None
    assert await get(cache, ask("a")) == (MISS, b"a 1")
    assert await get(cache, ask("a")) == (HIT, b"a 1")
    assert len(engine.plannings) == 1
    assert cache.statistics().hits == cache.statistics().misses == 1
    assert cache.statistics().requests == 2


async def test_execute_alone_serves_hits_too():
    engine = FakePlanner()
    cache = cached(engine)
    for status in (MISS, HIT, HIT):
        async with cache.execute(ask("a")) as result:
            assert result.report.status is status
            assert result.schema is SCHEMA
            assert [chunk async for chunk in result] == [b"a 1"]
            assert result.rows == 1
    assert len(engine.plannings) == 1


async def test_an_answer_of_nothing_is_kept():
    engine = FakePlanner(a=Script([], rows=0))
    cache = cached(engine)
    assert await get(cache, ask("a")) == (MISS, b"")
    assert await get(cache, ask("a")) == (HIT, b"")


async def test_text_is_served_in_one_piece_and_messages_as_they_came():
    messages = [FlightMessage(b"h1", memoryview(bytearray(b"xxbodyxx"))[2:6]), FlightMessage(b"h2", b"")]
    engine = FakePlanner(a=Script([b"[1,", b"2]"]), b=Script(messages))
    cache = cached(engine)
    await get(cache, ask("a"))
    assert tuple(cache.peek(ask("a")).chunks) == (b"[1,2]",)
    query = ask("b", format=ResultFormat.IPC)
    async with cache.execute(query) as result:
        assert [chunk async for chunk in result] == messages
    kept = cache.peek(query).chunks
    assert tuple(kept) == (FlightMessage(b"h1", b"body"), FlightMessage(b"h2", b""))
    assert all(type(message.body) is bytes for message in kept)


async def test_a_hit_is_one_object_made_once():
    cache = cached(FakePlanner())
    await get(cache, ask("a"))
    assert cache.peek(ask("a")) is cache.peek(ask("a"))


async def test_disabled_it_passes_through():
    engine = FakePlanner()
    cache = cached(engine, enabled=False)
    for number in (1, 2):
        assert cache.peek(ask("a")) is None
        assert await get(cache, ask("a", directives=Directives(only_if_cached=True))) == (None, b"a %d" % number)
    assert cache.statistics().items_count == cache.statistics().max_size_bytes == 0


async def test_schemas_are_the_engine_s():
    cache = cached(FakePlanner())
    assert await cache.plan(ask("a")) is SCHEMA
    assert await cache.table_schema("t") is SCHEMA


@pytest.mark.parametrize(
    "chunks",
    [[b"1", QueryError("late", QueryFailure.RESOURCES)], [QueryError("early", QueryFailure.SOURCE)]],
)
async def test_what_failed_is_not_kept(chunks):
    engine = FakePlanner(a=Script(chunks))
    cache = cached(engine)
    for _ in range(2):
        with pytest.raises(QueryError):
            await get(cache, ask("a"))
    assert len(engine.executions) == 2
    assert cache.statistics().items_count == 0


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"timeout": 5.0, "protocol": "flight"}, True),
        ({"format": ResultFormat.CSV}, False),
        ({"compression": "zstd"}, False),
        ({"principal": BOB}, False),
        ({"parameters": (1,)}, False),
        ({"cache_key": "mine"}, False),
    ],
)
@pytest.mark.parametrize("kind", ["plan", "sql"])
async def test_what_makes_another_query(kind, other, same):
    cache = cached(FakePlanner(), cache_key_type=kind)
    await get(cache, ask("a", principal=ALICE))
    answer = await get(cache, ask("a", **({"principal": ALICE} | other)))
    assert answer == ((HIT, b"a 1") if same else (MISS, b"a 2"))


@pytest.mark.parametrize("kind", ["plan", "sql"])
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((1,), (1,), True),
        ((1,), (True,), False),
        ((1,), (1.0,), False),
        ((1,), ("1",), False),
        ((1, 2), (12,), False),
        (({"a": (1,)},), ({"a": (2,)},), False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"b": 1}, False),
        ({"a": None}, {"a": "None"}, False),
    ],
)
async def test_which_parameters_are_equal(kind, one, other, same):
    engine = FakePlanner(a=Script(plan=None))
    cache = cached(engine, cache_key_type=kind)
    await get(cache, ask("a", parameters=one))
    assert (cache.peek(ask("a", parameters=other)) is not None) is same


async def test_a_text_and_its_parameters_do_not_run_into_each_other():
    cache = cached(FakePlanner(), cache_key_type="sql")
    await get(cache, ask("a(1,)"))
    assert cache.peek(ask("a", parameters=(1,))) is None


async def test_texts_with_an_equal_plan_share():
    engine = FakePlanner(a=Script(plan="p"), b=Script(plan="p"))
    cache = cached(engine)
    await get(cache, ask("a"))
    assert await get(cache, ask("b")) == (HIT, b"a 1")
    assert [query.sql for query in engine.executions] == ["a"]
    assert cache.peek(ask("b")) is not None


async def test_by_text_they_do_not_share():
    engine = FakePlanner(a=Script(plan="p"), b=Script(plan="p"))
    cache = cached(engine, cache_key_type="sql")
    await get(cache, ask("a"))
    assert await get(cache, ask("b")) == (MISS, b"b 2")


async def test_equal_plans_of_two_principals_do_not_share():
    engine = FakePlanner(a=Script(plan="p"), b=Script(plan="p"))
    cache = cached(engine)
    await get(cache, ask("a", principal=ALICE))
    assert await get(cache, ask("b", principal=BOB)) == (MISS, b"b 2")


async def test_a_client_s_key_stands_for_the_query():
    cache = cached(FakePlanner())
    await get(cache, ask("a", cache_key="mine"))
    assert await get(cache, ask("b", cache_key="mine")) == (HIT, b"a 1")
    assert await get(cache, ask("b", cache_key="other")) == (MISS, b"b 2")
    assert await get(cache, ask("a", cache_key="mine", principal=BOB)) == (MISS, b"a 3")
    assert cache.peek(ask("a")) is None


async def test_another_catalog_is_another_key():
    tables = FakeTables(t=generation())
    cache = cached(FakePlanner(), tables)
    await get(cache, ask("a"))
    tables.republish()
    assert await get(cache, ask("a")) == (MISS, b"a 2")


@pytest.mark.parametrize(
    ("kind", "key", "script", "statuses"),
    [
        ("plan", None, Script(cacheable=False), [None, None]),
        ("sql", None, Script(cacheable=False), [None, None]),
        ("plan", "mine", Script(cacheable=False), [None, None]),
        ("plan", None, Script(volatile=True), [None, None]),
        ("sql", None, Script(volatile=True), [MISS, HIT]),
        ("plan", "mine", Script(volatile=True), [MISS, HIT]),
        ("plan", None, Script(told=False), [None, None]),
    ],
)
async def test_which_plans_are_kept(kind, key, script, statuses):
    cache = cached(FakePlanner(a=script), cache_key_type=kind)
    assert [(await get(cache, ask("a", cache_key=key)))[0] for _ in range(2)] == statuses
    asked = cache.statistics().requests
    assert asked == len([status for status in statuses if status])


async def test_a_query_that_is_planned_twice():
    engine = FakePlanner()
    engine.planned_twice = True
    cache = cached(engine)
    assert [await get(cache, ask("a")) for _ in range(2)] == [(MISS, b"a 1"), (HIT, b"a 1")]


# --- the two clocks --------------------------------------------------------------------------------------------------


async def test_by_age(autojump_clock):
    cache = cached(FakePlanner(a=Script(running=0.7)), item_ttl=0.1)
    await get(cache, ask("a"))  # an age is counted from when the answer was complete
    await trio.sleep(0.1)
    assert await get(cache, ask("a")) == (HIT, b"a 1")
    await trio.sleep(1e-6)
    assert await get(cache, ask("a")) == (MISS, b"a 2")


@pytest.mark.parametrize("kind", ["plan", "sql"])
async def test_a_change_of_a_table_ends_what_was_read_from_it(kind):
    tables = FakeTables(t=generation(), u=generation(), other=generation())
    engine = FakePlanner(a=Script(tables=("t", "u")))
    cache = cached(engine, tables, item_ttl=60.0, cache_key_type=kind)
    await get(cache, ask("a"))
    tables.change("other")
    assert (await get(cache, ask("a")))[0] is HIT
    tables.change("u")
    assert await get(cache, ask("a")) == (MISS, b"a 2")
    assert (await get(cache, ask("a")))[0] is HIT
    assert cache.statistics().evictions["invalidated"] == 1
    assert cache.statistics().stale_rejections == {"no_window": 1, "window_expired": 0, "fresh_required": 0}


async def test_a_table_that_can_not_tell_lasts_for_its_time(autojump_clock):
    cache = cached(FakePlanner(), FakeTables(t=None))
    await get(cache, ask("a"))
    await trio.sleep(1.0)
    assert (await get(cache, ask("a")))[0] is HIT


async def test_one_part_of_a_table():
    reading = CacheReading("t", ReadingStatus.HIT, shares=(1, 3))
    tables = FakeTables(t=generation(0, 0, 0, 0))
    cache = cached(FakePlanner(a=Script(readings=(reading,))), tables)
    await get(cache, ask("a"))
    tables.change("t", 0, 2)
    assert (await get(cache, ask("a")))[0] is HIT
    tables.change("t", 3)
    assert (await get(cache, ask("a")))[0] is MISS


async def test_what_the_query_itself_fetched_does_not_end_it(autojump_clock):
    tables = FakeTables(t=generation(0, 0))
    engine = FakePlanner(a=Script(running=1.0))
    cache = cached(engine, tables)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, cache, ask("a"))
        await trio.testing.wait_all_tasks_blocked()
        tables.change("t", 1)
        reading = CacheReading("t", ReadingStatus.MISS, shares=(1,), generation=tables.generation("t"))
        engine.scripts["a"].readings = (reading,)
    assert (await get(cache, ask("a")))[0] is HIT


async def test_a_change_under_way_is_not_missed(autojump_clock):
    """Noted before planning: a table that changes after it was read, and before the answer is kept."""
    tables = FakeTables(t=generation())
    cache = cached(FakePlanner(a=Script(running=1.0)), tables, item_ttl=60.0)

    async def change():
        await trio.sleep(0.5)
        tables.change("t")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        assert (await get(cache, ask("a")))[0] is MISS
    assert await get(cache, ask("a")) == (MISS, b"a 2")
    assert await get(cache, ask("a")) == (HIT, b"a 2")


async def test_a_table_that_appeared_after_others_were_noted_keeps_the_answer_from_being_kept():
    cache = cached(FakePlanner(a=Script(tables=("t", "late"))), item_ttl=60.0)
    assert await get(cache, ask("a")) == (MISS, b"a 1")
    assert cache.statistics().items_count == 0


async def test_an_answer_that_began_earlier_does_not_replace_a_newer_one(autojump_clock):
    engine = FakePlanner(a=Script(running=2.0))
    cache = cached(engine, FakeTables(t=None), item_ttl=60.0)
    anew = ask("a", directives=Directives(no_cache=True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, cache, anew)
        await trio.sleep(1.0)
        engine.scripts["a"] = Script([b"newer"])
        await get(cache, anew)
    assert await get(cache, ask("a")) == (HIT, b"newer")


# --- what requests allow ---------------------------------------------------------------------------------------------


async def test_no_cache_runs_and_keeps():
    cache = cached(FakePlanner())
    anew = ask("a", directives=Directives(no_cache=True, only_if_cached=True))
    assert await get(cache, anew) == (BYPASS, b"a 1")
    assert await get(cache, anew) == (BYPASS, b"a 2")
    assert await get(cache, ask("a")) == (HIT, b"a 2")
    assert cache.statistics().requests == 1


async def test_no_cache_of_what_is_not_kept_has_no_status():
    cache = cached(FakePlanner(a=Script(cacheable=False)))
    assert [await get(cache, ask("a", directives=Directives(no_cache=True))) for _ in range(2)] == [
        (None, b"a 1"),
        (None, b"a 2"),
    ]


@pytest.mark.parametrize("kind", ["plan", "sql"])
@pytest.mark.parametrize("script", [Script(), Script(cacheable=False), Script(volatile=True), Script(told=False)])
async def test_only_if_cached_runs_nothing(kind, script):
    engine, events = FakePlanner(a=script), []
    cache = cached(engine, cache_key_type=kind, events=events)
    for _ in range(2):
        with pytest.raises(QueryError, match="only-if-cached") as error:
            await get(cache, ask("a", directives=Directives(only_if_cached=True)))
        assert error.value.failure is QueryFailure.NOT_CACHED
    assert engine.executions == [] or not script.told
    assert [event.failure for event in events] == ["not_cached"] * 2


@pytest.mark.parametrize("kind", ["plan", "sql"])
async def test_only_if_cached_is_answered_from_the_cache(kind):
    engine = FakePlanner(a=Script(plan="p"), b=Script(plan="p"))
    cache = cached(engine, cache_key_type=kind)
    await get(cache, ask("a"))
    asked = Directives(only_if_cached=True)
    assert await get(cache, ask("a", directives=asked)) == (HIT, b"a 1")
    if kind == "plan":
        assert await get(cache, ask("b", directives=asked)) == (HIT, b"a 1")
    assert len(engine.executions) == 1


async def test_peek_refuses_what_is_known_to_be_missing():
    cache = cached(FakePlanner(), cache_key_type="sql")
    with pytest.raises(QueryError) as error:
        cache.peek(ask("a", directives=Directives(only_if_cached=True)))
    assert error.value.failure is QueryFailure.NOT_CACHED


async def test_min_fresh(autojump_clock):
    cache = cached(FakePlanner(), item_ttl=10.0)
    await get(cache, ask("a"))
    await trio.sleep(6.0)
    assert (await get(cache, ask("a", directives=Directives(min_fresh=4.0))))[0] is HIT
    assert await get(cache, ask("a", directives=Directives(min_fresh=5.0))) == (MISS, b"a 2")
    assert await get(cache, ask("a")) == (HIT, b"a 2")
    assert cache.statistics().stale_rejections["fresh_required"] == 1
    assert cache.statistics().evictions == {"size": 0, "expired": 0, "invalidated": 0}


async def test_max_stale(autojump_clock):
    cache = cached(FakePlanner(), item_ttl=10.0, stale_while_revalidate_ttl=30.0)
    await get(cache, ask("a"))
    await trio.sleep(15.0)
    assert (await get(cache, ask("a", directives=Directives(max_stale=5.0))))[0] is STALE
    assert (await get(cache, ask("a", directives=Directives(max_stale=math.inf))))[0] is STALE
    assert await get(cache, ask("a", directives=Directives(max_stale=4.0))) == (MISS, b"a 2")


# --- what answers say ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "report"),
    [
        (ask("a"), CacheReport(HIT)),
        (ask("a", principal=ALICE), CacheReport(HIT, CacheScope.USER)),
        (ask("a", principal=SYSTEM), CacheReport(HIT, CacheScope.SYSTEM)),
        (ask("a", cache_key="mine"), CacheReport(HIT, client_key=True)),
    ],
)
async def test_reports(query, report):
    cache = cached(FakePlanner())
    await get(cache, query)
    assert cache.peek(query).report == report


async def test_cache_control_is_told_where_stale_answers_are_served(autojump_clock):
    cache = cached(FakePlanner(), item_ttl=10.0, stale_while_revalidate_ttl=30.0)
    async with cache.execute(ask("a")) as result:
        assert result.report == CacheReport(MISS, max_age=10.0, stale_while_revalidate=30.0)
    assert cache.peek(ask("a")).report == CacheReport(HIT, max_age=10.0, stale_while_revalidate=30.0)
    await trio.sleep(11.0)
    assert cache.peek(ask("a")).report == CacheReport(STALE, max_age=0.0, stale_while_revalidate=30.0)


async def test_readings_age(autojump_clock):
    reading = CacheReading("t", ReadingStatus.HIT, age=5.0, entries=2)
    cache = cached(FakePlanner(a=Script(readings=(reading,))), item_ttl=10.0)
    async with cache.execute(ask("a")) as result:
        assert result.readings == (reading,)
        await trio.sleep(1.0)
    await trio.sleep(2.0)
    assert cache.peek(ask("a")).readings == (CacheReading("t", ReadingStatus.HIT, age=8.0, entries=2),)


async def test_what_was_left_of_a_source_is_not_kept():
    reading = CacheReading("t", ReadingStatus.STALE_IF_ERROR)
    cache = cached(FakePlanner(a=Script(readings=(reading,))))
    assert [(await get(cache, ask("a")))[0] for _ in range(2)] == [MISS, MISS]


# --- time runs out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0.0, 3.0])
async def test_what_is_over_leaves_memory_by_itself(autojump_clock, window):
    cache = cached(FakePlanner(), item_ttl=2.0, stale_while_revalidate_ttl=window)
    async with running(cache):
        for text in "abc":
            await get(cache, ask(text))
            await trio.sleep(0.5)
        empty = cache.statistics().size_bytes
        assert cache.statistics().items_count == 3
        await trio.sleep(2.0 + window + 0.3 - 1.5)
        assert cache.statistics().items_count == 2
        await trio.sleep(1.0)
        assert cache.statistics().items_count == 0
        assert cache.statistics().evictions == {"size": 0, "expired": 3, "invalidated": 0}
        assert 0 < cache.statistics().size_bytes < empty  # what is known of the texts stays
