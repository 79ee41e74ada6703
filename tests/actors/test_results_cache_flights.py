"""Equal queries at the same time: one execution, and nobody waits for ever."""

import random

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from caraway.errors import QueryError, QueryFailure
from caraway.events import QueryFinished
from caraway.model import CacheStatus, Directives, Principal
from support.cached import cached, get
from support.fake_planner import FakePlanner, FakeTables, Script, ask, generation

HIT, MISS = CacheStatus.HIT, CacheStatus.MISS


async def all_of(cache, *queries):
    """What each gets, asked in this order at one moment: an answer, or the failure and when it came."""
    found = [None] * len(queries)

    async def one(number, query):
        try:
            found[number] = await get(cache, query)
        except QueryError as error:
            found[number] = error.failure, trio.current_time()

    async with trio.open_nursery() as nursery:
        for number, query in enumerate(queries):
            nursery.start_soon(one, number, query)
            await trio.lowlevel.checkpoint()
    return found


def settled(cache, engine):
    """Nothing is left of any execution."""
    executions = cache._executions
    free = executions._collecting._free
    return not executions.flights._flights and free == cache._config.max_size // 4 and engine.running == 0


@pytest.mark.parametrize(
    ("config", "more"),
    [({}, {}), ({"cache_key_type": "sql"}, {}), ({}, {"cache_key": "mine"}), ({"item_ttl": 0.0}, {})],
)
async def test_a_thousand_equal_cold_queries_are_one_execution(autojump_clock, config, more):
    events = []
    engine = FakePlanner(a=Script(planning=0.1, running=0.1))
    cache = cached(engine, events=events, **config)
    assert await all_of(cache, *[ask("a", **more)] * 1000) == [(MISS, b"a 1")] * 1000
    assert len(engine.plannings) == len(engine.executions) == 1
    assert cache.statistics().coalesced == 999
    assert cache.statistics().misses == cache.statistics().requests == 1000
    assert len(events) == 999
    assert events[0] == QueryFinished("a", "", "public", 1, events[0].seconds)
    assert settled(cache, engine)


async def test_texts_with_an_equal_plan_are_one_execution(autojump_clock):
    texts = [f"text {number % 50}" for number in range(500)]
    engine = FakePlanner(**{text: Script(plan="p", planning=0.1, running=1.0) for text in texts})
    cache = cached(engine)
    answers = await all_of(cache, *map(ask, texts))
    assert {status for status, _ in answers} == {MISS}
    assert len({body for _, body in answers}) == 1
    assert len(engine.executions) == 1
    assert len(engine.plannings) == 50
    assert settled(cache, engine)


async def test_principals_do_not_wait_for_each_other(autojump_clock):
    engine = FakePlanner(a=Script(running=1.0))
    answers = await all_of(cached(engine), *[ask("a", principal=Principal(f"apikey:{n}")) for n in range(3)])
    assert len({body for _, body in answers}) == 3


@pytest.mark.parametrize("failure", list(QueryFailure))
async def test_a_failure_is_every_one_s_unless_it_is_the_leader_s_own(autojump_clock, failure):
    own = failure in {QueryFailure.CANCELLED, QueryFailure.TIMEOUT, QueryFailure.UNAVAILABLE}
    events = []
    engine = FakePlanner(a=Script(running=1.0, error=QueryError("no", failure)))
    cache = cached(engine, events=events)
    began = trio.current_time()
    answers = await all_of(cache, ask("a"), ask("a"), ask("a"))
    times = (1.0, 2.0, 3.0) if own else (1.0, 1.0, 1.0)
    assert sorted(at - began for _, at in answers) == pytest.approx(times)
    assert {found for found, _ in answers} == {failure}
    assert len(engine.executions) == (3 if own else 1)
    assert [event.failure for event in events] == ([] if own else [failure.value] * 2)
    assert settled(cache, engine)


