"""Budgets, a store that fails, and what is removed; what queries get meanwhile."""

import pytest
import trio

from caraway.core.predicate import Compare, Literal
from caraway.core.row_shares import ALL, share_of
from caraway.errors import QueryError, QueryFailure, SourceError, StoreError
from caraway.events import CacheNotStored, RetentionFinished
from caraway.model import State
from support.caching_world import CachingWorld
from support.dataset_world import settle
from support.fake_requests import FakeRequests, path

FULL = StoreError("No space left on device", remedy="Make room.")


@pytest.fixture
def world(tmp_path):
    return CachingWorld(tmp_path, FakeRequests())


def sized(size):
    """Contents of so many bytes for each path."""
    return lambda request: [request.path + "x" * (size - len(request.path))]


# --- budgets ---------------------------------------------------------------------------------------------------------


async def test_the_least_recently_used_entries_go_so_that_the_budget_is_kept(world, autojump_clock):
    world.source.answer = sized(10_000)
    world.caching(ttl=1e6, max_size=60_000)
    async with world.run() as actor:
        for n in range(30):
            await world.get(actor, f"/{n}")
            await world.get(actor, "/0")
            status = actor.current().caching
            assert status.bytes <= 60_000
            assert status.rows == actor.store.snapshot.value.rows
        assert status.entries == 5
        assert status.evictions == {"size": 25}
        shown = await world.ask(actor)
    assert sorted(content.rstrip("x") for content in shown.contents) == ["/0", "/26", "/27", "/28", "/29"]
    assert world.source.asked["/0"] == 1


async def test_the_number_of_rows_is_kept_to(world, autojump_clock):
    world.source.answer = lambda request: [f"{request.path} {n}" for n in range(4)]
    world.caching(ttl=1e6, max_items=10)
    async with world.run() as actor:
        for n in range(5):
            await world.get(actor, f"/{n}")
            assert actor.current().caching.rows <= 10
        assert actor.current().caching.evictions == {"items": 3}
        assert len((await world.ask(actor)).contents) == 8


async def test_what_is_larger_than_the_budget_is_served_and_not_stored(world, autojump_clock):
    world.source.answer = lambda request: sized(100_000 if request.path == "/big" else 100)(request)
    world.caching(ttl=1e6, max_size=60_000)
    world.source.delay = 1.0
    async with world.run() as actor:
        await world.get(actor, "/a")
        for _ in range(2):
            shown = await world.get(actor, "/big")
            assert (len(shown.contents[0]), shown.status) == (100_000, "miss")
        both = await world.get(actor, "/a", "/big", "/b")
        assert sorted(map(len, both.contents)) == [100, 100, 100_000]
        assert actor.current().caching.entries == 2
        assert actor.current().caching.evictions == {}
        assert world.shared.spool.used == 0
        whole = await world.ask(actor, None, path("/big"))
        assert sorted(map(len, whole.contents)) == [100, 100, 100_000]
    assert world.source.asked == {"/a": 1, "/b": 1, "/big": 4}


async def test_a_thousand_who_want_what_is_too_large_share_one_file(world, autojump_clock):
    world.source.answer, world.source.delay = sized(100_000), 1.0
    world.caching(ttl=1e6, max_size=60_000)
    used = []

    async def one(actor):
        async with actor.resolve(world.scan(path("/big"))) as pinned:
            await trio.sleep(1)
            used.append(world.shared.spool.used)
            assert pinned.snapshot.data.paths[0].exists()

    async with world.run() as actor:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one, actor)
        assert max(used) < 110_000
        assert world.shared.spool.used == 0
        assert list((world.tmp_path / "spool").iterdir()) == []


async def test_who_leaves_while_it_is_put_aside_leaves_no_file(world, autojump_clock):
    world.source.answer, world.source.delay = sized(100_000), 1.0
    world.caching(ttl=1e6, max_size=60_000)
    async with world.run() as actor:
        for wait in (0.5, 1.0):
            with trio.move_on_after(wait):
                await world.get(actor, "/big")
        await settle()
        assert list((world.tmp_path / "spool").iterdir()) == []


