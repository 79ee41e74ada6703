"""Many who want the same answer, and those who stop wanting it."""

import pytest
import trio
import trio.testing

from caraway.errors import QueryError, QueryFailure, SourceError
from support.caching_world import CachingWorld
from support.dataset_world import settle
from support.fake_requests import FakeRequests


@pytest.fixture
def world(tmp_path):
    return CachingWorld(tmp_path, FakeRequests(delay=1.0))


async def test_a_thousand_queries_of_a_cold_key_are_one_fetch(world, autojump_clock):
    world.caching(ttl=10.0)
    shown = []

    async def one(actor):
        shown.append(await world.get(actor, "/a"))

    async with world.run() as actor:
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(one, actor)
        status = actor.current().caching
    assert world.source.paths == [(0, "/a")]
    assert len(shown) == 1000
    assert {(each.status, *each.contents) for each in shown} == {("miss", "/a?")}
    assert (status.misses, status.coalesced, status.entries) == (1000, 999, 1)


async def test_with_a_ttl_of_zero_each_query_asks_and_those_at_a_time_share(world, autojump_clock):
    world.caching(stale_if_error=float("inf"))
    async with world.run() as actor:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.get, actor, "/a")
            await trio.sleep(0.5)
            nursery.start_soon(world.get, actor, "/a")
        assert (await world.get(actor, "/a")).status == "miss"
        world.source.down = SourceError("down")
        assert (await world.get(actor, "/a")).status == "stale-if-error"
    assert world.source.paths == [(0, "/a"), (1, "/a"), (2, "/a")]


