"""Caching over restarts, for several principals, and what it fetches by itself."""

from datetime import timedelta

import pyarrow as pa
import pytest
import trio

from caraway.config.model import RefreshOnStartup, RefreshSql, StorageMode
from caraway.errors import ConfigError, QueryError, SourceError
from caraway.events import CacheOpened, RefreshFailed, RefreshFinished
from caraway.model import SYSTEM, Principal, RefreshOverrides, State
from support.caching_world import CachingWorld
from support.dataset_world import settle
from support.fake_requests import FETCHED, SCHEMA, FakeRequests, named, path

DOWN = SourceError("down")
ALICE, BOB = Principal("apikey:a"), Principal("apikey:b")


@pytest.fixture
def world(tmp_path):
    return CachingWorld(tmp_path, FakeRequests())


def sql(condition, text="SELECT * FROM t WHERE .."):
    return RefreshSql(text, None, condition)


# --- principals ------------------------------------------------------------------------------------------------------


async def test_two_principals_never_share_an_entry(world, autojump_clock):
    world.source.answer = lambda request: [f"call {len(world.source.calls)}"]
    world.caching(ttl=10.0, stale_while_revalidate=10.0, stale_if_error=100.0)
    async with world.run() as actor:
        seen = [(await world.get(actor, "/a", principal=who)).contents for who in (ALICE, BOB, SYSTEM)]
        assert seen == [["call 1"], ["call 2"], ["call 3"]]
        assert [call.namespace for call in world.source.calls] == ["apikey:a", "apikey:b", "system"]

        for who, call in ((ALICE, 1), (BOB, 2), (SYSTEM, 3)):  # fresh, and all of it
            assert (await world.get(actor, "/a", principal=who)).contents == [f"call {call}"]
            assert (await world.ask(actor, principal=who)).contents == [f"call {call}"]
        assert (await world.ask(actor)).contents == []

        await trio.sleep(11)  # stale: each revalidates its own
        assert (await world.get(actor, "/a", principal=ALICE)).contents == ["call 1"]
        await settle()
        assert world.source.calls[-1].namespace == "apikey:a"
        assert (await world.get(actor, "/a", principal=ALICE)).contents == ["call 4"]
        assert (await world.get(actor, "/a", principal=BOB)).contents == ["call 2"]
        await settle()

        await trio.sleep(21)  # the source fails
        world.source.down = DOWN
        assert (await world.get(actor, "/a", principal=ALICE)).contents == ["call 4"]
        assert (await world.get(actor, "/a", principal=BOB)).contents == ["call 5"]
        with pytest.raises(QueryError, match="down"):
            await world.get(actor, "/a", principal=Principal("apikey:c"))


async def test_two_principals_never_share_a_flight(world, autojump_clock):
    world.source.answer, world.source.delay = lambda request: [f"call {len(world.source.calls)}"], 1.0
    world.caching(ttl=10.0)
    seen = {}

    async def one(actor, who):
        seen.setdefault(who.id, set()).add(*(await world.get(actor, "/a", principal=who)).contents)

    async with world.run() as actor, trio.open_nursery() as nursery:
        for who in (ALICE, BOB, ALICE, BOB):
            nursery.start_soon(one, actor, who)
    assert sorted(call.namespace for call in world.source.calls) == ["apikey:a", "apikey:b"]
    assert len(seen["apikey:a"]) == len(seen["apikey:b"]) == 1


async def test_a_failure_for_one_is_not_remembered_for_another(world, autojump_clock):
    world.source.failures = [DOWN]
    world.caching(ttl=10.0)
    async with world.run() as actor:
        with pytest.raises(QueryError):
            await world.get(actor, "/a", principal=ALICE)
        assert (await world.get(actor, "/a", principal=BOB)).status == "miss"


# --- restart ---------------------------------------------------------------------------------------------------------