async def test_a_scan_of_more_than_the_budget_is_answered_in_full(world, autojump_clock):
    world.source.answer = sized(10_000)
    world.caching(ttl=1e6, max_size=60_000)
    async with world.run() as actor:
        shown = await world.get(actor, *(f"/{n}" for n in range(40)))
        assert sorted(content.rstrip("x") for content in shown.contents) == sorted(f"/{n}" for n in range(40))
        assert actor.current().caching.bytes <= 60_000
        assert world.shared.spool.used == 0


async def test_scans_that_crowd_each_other_out_are_all_answered_in_full(world, autojump_clock):
    world.source.answer, world.source.delay = sized(10_000), lambda request: int(request.path[1:]) % 7 + 1.0
    world.caching(ttl=3.0, max_size=60_000)
    async with world.run() as actor:
        world.store.commit_delay = 0.5

        async def one(first):
            await trio.sleep(first % 5)
            paths = [f"/{n}" for n in range(first, first + 4)]
            shown = await world.get(actor, *paths)
            assert sorted(content.rstrip("x") for content in shown.contents) == sorted(paths)

        async with trio.open_nursery() as nursery:
            for first in range(0, 60, 2):
                nursery.start_soon(one, first)
        assert actor.current().caching.bytes <= 60_000
    assert world.shared.spool.used == 0


async def test_a_budget_that_was_lowered_is_kept_from_the_start(world, autojump_clock):
    world.caching(ttl=1e6)
    async with world.run() as actor:
        await world.get(actor, *(f"/{n}" for n in range(5)))
    world.caching(ttl=1e6, max_items=2)
    async with world.run() as actor:
        await settle()
        assert actor.current().caching.rows == 2
        assert actor.store.snapshot.value.rows == 2


# --- a store that fails ----------------------------------------------------------------------------------------------


