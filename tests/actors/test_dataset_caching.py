"""What a query of a dataset in caching mode gets by the age of what is kept, and what the dataset tells of itself."""

from contextlib import suppress

import pytest
import trio
import trio.testing

from caraway.errors import ConfigError, QueryError, QueryFailure, SourceError
from caraway.events import CacheSourceFailed, CacheSourceRecovered
from caraway.model import ReadingStatus, State
from support.caching_world import CachingWorld
from support.dataset_world import settle
from support.fake_requests import FakeRequests

DOWN = SourceError("HTTP 503 from the origin.", remedy="Wait.")


@pytest.fixture
def world(tmp_path):
    return CachingWorld(tmp_path, FakeRequests())


# --- ages ------------------------------------------------------------------------------------------------------------


async def test_it_is_ready_at_once_and_asks_nothing(world, autojump_clock):
    world.source.down = DOWN
    world.caching(ttl=10.0)
    async with world.run() as actor:
        assert actor.status.value.ready
        assert actor.status.value.state is State.READY
        assert actor.table.value.request_columns == world.source.request_columns
        assert actor.log.value is None
        shown = await world.ask(actor)
    assert (shown.contents, shown.status) == ([], "hit")
    assert world.source.calls == []


async def test_a_miss_is_fetched_and_a_hit_is_not(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        miss = await world.get(actor, "/a")
        await trio.sleep(3)
        hit = await world.get(actor, "/a")
    assert (miss.contents, miss.status, miss.reading.age) == (["/a?"], "miss", 0)
    assert (hit.contents, hit.status, hit.reading.age) == (["/a?"], "hit", 3)
    assert world.source.paths == [(0, "/a")]


@pytest.mark.parametrize(("after", "status"), [(10, "hit"), (10.001, "stale"), (15, "stale"), (15.001, "miss")])
async def test_the_ends_of_the_windows_belong_to_them(world, after, status, autojump_clock):
    world.caching(ttl=10.0, stale_while_revalidate=5.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(after)
        assert (await world.get(actor, "/a")).status == status
        await settle()
    assert world.source.asked == {"/a": 1 if status == "hit" else 2}


@pytest.mark.parametrize(("after", "served"), [(15, True), (15.001, False)])
async def test_what_expired_stands_in_up_to_the_end_of_its_window(world, after, served, autojump_clock):
    world.caching(ttl=10.0, stale_if_error=5.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(after)
        world.source.down = DOWN
        if served:
            shown = await world.get(actor, "/a")
            assert (shown.contents, shown.status, shown.reading.age) == (["/a?"], "stale-if-error", 15)
        else:
            with pytest.raises(QueryError, match=r"HTTP 503 from the origin") as raised:
                await world.get(actor, "/a")
            assert raised.value.failure is QueryFailure.SOURCE


async def test_the_window_is_measured_when_the_query_comes_however_long_the_source_takes_to_fail(world, autojump_clock):
    world.caching(ttl=10.0, stale_if_error=5.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(14)
        world.source.down, world.source.delay = DOWN, 30.0
        assert (await world.get(actor, "/a")).status == "stale-if-error"


async def test_with_stale_if_error_enabled_age_does_not_matter(world, autojump_clock):
    world.caching(ttl=10.0, stale_if_error=float("inf"))
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(80_000)
        world.source.down = DOWN
        assert (await world.get(actor, "/a")).status == "stale-if-error"


async def test_without_it_a_failure_is_a_failure(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(10.001)
        world.source.down = DOWN
        with pytest.raises(QueryError, match="503"):
            await world.get(actor, "/a")


async def test_the_ttl_counts_from_the_fetch_and_the_age_from_the_origin(world, autojump_clock):
    world.source.age = 100.0
    world.caching(ttl=10.0)
    async with world.run() as actor:
        assert (await world.get(actor, "/a")).reading.age == 100
        await trio.sleep(10)
        shown = await world.get(actor, "/a")
        assert (shown.status, shown.reading.age) == ("hit", 110)
        await trio.sleep(0.001)
        assert (await world.get(actor, "/a")).status == "miss"


async def test_a_clock_that_is_ahead_makes_no_answer_younger_than_it_is(world, autojump_clock):
    world.source.age = -1000.0
    world.caching(ttl=10.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(10.001)
        assert (await world.get(actor, "/a")).status == "miss"


async def test_the_worst_entry_of_a_scan_gives_status_and_age(world, autojump_clock):
    world.caching(ttl=10.0, stale_while_revalidate=50.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(20)
        await world.get(actor, "/b")
        reading = (await world.get(actor, "/a", "/b")).reading
        assert (reading.status.value, reading.age, reading.entries) == ("stale", 20, 2)
        await trio.sleep(1)
        world.source.delay = 1.0
        reading = (await world.get(actor, "/a", "/b", "/c")).reading
        assert (reading.status.value, reading.age, reading.entries) == ("miss", 2, 3)


# --- stale while it is revalidated -----------------------------------------------------------------------------------


async def test_one_revalidation_a_key_however_many_ask(world, autojump_clock):
    world.caching(ttl=10.0, stale_while_revalidate=50.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(11)
        world.source.delay = 5.0
        for _ in range(100):
            assert (await world.get(actor, "/a")).reading.age == 11
        assert actor.current().caching.revalidating == 1
        await trio.sleep(5)
        await settle()
        shown = await world.get(actor, "/a")
        assert (shown.status, shown.reading.age) == ("hit", 0)
        status = actor.current().caching
    assert world.source.paths == [(0, "/a"), (11, "/a")]
    assert (status.stale, status.revalidations, status.revalidating, status.skipped) == (100, 1, 0, 0)


async def test_many_stale_keys_get_ten_revalidations_at_a_time_and_the_rest_is_served(world, autojump_clock):
    world.caching(ttl=10.0, stale_while_revalidate=1e6)
    async with world.run() as actor:
        await world.get(actor, *(f"/{n}" for n in range(250)))
        await trio.sleep(11)
        world.source.delay, world.source.most_fetching = 2.0, 0
        for _ in range(20):
            for n in range(250):
                assert (await world.reading(actor, f"/{n}")).status in (ReadingStatus.STALE, ReadingStatus.HIT)
            await trio.sleep(1)
        status = actor.current().caching
    assert world.source.most_fetching == 10
    assert status.skipped > 1000
    assert status.entries == 250


async def test_a_revalidation_that_fails_leaves_what_there_is_and_waits_a_moment(world, autojump_clock):
    world.caching(ttl=10.0, stale_while_revalidate=50.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(11)
        world.source.down = DOWN
        for _ in range(8):
            assert (await world.get(actor, "/a")).status == "stale"
            await settle()
            await trio.sleep(0.25)
        assert world.source.paths == [(0, "/a"), (11, "/a"), (12, "/a")]
        assert actor.status.value.state is State.ERROR


async def test_a_query_may_wait_for_a_revalidation_when_the_window_is_over(world, autojump_clock):
    world.caching(ttl=10.0, stale_while_revalidate=5.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(14)
        world.source.delay = 4.0
        assert (await world.get(actor, "/a")).status == "stale"
        await trio.sleep(2)
        with trio.move_on_after(1):
            await world.get(actor, "/a")
        assert (await world.get(actor, "/a")).status == "miss"
        assert trio.current_time() == 18
    assert world.source.paths == [(0, "/a"), (14, "/a")]
    assert world.source.cancelled == 0


# --- what it says of itself ------------------------------------------------------------------------------------------


async def test_a_streak_of_failures_is_one_warning_and_one_problem_until_a_success(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        world.source.down = DOWN
        for n in range(4):
            with pytest.raises(QueryError):
                await world.get(actor, f"/{n}")
            await trio.sleep(2)
        status = actor.status.value
        assert status.state is State.ERROR
        assert (status.problem.message, status.problem.remedy) == (DOWN.message, DOWN.remedy)
        assert status.ready
        assert status.caching.failures == 4
        world.source.down = None
        await world.get(actor, "/ok")
        assert actor.status.value.state is State.READY
    assert world.of(CacheSourceFailed) == [0]
    assert world.of(CacheSourceRecovered) == [8]


async def test_a_source_that_comes_and_goes_does_not_flood_the_log(world, autojump_clock):
    world.caching()
    async with world.run() as actor:
        for n in range(100):
            world.source.down = DOWN if n % 2 else None
            with suppress(QueryError):
                await world.get(actor, f"/{n}")
            await trio.sleep(1)
    assert len(world.of(CacheSourceFailed)) == len(world.of(CacheSourceRecovered)) == 2


async def test_counts_and_what_is_held_are_told(world, autojump_clock):
    world.caching(ttl=10.0, stale_while_revalidate=5.0, max_size=10_000, max_items=7)
    async with world.run() as actor:
        await world.get(actor, "/a", "/b")
        await trio.sleep(4)
        await world.get(actor, "/a")
        await world.get(actor, "/c")
        status = actor.current().caching
        assert (status.entries, status.rows, status.oldest) == (3, 3, 4)
        assert (status.hits, status.stale, status.misses) == (1, 0, 3)
        assert (status.max_size, status.max_items) == (10_000, 7)
        assert 3 * 512 < status.bytes < 3 * 1024
        assert actor.current().snapshot.rows == 3


async def test_a_source_that_is_not_reached_is_tried_until_it_is(world, autojump_clock):
    world.source.connect_failures = [SourceError("no name"), ConfigError("no secret"), None]
    world.caching(ttl=10.0)
    async with world.run() as actor:
        assert actor.status.value.problem.message == "no name"
        assert not actor.status.value.ready
        await actor.status.wait_until(lambda status: status.ready)
        assert (await world.get(actor, "/a")).status == "miss"
        assert actor.status.value.state is State.READY


async def test_a_failure_that_trying_again_does_not_mend_connects_anew(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        world.source.failures = [SourceError("HTTP 503")]
        with pytest.raises(QueryError):
            await world.get(actor, "/a")
        await trio.sleep(60)
        assert len(world.source.connects) == 1
        world.source.failures = [SourceError("certificate has expired", transient=False)]
        with pytest.raises(QueryError):
            await world.get(actor, "/a")
        world.source.connect_failures = [SourceError("certificate has expired", transient=False), None]
        await trio.sleep(60)
        assert len(world.source.connects) == 3
        assert (await world.get(actor, "/a")).status == "miss"