async def test_what_expired_is_stock_for_the_next_life_even_if_the_source_is_down(world, autojump_clock):
    world.source.answer = lambda request: [f"{request.path} 1", f"{request.path} 2"]
    world.caching(mode=StorageMode.FILE, ttl=10.0, stale_if_error=float("inf"))
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(3)
        await world.get(actor, "/b", principal=ALICE)
        await world.ask(actor, named(path="/c", query="q", body="post", headers="{}"))
        before = actor.current().caching
    await trio.sleep(100)
    world.source.down = DOWN
    async with world.run() as actor:
        assert actor.status.value.ready
        after = actor.current().caching
        assert (after.entries, after.rows, after.bytes, after.oldest) == (3, 6, before.bytes, 103)
        shown = await world.get(actor, "/a")
        assert (shown.contents, shown.status, shown.reading.age) == (["/a 1", "/a 2"], "stale-if-error", 103)
        assert (await world.get(actor, "/b", principal=ALICE)).reading.age == 100
        post = named(path="/c", query="q", body="post", headers="{}")
        assert (await world.ask(actor, post)).status == "stale-if-error"
        with pytest.raises(QueryError):
            await world.get(actor, "/b")
    assert [event.entries for _, event in world.events if isinstance(event, CacheOpened)] == [3]