async def test_each_waiter_gets_an_exception_of_its_own(autojump_clock):
    engine = FakePlanner(a=Script(running=1.0, error=QueryError("no", QueryFailure.SOURCE)))
    cache, caught = cached(engine), []

    async def one():
        with pytest.raises(QueryError, match="no") as error:
            await get(cache, ask("a"))
        caught.append(error.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
    assert len({id(error) for error in caught}) == 3


@pytest.mark.parametrize("cancelled_at", [0.0, 0.5, 1.5, 2.5, 3.5])
@pytest.mark.parametrize("known", [False, True])
async def test_a_leader_that_leaves_is_followed_by_one_of_those_who_wait(autojump_clock, cancelled_at, known):
    engine = FakePlanner(a=Script([b"1", b"2", b"3"], planning=1.0, running=1.0, streaming=1.0))
    cache = cached(engine, FakeTables(t=generation()), item_ttl=0.5)
    if known:
        await get(cache, ask("a"))
        await trio.sleep(1.0)
    before = len(engine.plannings)
    async with trio.open_nursery() as nursery:
        leader = trio.CancelScope()

        async def lead():
            with leader:
                await get(cache, ask("a"))

        nursery.start_soon(lead)
        await wait_all_tasks_blocked()
        found = []

        async def follow():
            found.extend(await all_of(cache, *[ask("a")] * 20))

        nursery.start_soon(follow)
        await trio.sleep(cancelled_at)
        leader.cancel()
    assert leader.cancelled_caught
    assert found == [(MISS, b"123")] * 20
    assert len(engine.plannings) - before == 2
    assert settled(cache, engine)


async def test_a_follower_that_leaves_disturbs_nobody(autojump_clock):
    engine = FakePlanner(a=Script(running=1.0))
    cache = cached(engine)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, cache, ask("a"))
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.5) as follower:
            await get(cache, ask("a"))
        assert follower.cancelled_caught
    assert await get(cache, ask("a")) == (HIT, b"a 1")


@pytest.mark.parametrize(("own", "limit"), [(0.5, None), (0.5, 9.0), (None, 0.5)])
async def test_a_follower_waits_no_longer_than_for_its_own_timeout(autojump_clock, own, limit):
    engine = FakePlanner(a=Script(running=3.0))
    cache = cached(engine, timeout=limit)
    began = trio.current_time()
    lead, follow = await all_of(cache, ask("a", timeout=5.0), ask("a", timeout=own))
    assert lead == (MISS, b"a 1")
    assert follow == (QueryFailure.TIMEOUT, began + 0.5)


async def test_who_takes_over_has_the_time_that_is_left(autojump_clock):
    engine = FakePlanner(a=Script(running=3.0))
    cache = cached(engine)
    began = trio.current_time()
    lead, follow = await all_of(cache, ask("a", timeout=2.0), ask("a", timeout=4.0))
    assert lead == (QueryFailure.TIMEOUT, began + 2.0)
    assert follow == (QueryFailure.TIMEOUT, began + 4.0)


MIB = 1024**2


@pytest.mark.parametrize(("chunk", "count"), [(MIB, 9), (9 * MIB, 1), (MIB, 12)])
async def test_what_is_too_large_is_streamed_by_each(autojump_clock, chunk, count):
    engine = FakePlanner(a=Script([bytes(chunk)] * count, running=1.0))
    cache = cached(engine)
    answers = await all_of(cache, *[ask("a")] * 3)
    assert [(status, len(body)) for status, body in answers] == [(MISS, chunk * count)] * 3
    assert len(engine.executions) == 3
    assert cache.statistics().items_count == 0
    assert settled(cache, engine)


async def test_what_is_too_large_is_not_held_once_that_is_known(autojump_clock):
    engine = FakePlanner(a=Script([bytes(MIB)] * 12))
    cache = cached(engine)
    async with cache.execute(ask("a")) as result:
        pool = cache._executions._collecting
        for number in range(12):
            assert len(await anext(result)) == MIB
            held = 32 * MIB - pool._free
            assert number * MIB < held <= (number + 1) * MIB if number < 8 else held == 0
        assert [chunk async for chunk in result] == []
        assert result.rows == 1  # as the engine tells
    assert settled(cache, engine)


@pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 1, 2 * MIB])
async def test_a_larger_answer_is_given_as_it_comes_and_shared_once_it_is_whole(autojump_clock, size):
    engine = FakePlanner(a=Script([bytes(size)] * 3, running=1.0, streaming=1.0))
    cache, times = cached(engine, item_ttl=60.0), []
    began = trio.current_time()

    async def lead():
        async with cache.execute(ask("a")) as result:
            times.extend([trio.current_time() - began async for _ in result])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead)
        await wait_all_tasks_blocked()
        followed = await all_of(cache, *[ask("a")] * 5)
    assert followed == [(MISS, bytes(3 * size))] * 5
    assert times == pytest.approx([1.0, 2.0, 3.0] if size > 64 * 1024 else [2.0, 2.0, 3.0])
    assert len(engine.executions) == 1
    assert await get(cache, ask("a")) == (HIT, bytes(3 * size))
    assert settled(cache, engine)


@pytest.mark.parametrize("pause", [0.2, 0.5])
async def test_nobody_waits_for_a_leader_that_takes_the_answer_slowly(autojump_clock, pause):
    engine = FakePlanner(a=Script([bytes(MIB)] * 4, running=1.0))
    cache = cached(engine, item_ttl=60.0)
    began = trio.current_time()

    async def lead():
        async with cache.execute(ask("a")) as result:
            async for _ in result:
                await trio.sleep(pause)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead)
        await wait_all_tasks_blocked()
        assert await all_of(cache, *[ask("a")] * 20) == [(MISS, bytes(4 * MIB))] * 20
        waited = trio.current_time() - began
    slowly = pause > 0.25
    assert len(engine.executions) == 1 + slowly
    assert waited == pytest.approx(1.0 + 0.25 + 1.0 if slowly else 1.0 + 4 * pause)
    assert await get(cache, ask("a")) == (HIT, bytes(4 * MIB))
    assert settled(cache, engine)


@pytest.mark.parametrize("taken", [1, 2])
async def test_a_leader_that_leaves_amid_a_larger_answer_is_followed(autojump_clock, taken):
    engine = FakePlanner(a=Script([bytes(MIB)] * 3, running=1.0, streaming=1.0))
    cache = cached(engine, item_ttl=60.0)

    async def lead():
        async with cache.execute(ask("a")) as result:
            for _ in range(taken):
                await anext(result)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead)
        await wait_all_tasks_blocked()
        assert await all_of(cache, *[ask("a")] * 5) == [(MISS, bytes(3 * MIB))] * 5
    assert len(engine.executions) == 2
    assert settled(cache, engine)


async def test_a_failure_amid_a_larger_answer_is_every_one_s(autojump_clock):
    late = QueryError("late", QueryFailure.RESOURCES)
    engine = FakePlanner(a=Script([bytes(MIB), late], running=1.0, streaming=1.0))
    cache = cached(engine)
    answers = await all_of(cache, *[ask("a")] * 3)
    assert [failure for failure, _ in answers] == [QueryFailure.RESOURCES] * 3
    assert len(engine.executions) == 1
    assert settled(cache, engine)


async def test_a_failure_beyond_the_bound_is_the_leader_s_alone(autojump_clock):
    late = QueryError("late", QueryFailure.RESOURCES)
    engine = FakePlanner(a=Script([bytes(9 * MIB), late]))
    cache = cached(engine)
    async with cache.execute(ask("a")) as result:
        assert len(await anext(result)) == 9 * MIB
        with pytest.raises(QueryError, match="late"):
            await anext(result)
    assert settled(cache, engine)


async def test_all_collections_together_are_bounded_but_small_ones_always_go():
    engine = FakePlanner(
        large=Script([bytes(700_000), bytes(700_000)]), small=Script([bytes(60_000)]), medium=Script([bytes(600_000)])
    )
    cache = cached(engine, max_size=4 * MIB)
    async with cache.execute(ask("large")):  # its beginning waits to be read
        assert (await get(cache, ask("medium")))[0] is MISS
        assert (await get(cache, ask("small")))[0] is MISS
        assert cache.peek(ask("small")) is not None
        assert cache.peek(ask("medium")) is None
    assert (await get(cache, ask("medium")))[0] is MISS
    assert cache.peek(ask("medium")) is not None
    assert settled(cache, engine)