async def test_the_keys_of_a_scan_are_fetched_beside_each_other_within_a_bound(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        shown = await world.get(actor, *(f"/{n}" for n in range(40)))
    assert len(shown.contents) == 40
    assert world.source.most_fetching == 16
    assert trio.current_time() == 3.0


async def test_a_dataset_fetches_so_many_at_a_time(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor, trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(world.get, actor, f"/{n}")
    assert world.source.most_fetching == 64


async def test_a_query_that_is_cancelled_takes_nothing_from_the_others(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor, trio.open_nursery() as nursery:

        async def impatient():
            with trio.move_on_after(0.5):
                await world.get(actor, "/a")
                raise AssertionError

        async def patient():
            await trio.sleep(0.1)
            assert (await world.get(actor, "/a")).contents == ["/a?"]
            assert trio.current_time() == 1.0

        nursery.start_soon(impatient)
        nursery.start_soon(patient)
    assert world.source.paths == [(0, "/a")]
    assert world.source.cancelled == 0


async def test_a_fetch_for_which_nobody_waits_any_more_is_cancelled(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        with trio.move_on_after(0.5):
            await world.get(actor, "/a", "/b")
        await settle()
        assert world.source.cancelled == 2
        assert world.source.fetching == 0
        assert (await world.get(actor, "/a")).status == "miss"
    assert world.source.asked == {"/a": 2, "/b": 1}


async def test_who_comes_just_as_a_fetch_is_cancelled_begins_another(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.get, actor, "/a")
                await trio.sleep(0.5)
                scope.cancel()
        assert (await world.get(actor, "/a")).contents == ["/a?"]
    assert world.source.paths == [(0, "/a"), (0.5, "/a")]


async def test_a_query_cancelled_while_its_answer_is_stored_leaves_it_stored(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        world.store.commit_delay = 1.0
        with trio.move_on_after(1.5):
            await world.get(actor, "/a")
        await trio.sleep(1)
        assert (await world.get(actor, "/a")).status == "hit"
    assert world.source.cancelled == 0


async def test_who_comes_while_an_answer_is_stored_shares_it(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        world.store.commit_delay = 1.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.get, actor, "/a")
            await trio.sleep(1.5)
            nursery.start_soon(world.get, actor, "/a")
    assert world.source.paths == [(0, "/a")]


async def test_one_failure_of_many_keys_ends_the_query_and_the_fetches_that_only_it_wanted(world, autojump_clock):
    world.caching(ttl=10.0)
    world.source.delay = lambda request: 1.0 if request.path == "/0" else 5.0
    world.source.failures = [SourceError("broken")]
    async with world.run() as actor:
        with pytest.raises(QueryError, match="broken"):
            await world.get(actor, "/0", "/1", "/2")
        await settle()
        assert (trio.current_time(), world.source.cancelled) == (1.0, 2)


async def test_a_failure_is_that_of_all_who_wait(world, autojump_clock):
    world.caching(ttl=10.0)
    world.source.failures = [SourceError("broken", remedy="Mend it.")]
    failures = []

    async def one(actor):
        with pytest.raises(QueryError) as raised:
            await world.get(actor, "/a")
        failures.append((raised.value.failure, raised.value.message))

    async with world.run() as actor, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one, actor)
    message = "The source of dataset t failed: broken Mend it."
    assert failures == [(QueryFailure.SOURCE, message)] * 5
    assert len(world.source.calls) == 1


async def test_a_source_that_failed_is_left_alone_for_a_moment(world, autojump_clock):
    world.caching(ttl=10.0)
    world.source.delay = 0.0
    world.source.down = SourceError("down")
    async with world.run() as actor:
        for _ in range(12):
            with pytest.raises(QueryError, match="down"):
                await world.get(actor, "/a")
            await trio.sleep(0.25)
    assert world.source.paths == [(0, "/a"), (1, "/a"), (2, "/a")]


async def test_it_is_left_alone_for_as_long_as_it_asks(world, autojump_clock):
    world.caching(ttl=10.0)
    world.source.delay = 0.0
    world.source.failures = [SourceError("429", retry_after=30.0)]
    async with world.run() as actor:
        with pytest.raises(QueryError, match="429"):
            await world.get(actor, "/a")
        await trio.sleep(29.9)
        with pytest.raises(QueryError, match="429"):
            await world.get(actor, "/a")
        assert (await world.get(actor, "/b")).status == "miss"
        await trio.sleep(0.1)
        assert (await world.get(actor, "/a")).status == "miss"


async def test_a_dead_source_is_not_asked_for_each_key(world, autojump_clock):
    world.caching(ttl=10.0)
    world.source.delay = 0.0
    world.source.down = SourceError("down")
    async with world.run() as actor:
        for n in range(200):
            with pytest.raises(QueryError, match="down"):
                await world.get(actor, f"/{n}")
            await trio.sleep(0.01)
        assert len(world.source.calls) <= 7
        world.source.down = None
        await trio.sleep(1)
        assert (await world.get(actor, "/0")).status == "miss"


async def test_when_all_ends_those_who_wait_are_told(world, autojump_clock):
    world.caching(ttl=10.0)
    actor = world.actor()
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            await nursery.start(world.live, actor)

            async def one():
                with pytest.raises(QueryError) as raised:
                    await world.get(actor, "/a")
                assert raised.value.failure is QueryFailure.UNAVAILABLE

            outer.start_soon(one)
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        with pytest.raises(QueryError):
            await world.get(actor, "/b")


async def test_a_crash_of_the_source_ends_the_flights_and_the_next_life_goes_on(world, autojump_clock):
    world.caching(ttl=10.0)
    actor = world.actor()
    world.source.failures = [None, ZeroDivisionError()]

    async def waiting():
        with pytest.raises(QueryError) as raised:
            await world.get(actor, "/b")
        assert raised.value.failure is QueryFailure.UNAVAILABLE

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(actor.run)
            await world.get(actor, "/a")
            async with trio.open_nursery() as other:
                other.start_soon(waiting)
    assert (await world.get(actor, "/a")).status == "hit"  # what is stored is served all the same
    async with world.run(actor):
        assert (await world.get(actor, "/a")).status == "hit"
        assert (await world.get(actor, "/b")).status == "miss"