async def test_ages_go_on_over_a_restart_to_the_end_of_the_windows(world, autojump_clock):
    world.source.schema_ = SCHEMA.append(FETCHED)
    world.caching(mode=StorageMode.FILE, ttl=10.0, stale_while_revalidate=5.0, stale_if_error=20.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
    for at, status in ((10, "hit"), (15, "stale"), (30, "stale-if-error")):
        await trio.sleep(at - trio.current_time())
        world.source.down = DOWN
        async with world.run() as actor:
            assert (await world.get(actor, "/a")).status == status
            await settle()
    await trio.sleep(0.001)
    async with world.run() as actor:
        with pytest.raises(QueryError):
            await world.get(actor, "/a")


async def test_rows_that_do_not_say_when_they_were_fetched_stand_in_only_where_age_does_not_matter(
    world, autojump_clock
):
    world.source.schema_ = SCHEMA.append(FETCHED)
    good = world.source.rows

    def rows(request, at):
        batch = good(request, at)
        return batch.set_column(batch.num_columns - 1, FETCHED, pa.nulls(1, FETCHED.type))

    world.source.rows = rows
    for window, served in ((1e9, False), (float("inf"), True)):
        world.source.down = None
        world.caching(mode=StorageMode.FILE, ttl=10.0, stale_if_error=window)
        async with world.run() as actor:
            assert (await world.get(actor, "/a")).status == "miss"
        world.source.down = DOWN
        async with world.run() as actor:
            if served:
                shown = await world.get(actor, "/a")
                assert (shown.status, shown.reading.age) == ("stale-if-error", 2**31)
            else:
                with pytest.raises(QueryError):
                    await world.get(actor, "/a")


async def test_a_table_of_another_mode_is_not_taken_for_a_cache(world, autojump_clock):
    world.caching(mode=StorageMode.FILE, ttl=10.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
    world.disk.spec = type(world.disk.spec)("t", SCHEMA)
    async with world.run() as actor:
        message = actor.status.value.problem.message
        assert "another refresh_mode" in message
        assert "file_update" in message
        assert actor.status.value.state is State.ERROR


async def test_other_columns_are_an_error_that_names_them_or_an_empty_cache(world, autojump_clock):
    world.caching(mode=StorageMode.FILE, ttl=10.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
    world.source.schema_ = SCHEMA.append(SCHEMA.field("content").with_name("more").with_nullable(True))
    async with world.run() as actor:
        assert "other columns than its source now: more" in actor.status.value.problem.message
    world.caching(mode=StorageMode.FILE_UPDATE, ttl=10.0)
    async with world.run() as actor:
        assert actor.status.value.state is State.READY
        assert (await world.ask(actor)).contents == []
        assert (await world.get(actor, "/a")).status == "miss"


# --- what it fetches by itself ---------------------------------------------------------------------------------------


async def test_refresh_sql_warms_up_and_readiness_does_not_wait(world, autojump_clock):
    world.source.delay = 5.0
    world.caching(ttl=10.0, keys={"refresh_sql": sql(path("/a", "/b"))})
    async with world.run() as actor:
        assert actor.status.value.ready
        await trio.sleep(5.001)
        assert (await world.get(actor, "/a", "/b")).status == "hit"
        assert actor.status.value.state is State.READY
        assert actor.status.value.last_refresh is not None
    assert world.source.asked == {"/a": 1, "/b": 1}
    assert [(event.mode, event.rows) for _, event in world.events if isinstance(event, RefreshFinished)] == [
        ("caching", 2)
    ]


@pytest.mark.parametrize(("always", "asked"), [(False, {"/old": 1}), (True, {"/old": 1, "/fresh": 1})])
async def test_a_start_warms_what_is_not_fresh_or_with_always_all(world, always, asked, autojump_clock):
    world.caching(mode=StorageMode.FILE, ttl=10.0, stale_if_error=100.0)
    async with world.run() as actor:
        await world.get(actor, "/old")
        await trio.sleep(11)
        await world.get(actor, "/fresh", "/other")
    world.source.calls.clear()
    when = RefreshOnStartup.ALWAYS if always else RefreshOnStartup.AUTO
    keys = {"refresh_sql": sql(path("/old", "/fresh")), "refresh_on_startup": when}
    world.caching(mode=StorageMode.FILE, ttl=10.0, stale_if_error=100.0, keys=keys)
    async with world.run():
        await settle()
    assert world.source.asked == asked


async def test_always_without_refresh_sql_fetches_all_that_is_stored_for_whom_it_is(world, autojump_clock):
    world.caching(mode=StorageMode.FILE, ttl=10.0)
    async with world.run() as actor:
        await world.get(actor, "/a", principal=ALICE)
        await world.ask(actor, named(path="/b", body="post"))
    world.source.calls.clear()
    world.caching(mode=StorageMode.FILE, ttl=10.0, keys={"refresh_on_startup": RefreshOnStartup.ALWAYS})
    async with world.run():
        await settle()
    found = {(call.namespace, call.request.path, call.request.body) for call in world.source.calls}
    assert found == {("apikey:a", "/a", None), ("public", "/b", "post")}


async def test_the_schedule_fetches_entries_past_their_ttl_ten_at_a_time(world, autojump_clock):
    world.caching(ttl=10.0, stale_if_error=float("inf"), keys={"refresh_check_interval": 60.0})
    async with world.run() as actor:
        await world.get(actor, *(f"/{n}" for n in range(35)))
        await trio.sleep(55)
        await world.get(actor, "/fresh")
        world.source.delay, world.source.most_fetching = 1.0, 0
        await trio.sleep(10)
        assert world.source.most_fetching == 10
        assert world.source.asked == {"/fresh": 1, **{f"/{n}": 2 for n in range(35)}}
        assert {at for at, path in world.source.paths if at > 55} == {60, 61, 62, 63}
        assert actor.status.value.next_refresh == actor.status.value.last_refresh + timedelta(seconds=60)
        await trio.sleep(60)
        assert world.source.asked["/fresh"] == 2


async def test_the_schedule_fetches_what_refresh_sql_names_too(world, autojump_clock):
    keys = {"refresh_check_interval": 60.0, "refresh_sql": sql(path("/named"))}
    world.caching(ttl=1000.0, keys=keys)
    async with world.run() as actor:
        await trio.sleep(1)
        await world.get(actor, "/other")
        await trio.sleep(130)
    assert world.source.paths == [(0, "/named"), (1, "/other"), (60, "/named"), (120, "/named")]


async def test_a_request_fetches_what_it_names_or_else_all(world, autojump_clock):
    world.caching(ttl=1000.0)
    async with world.run() as actor:
        await world.get(actor, "/a", "/b")
        world.source.calls.clear()
        actor.request_refresh()
        await settle()
        assert world.source.asked == {"/a": 1, "/b": 1}
        actor.request_refresh(RefreshOverrides(refresh_sql="SELECT * FROM t WHERE request_path IN ('/b', '/c')"))
        await settle()
        assert world.source.asked == {"/a": 1, "/b": 2, "/c": 1}
        actor.set_refresh_sql("SELECT * FROM t WHERE request_path = '/d'")
        actor.request_refresh(RefreshOverrides(refresh_mode="caching"))
        await settle()
        assert world.source.asked == {"/a": 1, "/b": 2, "/c": 1, "/d": 1}
        assert all(call.anew for call in world.source.calls)
        with pytest.raises(ConfigError, match="'full' is not possible"):
            actor.request_refresh(RefreshOverrides(refresh_mode="full"))
        with pytest.raises(ConfigError):
            actor.set_refresh_sql("SELECT nothing")


async def test_a_request_that_is_not_allowed_is_a_problem_of_refresh_sql(world, autojump_clock):
    world.caching(ttl=10.0, keys={"refresh_sql": sql(path("/forbidden"))})
    async with world.run() as actor:
        await settle()
        assert "refresh_sql" in actor.status.value.problem.message
        assert "not allowed" in actor.status.value.problem.message
        assert (await world.get(actor, "/a")).status == "miss"
        assert actor.status.value.state is State.ERROR  # a query that works does not mend it
    assert len(world.of(RefreshFailed)) == 1


async def test_what_one_request_names_wrongly_is_told_and_stays_no_problem_of_the_dataset(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        actor.request_refresh(RefreshOverrides(refresh_sql="SELECT * FROM t WHERE request_path = '/forbidden'"))
        await settle()
        assert actor.status.value.state is State.READY
        assert len(world.of(RefreshFailed)) == 1
        actor.set_refresh_sql("SELECT * FROM t WHERE request_path = '/forbidden'")
        actor.request_refresh()
        await settle()
        assert actor.status.value.state is State.ERROR
        actor.request_refresh(RefreshOverrides(refresh_sql="SELECT * FROM t WHERE request_path = '/a'"))
        await settle()
        assert actor.status.value.state is State.ERROR


async def test_a_refresh_gives_up_on_a_dead_source_and_the_next_one_tries_again(world, autojump_clock):
    world.caching(ttl=10.0, stale_if_error=float("inf"), keys={"refresh_check_interval": 60.0})
    async with world.run() as actor:
        await world.get(actor, *(f"/{n}" for n in range(100)))
        world.source.calls.clear()
        world.source.down = DOWN
        await trio.sleep(61)
        assert 10 <= len(world.source.calls) <= 20
        assert actor.status.value.state is State.ERROR
        assert actor.status.value.failures >= 10
        world.source.down = None
        await trio.sleep(60)
        assert actor.status.value.state is State.READY
        assert len((await world.ask(actor)).contents) == 100
        assert (await world.ask(actor)).reading.age < 10


async def test_places_taken_by_a_refresh_are_not_there_for_stale_entries(world, autojump_clock):
    world.caching(ttl=10.0, stale_while_revalidate=1e6)
    async with world.run() as actor:
        await world.get(actor, *(f"/{n}" for n in range(30)))
        await trio.sleep(11)
        world.source.delay, world.source.most_fetching = 1.0, 0
        actor.request_refresh()
        await trio.sleep(0.5)
        for n in range(30):
            assert (await world.get(actor, f"/{n}")).status == "stale"
        assert world.source.most_fetching == 10
        assert actor.current().caching.skipped == 20
