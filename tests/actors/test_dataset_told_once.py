"""A dataset whose source tells only what is new, as a WebSocket does: nothing that was told comes a second time."""

import pytest
import trio

from caraway.config.model import FromUri, RefreshMode, RefreshOnStartup
from caraway.core.checkpoint import decode
from caraway.errors import ConfigError, SourceError
from caraway.model import Arrival, Cursor, Phase, State, StreamState
from support.dataset_world import World
from support.fake_stream import SCHEMA, FakeStream, append

BROKEN = SourceError("the connection broke.", remedy="Look at it.")


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, FakeStream(SCHEMA.empty_table()))
    made.config = made.config.__class__("t", FromUri("ws", "h", "ws://h"))
    return made.accelerate(refresh_mode=RefreshMode.APPEND)


def told(*changes, cursor=None):
    return Arrival(changes, Phase.LIVE, cursor)


def position_of(actor):
    return decode(actor.store.snapshot.value.cursor).position


async def test_a_connection_alone_makes_it_ready(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(1)
        assert (actor.status.value.state, actor.status.value.ready) == (State.REFRESHING, False)
        world.source.say(told())
        await trio.sleep(1)
        assert (actor.status.value.state, actor.status.value.ready) == (State.READY, True)
        assert actor.current().stream.state is StreamState.LIVE
        assert actor.store.snapshot.value.rows == 0


async def test_rows_stay_over_losses_and_the_cursor_goes_with_them(world, autojump_clock):
    world.source.scripts = [[told(), told(append(1), cursor=Cursor("a")), BROKEN], [told(cursor=Cursor("a"))]]
    async with world.run() as actor:
        await trio.sleep(60)
        assert [cursor for _, cursor in world.source.follows] == [None, "a"]
        world.source.say(told(append(2), cursor=Cursor("b")))
        await trio.sleep(1)
        assert position_of(actor) == "b"
        assert [row["id"] for row in await world.rows()] == [1, 2]


async def test_without_a_cursor_rows_stay_all_the_same(world, autojump_clock):
    world.source.scripts = [[told(), told(append(1)), BROKEN], [told(), told(append(2))]]
    async with world.run():
        await trio.sleep(60)
        assert [row["id"] for row in await world.rows()] == [1, 2]


@pytest.mark.parametrize("keys", [{"refresh_on_startup": RefreshOnStartup.ALWAYS}, {}])
async def test_a_restart_goes_on_where_it_was(world, autojump_clock, keys):
    world.accelerate(refresh_mode=RefreshMode.APPEND, **keys)
    world.source.scripts = [[told(), told(append(1), cursor=Cursor("a"))], [told(cursor=Cursor("a"))]]
    for _ in range(2):
        async with world.run():
            await trio.sleep(10)
            assert [row["id"] for row in await world.rows()] == [1]
    assert [cursor for _, cursor in world.source.follows] == [None, "a"]


async def test_no_copy_can_be_asked_for(world, autojump_clock):
    world.source.scripts = [[told(), told(append(1))]]
    async with world.run() as actor:
        await trio.sleep(1)
        with pytest.raises(ConfigError, match="tells only what is new"):
            actor.request_refresh()
        with pytest.raises(ConfigError, match="tells only what is new"):
            actor.set_refresh_sql("SELECT * FROM t WHERE id > 1")
        await trio.sleep(10)
        assert len(world.source.follows) == 1
        assert [row["id"] for row in await world.rows()] == [1]