async def test_a_full_disk_answers_all_the_same_says_so_and_heals(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        world.store.failures = [FULL] * 10
        for paths in (["/a"], ["/a", "/b"], ["/b"]):
            shown = await world.get(actor, *paths)
            assert (shown.status, shown.contents) == ("miss", [f"{path}?" for path in paths])
            await trio.sleep(100)
            assert actor.status.value.state is State.ERROR
            assert actor.status.value.problem.message == FULL.message
        world.store.failures.clear()
        await world.get(actor, "/c")
        assert actor.status.value.state is State.READY
        assert (await world.get(actor, "/c")).status == "hit"
    assert len(world.of(CacheNotStored)) == 1
    assert world.shared.spool.used == 0


async def test_what_was_stored_stands_in_while_the_store_takes_nothing(world, autojump_clock):
    world.source.answer = lambda request: [f"{trio.current_time():.0f}"]
    world.caching(ttl=10.0, stale_if_error=1000.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(11)
        world.store.failures = [FULL]
        assert (await world.get(actor, "/a")).contents == ["11"]
        world.source.down = SourceError("down")
        await trio.sleep(2)
        shown = await world.get(actor, "/a")
        assert (shown.contents, shown.status, shown.reading.age) == (["0"], "stale-if-error", 13)


async def test_where_there_is_no_room_at_all_the_query_is_told(world, autojump_clock):
    world.spool_bytes = 10
    world.__post_init__()
    world.caching(ttl=10.0)
    async with world.run() as actor:
        world.store.failures = [FULL]
        with pytest.raises(QueryError) as raised:
            await world.get(actor, "/a")
        assert raised.value.failure is QueryFailure.RESOURCES
        assert (await world.get(actor, "/a")).status == "miss"


async def test_one_answer_that_the_store_refuses_keeps_no_other_from_it(world, autojump_clock):
    world.source.delay = 1.0
    world.caching(ttl=10.0)
    async with world.run() as actor:
        refused = StoreError("no such value", transient=False)
        world.store.failures = [refused, refused]  # the group, and of it one
        await world.get(actor, "/a", "/b", "/c")
        assert actor.current().caching.entries == 2
        assert len((await world.ask(actor)).contents) == 2


async def test_an_answer_of_other_columns_is_a_failure_of_the_source(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        narrow = world.source.schema_.remove(4)
        good, world.source.rows = world.source.rows, lambda request, at: good(request, at).select(narrow.names)
        with pytest.raises(QueryError, match=r"does not fit the columns.*'content' is missing"):
            await world.get(actor, "/a")
        assert actor.status.value.state is State.ERROR


# --- what goes -------------------------------------------------------------------------------------------------------


async def test_entries_of_no_more_use_are_swept(world, autojump_clock):
    world.caching(ttl=10.0, stale_while_revalidate=20.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(40)
        await world.get(actor, "/b")
        await trio.sleep(21)
        assert (await world.ask(actor)).contents == ["/b?"]
        await trio.sleep(30)
        assert (await world.ask(actor)).contents == []
        assert actor.current().caching.evictions == {"expired": 2}


async def test_stock_for_a_failing_source_is_kept_as_long_as_it_may_stand_in(world, autojump_clock):
    world.caching(ttl=10.0, stale_if_error=float("inf"))
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(80_000)
        assert (await world.ask(actor)).contents == ["/a?"]


async def test_a_retention_takes_whole_entries_and_the_index_follows(world, autojump_clock):
    world.source.answer = lambda request: [f"{request.path} {n}" for n in range(3)]
    gone = Compare("content", "=", Literal("/a 1", "utf8"))
    keys = {"retention_check_enabled": True, "retention_check_interval": 30.0, "retention_sql": gone}
    world.caching(ttl=1000.0, keys=keys)
    async with world.run() as actor:
        await world.get(actor, "/a", "/b")
        before = actor.generation
        await trio.sleep(31)
        status = actor.current().caching
        assert (status.entries, status.rows, status.evictions) == (1, 3, {"retention": 1})
        assert len((await world.ask(actor)).contents) == 3
        assert (await world.get(actor, "/a")).status == "miss"
        assert actor.generation != before
    assert [event.rows for _, event in world.events if isinstance(event, RetentionFinished)] == [3]


# --- the table clock -------------------------------------------------------------------------------------------------


async def rises(actor, then):
    """Which parts of the generation rise."""
    before = actor.generation
    await then
    after = actor.generation
    assert after.epoch == before.epoch
    return [part for part, (old, new) in enumerate(zip(before.parts, after.parts, strict=True)) if old != new]


async def test_a_share_rises_when_rows_changed_and_not_when_they_came_again(world, autojump_clock):
    world.source.schema_ = world.source.schema_
    world.caching(ttl=10.0)
    async with world.run() as actor:
        assert len(actor.generation.parts) == 257
        assert await rises(actor, world.get(actor, "/a")) == [ALL]
        reading = (await world.get(actor, "/a")).reading
        (share,) = reading.shares
        assert reading.generation == actor.generation
        await trio.sleep(11)
        assert await rises(actor, world.get(actor, "/a")) == []
        await trio.sleep(11)
        world.source.answer = lambda request: ["other"]
        assert await rises(actor, world.get(actor, "/a")) == [share, ALL]
        assert actor.generation.changed_at == 22
        await trio.sleep(11)
        world.source.answer = lambda request: []
        assert await rises(actor, world.get(actor, "/a")) == [share, ALL]
        await trio.sleep(11)
        world.source.answer = lambda request: ["again"]
        assert await rises(actor, world.get(actor, "/a")) == [share, ALL]


async def test_the_reading_of_a_query_that_fetched_is_of_after_that(world, autojump_clock):
    world.caching()
    async with world.run() as actor:
        for n in range(3):
            world.source.answer = lambda request, n=n: [str(n)]
            reading = (await world.get(actor, "/a")).reading
            assert reading.generation == actor.generation
            assert reading.generation.parts[reading.shares[0]] == n


async def test_shares_of_a_scan_are_those_of_its_requests(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        shares = {(await world.get(actor, f"/{n}")).reading.shares[0] for n in range(5)}
        assert set((await world.get(actor, *(f"/{n}" for n in range(5)))).reading.shares) == shares
        assert all(0 <= share < ALL for share in shares)
        assert share_of("ff" * 16) == 255
