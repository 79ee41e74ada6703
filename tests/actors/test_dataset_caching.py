"""What a query of a dataset in caching mode gets, by the age of what is kept."""

import pytest
import trio
import trio.testing

from caraway.errors import QueryError, QueryFailure, SourceError
from caraway.model import State
from support.caching_world import CachingWorld
from support.fake_requests import FakeRequests


@pytest.fixture
def world(tmp_path):
    return CachingWorld(tmp_path, FakeRequests())


async def test_it_is_ready_at_once_and_asks_nothing(world, autojump_clock):
    world.source.down = SourceError("the origin is down")
    world.caching(ttl=10.0)
    async with world.run() as actor:
        assert actor.status.value.ready
        assert actor.status.value.state is State.READY
        assert actor.table.value.request_columns == world.source.request_columns
        assert actor.log.value is None
        shown = await world.ask(actor)
    assert shown.contents == []
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
        await trio.testing.wait_all_tasks_blocked()
    assert world.source.asked == {"/a": 1 if status == "hit" else 2}


@pytest.mark.parametrize(("after", "served"), [(15, True), (15.001, False)])
async def test_what_expired_stands_in_for_a_failing_source_up_to_the_end_of_its_window(
    world, after, served, autojump_clock
):
    world.caching(ttl=10.0, stale_if_error=5.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(after)
        world.source.down = SourceError("HTTP 503", remedy="Wait.")
        if served:
            shown = await world.get(actor, "/a")
            assert (shown.contents, shown.status, shown.reading.age) == (["/a?"], "stale-if-error", 15)
        else:
            with pytest.raises(QueryError, match=r"HTTP 503") as raised:
                await world.get(actor, "/a")
            assert raised.value.failure is QueryFailure.SOURCE
