"""What a query of a dataset in caching mode gets by what it asks for, and which columns there are."""

import pyarrow as pa
import pytest
import trio
import trio.testing

from caraway.config.model import OnZeroResults
from caraway.core.predicate import Compare, Like, Literal, all_of
from caraway.errors import QueryError, QueryFailure, SourceError
from support.caching_world import CachingWorld
from support.dataset_world import timed
from support.fake_requests import FETCHED, SCHEMA, FakeRequests, named, path
from support.fake_source import FakeSource

DOWN = SourceError("HTTP 503 from the origin.", remedy="Wait.")


@pytest.fixture
def world(tmp_path):
    return CachingWorld(tmp_path, FakeRequests())


# --- what is asked ---------------------------------------------------------------------------------------------------


async def test_without_a_condition_all_that_is_stored_is_shown_and_nothing_fetched(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(4)
        await world.get(actor, "/b")
        await trio.sleep(1)
        shown = await world.ask(actor)
        assert (shown.contents, shown.status, shown.reading.age) == (["/a?", "/b?"], "hit", 5)
        assert (shown.reading.entries, shown.reading.shares) == (2, None)
        await trio.sleep(6)
        shown = await world.ask(actor)
        assert (shown.contents, shown.status, shown.reading.age) == (["/a?", "/b?"], "stale", 11)
    assert len(world.source.calls) == 2


async def test_a_scan_of_everything_beside_one_of_a_request(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        shown = await world.ask(actor, path("/b"), None)
        assert (shown.contents, shown.status) == (["/a?", "/b?"], "miss")
        assert shown.reading.shares is None
    assert world.source.asked == {"/a": 1, "/b": 1}


async def test_each_scan_of_a_self_join_brings_its_own(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        shown = await world.ask(actor, path("/a"), path("/b"), path("/a"))
        assert shown.contents == ["/a?", "/b?"]
        assert shown.reading.entries == 2
    assert world.source.asked == {"/a": 1, "/b": 1}


async def test_a_get_never_answers_for_a_post_nor_the_other_way(world, autojump_clock):
    world.source.answer = lambda request: [f"{request.path} {request.body!r}"]
    world.caching(ttl=10.0)
    async with world.run() as actor:
        got = await world.get(actor, "/a")
        posted = await world.ask(actor, named(path="/a", body="x"))
        again = await world.get(actor, "/a")
    assert [each.contents for each in (got, posted, again)] == [["/a None"], ["/a 'x'"], ["/a None"]]
    assert [call.request.body for call in world.source.calls] == [None, "x"]


async def test_an_explicitly_empty_post_passes_the_store_by(world, autojump_clock):
    world.source.answer = lambda request: [f"{request.body!r} {len(world.source.calls)}"]
    world.source.delay = 1.0
    world.caching(ttl=10.0)
    async with world.run() as actor:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.ask, actor, named(path="/a", body=""))
            nursery.start_soon(world.ask, actor, named(path="/a", body=""))
        shown = await world.ask(actor, named(path="/a", body=""))
        assert (shown.contents, shown.status, shown.reading.shares) == (["'' 3"], "miss", None)
        assert (await world.ask(actor)).contents == []
        assert (await world.get(actor, "/a")).contents == ["None 4"]
        both = await world.ask(actor, named(path="/a"), named(path="/a", body=""))
        assert both.contents == ["'' 5", "None 4"]
    assert world.shared.spool.used == 0


async def test_the_answer_is_whole_whatever_else_the_query_asks(world, autojump_clock):
    world.source.answer = lambda request: ["1", "2", "3"]
    world.caching(ttl=10.0)
    other = Compare("content", "=", Literal("none", "utf8"))
    async with world.run() as actor:
        assert (await world.ask(actor, all_of(path("/a"), other))).contents == ["1", "2", "3"]
        assert (await world.get(actor, "/a")).status == "hit"


async def test_a_condition_that_can_not_be_told_is_refused(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        with pytest.raises(QueryError, match=r"request_path .*by =, IN, OR .*IN \(SELECT") as raised:
            await world.ask(actor, Like("request_path", "/a%"), unclear=("request_path",))
        assert raised.value.failure is QueryFailure.INVALID
        with pytest.raises(QueryError, match="not allowed"):
            await world.get(actor, "/forbidden")


async def test_a_table_without_request_columns_has_one_request(world, autojump_clock):
    world.source.request_columns = ()
    world.caching(ttl=10.0)
    async with world.run() as actor:
        assert (await world.ask(actor)).status == "miss"
        assert (await world.ask(actor)).contents == ["?"]
    assert len(world.source.calls) == 1


async def test_no_rows_are_remembered_for_the_ttl_and_stored_nowhere(world, autojump_clock):
    world.source.answer = lambda request: []
    world.caching(ttl=10.0, stale_if_error=100.0)
    async with world.run() as actor:
        assert (await world.get(actor, "/a")).status == "miss"
        await trio.sleep(10)
        shown = await world.get(actor, "/a")
        assert (shown.contents, shown.status, shown.reading.age) == ([], "hit", 10)
        assert actor.current().caching.entries == 0
        await trio.sleep(0.001)
        assert (await world.get(actor, "/a")).status == "miss"
        await trio.sleep(11)
        world.source.down = DOWN
        with pytest.raises(QueryError, match="503"):
            await world.get(actor, "/a")
    assert len(world.source.calls) == 3


async def test_no_rows_replace_those_that_were(world, autojump_clock):
    world.caching(ttl=10.0)
    async with world.run() as actor:
        await world.get(actor, "/a")
        await trio.sleep(11)
        world.source.answer = lambda request: []
        assert (await world.get(actor, "/a")).contents == []
        assert (await world.ask(actor)).contents == []


async def test_several_rows_are_replaced_at_once_by_another_number(world, autojump_clock):
    world.source.answer = lambda request: [f"{request.path} {n} at {trio.current_time():.0f}" for n in range(3)]
    world.caching(ttl=10.0)
    async with world.run() as actor:
        await world.get(actor, "/a", "/b")
        await trio.sleep(11)
        world.source.answer = lambda request: [f"{request.path} new"]
        assert (await world.get(actor, "/a")).contents == ["/a new"]
        assert (await world.ask(actor)).contents == ["/a new", "/b 0 at 0", "/b 1 at 0", "/b 2 at 0"]


# --- columns ---------------------------------------------------------------------------------------------------------


async def test_what_is_stored_beside_the_columns_is_not_announced(world, autojump_clock):
    world.caching(ttl=10.0)
    world.config = world.keys().config
    async with world.run() as actor:
        await world.get(actor, "/a")
        announced = pa.ipc.read_schema(pa.py_buffer(actor.table.value.schema))
        assert announced.equals(SCHEMA)
        assert set(actor.store.spec.schema.names) - set(announced.names) == {
            "_fetched_at",
            "__spice_cache_namespace",
            "__caraway_entry",
            "__caraway_bytes",
        }


async def test_a_time_that_the_source_gives_is_shown_as_it_is(world, autojump_clock):
    world.source.schema_ = SCHEMA.append(FETCHED)
    world.caching(ttl=10.0)
    async with world.run() as actor:
        shown = await world.get(actor, "/a")
        assert "_fetched_at" in pa.ipc.read_schema(pa.py_buffer(actor.table.value.schema)).names
        assert shown.rows["_fetched_at"].null_count == 0


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (pa.field("__Spice_Cache_Namespace", pa.utf8()), "reserved"),
        (pa.field("__caraway_entry", pa.utf8()), "reserved"),
        (pa.field("_fetched_at", pa.utf8()), "a timestamp"),
    ],
)
async def test_a_reserved_column_of_the_source_is_an_error(world, field, message, autojump_clock):
    world.source.schema_ = SCHEMA.append(field)
    world.caching(ttl=10.0)
    async with world.run() as actor:
        assert message in actor.status.value.problem.message
        assert not actor.status.value.ready
        with pytest.raises(QueryError, match="not open") as raised:
            await world.get(actor, "/a")
        assert raised.value.failure is QueryFailure.NOT_READY


async def test_on_zero_results_has_no_part_in_it(world, autojump_clock):
    world.caching(ttl=10.0, keys={"on_zero_results": OnZeroResults.USE_SOURCE})
    async with world.run() as actor:
        assert not actor.table.value.use_source_on_zero


async def test_a_source_without_requests_is_an_error(world, autojump_clock):
    world.source = FakeSource(timed((1, 0)))
    world.caching(ttl=10.0)
    async with world.run() as actor:
        assert "by request, which this source does not have" in actor.status.value.problem.message