@pytest.mark.parametrize("script", [Script(volatile=True), Script(cacheable=False)])
async def test_what_can_not_be_shared_is_run_by_each(autojump_clock, script):
    script.planning = script.running = 1.0
    engine = FakePlanner(a=script)
    cache = cached(engine)
    began = trio.current_time()
    answers = await all_of(cache, *[ask("a")] * 3)
    assert {status for status, _ in answers} == {None}
    assert len(engine.executions) == 3
    assert trio.current_time() - began == pytest.approx(3.0)  # two plannings, and all run at the same time
    await all_of(cache, *[ask("a")] * 3)
    assert trio.current_time() - began == pytest.approx(5.0)
    assert settled(cache, engine)


@pytest.mark.parametrize("planning", [0.0, 2.0])
async def test_nobody_joins_who_knows_of_a_change(autojump_clock, planning):
    tables = FakeTables(t=generation(), other=generation())
    engine = FakePlanner(a=Script(planning=planning, running=3.0))
    cache = cached(engine, tables, item_ttl=60.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, cache, ask("a"))
        await trio.sleep(1.0)
        tables.change("t")
        assert await get(cache, ask("a")) == (MISS, b"a 2")
    assert await get(cache, ask("a")) == (HIT, b"a 2")
    assert settled(cache, engine)


async def test_once_it_is_planned_only_its_own_tables_count(autojump_clock):
    tables = FakeTables(t=generation(), other=generation())
    engine = FakePlanner(a=Script(running=3.0))
    cache = cached(engine, tables)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, cache, ask("a"))
        await trio.sleep(1.0)
        tables.change("other")
        assert await get(cache, ask("a")) == (MISS, b"a 1")


async def test_a_query_that_wants_no_run_does_not_wait_either(autojump_clock):
    engine = FakePlanner(a=Script(running=3.0))
    cache = cached(engine)
    began = trio.current_time()
    anew = ask("a", directives=Directives(only_if_cached=True))
    _, found = await all_of(cache, ask("a"), anew)
    assert found == (QueryFailure.NOT_CACHED, began)


# --- at random -------------------------------------------------------------------------------------------------------


class Reader(FakePlanner):
    """An engine whose answers are what the table counted at a random moment of the execution."""

    def __init__(self, tables, chance):
        super().__init__()
        self._tables, self._chance = tables, chance
        for text in ("a", "b", "c"):
            self.scripts[text] = Script(plan="p" if text != "c" else "q")

    def execute(self, query, planned=None):
        script, chance = self.scripts[query.sql], self._chance
        script.planning, script.running, script.streaming = (chance.choice([0.0, 0.1, 0.7]) for _ in range(3))
        script.error = QueryError("no", chance.choice(list(QueryFailure))) if chance.random() < 0.1 else None
        read = self._tables.generation("t").parts[0]
        large = [b" " * 70_000] if chance.random() < 0.2 else []
        script.chunks = [b"%d" % read, *large]
        return super().execute(query, planned)


@pytest.mark.parametrize("seed", range(30))
async def test_no_answer_is_older_than_its_question(autojump_clock, seed):
    """Changes, cancellations, failures and answers too large, at random: a hit or a shared answer is never outdated."""
    chance = random.Random(seed)
    tables = FakeTables(t=generation(0), u=generation(0))
    engine = Reader(tables, chance)
    cache = cached(engine, tables, max_size=200_000, item_ttl=2.0, cache_key_type=chance.choice(["plan", "sql"]))
    served = []

    async def client():
        for _ in range(20):
            await trio.sleep(chance.choice([0.0, 0.1, 0.3]))
            known = tables.generation("t").parts[0]
            directives = chance.choice([Directives()] * 3 + [Directives(no_cache=True), Directives(min_fresh=1.0)])
            query = ask(
                chance.choice("abc"), directives=directives, cache_key="k" if seed % 3 == 0 else None, timeout=3.0
            )
            with trio.move_on_after(chance.choice([0.05, 0.5, 5.0])):
                try:
                    status, body = await get(cache, query)
                except QueryError:
                    continue
                served.append(status)
                assert int(body) >= known

    async def changes():
        for _ in range(20):
            await trio.sleep(chance.choice([0.05, 0.2, 1.0]))
            tables.change("t")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(changes)
        for _ in range(8):
            nursery.start_soon(client)
    assert {HIT, MISS} <= set(served)
    assert cache.statistics().coalesced
    assert settled(cache, engine)
