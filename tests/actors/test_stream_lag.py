"""The lag of followed datasets, from messages to the status, on the virtual clock."""

import pytest
import trio

from caraway.config.model import RefreshMode
from caraway.errors import SourceError, StoreError
from caraway.events import DatasetCaughtUp, DatasetFellBehind
from caraway.model import State, StreamState
from support.dataset_world import World
from support.fake_stream import END, SCHEMA, FakeStream, append, copied, heartbeat, live, news, told

AWAY = SourceError("the core at 127.0.0.1:1 is unreachable.", remedy="Start it.")
STALLED = "Append stream stalled; acceleration lag climbing: t is "


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FakeStream(SCHEMA.empty_table())).accelerate(refresh_mode=RefreshMode.APPEND)


class Upstream:
    """Says a heartbeat of its end each second, while it is not paused."""

    def __init__(self, source, end):
        self.source, self.end, self.sent, self.paused = source, end, end, False

    async def run(self):
        while True:
            if not self.paused and self.source.following:
                self.source.say(heartbeat(self.sent) if self.sent == self.end else self._late())
            await trio.sleep(1)

    def _late(self):
        return live(end=self.sent, head=self.end)


async def followed(world, nursery, actor, end=3):
    """A stream that is live, with its heartbeats."""
    upstream = Upstream(world.source, end)
    world.source.say(*copied(append(1, 2, 3), end=end))
    await actor.status.wait_until(lambda status: status.state is State.READY)
    nursery.start_soon(upstream.run)
    return upstream


def status(actor):
    return actor.status.value


async def test_heartbeats_keep_an_idle_stream_current(world, autojump_clock):
    async with trio.open_nursery() as nursery, world.run() as actor:
        await followed(world, nursery, actor)
        for _ in range(40):
            await trio.sleep(7.3)
            assert status(actor).state is State.READY
            assert (world.shared.wall() - actor.current().proven_at).total_seconds() < 1.001
        nursery.cancel_scope.cancel()
    assert world.of(DatasetFellBehind) == []


async def test_an_upstream_that_freezes_and_goes_on(world, autojump_clock):
    async with trio.open_nursery() as nursery, world.run() as actor:
        upstream = await followed(world, nursery, actor)
        await trio.sleep(10.5)
        upstream.paused = True
        await trio.sleep(59)
        assert status(actor).state is State.READY
        await trio.sleep(1)
        assert status(actor).state is State.ERROR
        assert status(actor).ready
        assert status(actor).problem.message.startswith(f"{STALLED}1m behind, acceptable are 1m; it shows fake:x as of")
        assert "no message comes: network partition or upstream dataset paused" in status(actor).problem.message
        assert actor.current().stream.state is StreamState.LIVE
        upstream.paused = False
        await trio.sleep(2)
        assert (status(actor).state, status(actor).problem) == (State.READY, None)
        nursery.cancel_scope.cancel()
    assert (len(world.of(DatasetFellBehind)), len(world.of(DatasetCaughtUp))) == (1, 1)


async def test_an_upstream_that_is_gone_for_longer_than_the_window(world, autojump_clock):
    async with trio.open_nursery() as nursery, world.run() as actor:
        await followed(world, nursery, actor)
        await trio.sleep(10.5)
        world.source.connect_failures = [AWAY] * 100
        world.source.say(AWAY)
        await trio.sleep(59)
        assert status(actor).state is State.READY
        await trio.sleep(1)
        assert status(actor).problem.message.endswith(f"There is no connection: {AWAY.message}")
        assert status(actor).problem.remedy == "Start it."
        assert actor.current().stream.behind is None
        world.source.connect_failures = []
        world.source.scripts = [[heartbeat(3)]]
        await trio.sleep(60)
        assert status(actor).state is State.READY
        assert actor.current().stream.snapshots == 1
        nursery.cancel_scope.cancel()
    assert (len(world.of(DatasetFellBehind)), len(world.of(DatasetCaughtUp))) == (1, 1)


async def test_an_upstream_that_does_not_send_what_it_has(world, autojump_clock):
    async with trio.open_nursery() as nursery, world.run() as actor:
        upstream = await followed(world, nursery, actor)
        await trio.sleep(10.5)
        upstream.end = 1000
        await trio.sleep(30)
        assert actor.current().stream.behind == 997
        assert status(actor).state is State.READY
        await trio.sleep(31)
        assert "The upstream has 997 offsets that have not come" in status(actor).problem.message
        upstream.sent = upstream.end
        await trio.sleep(2)
        assert status(actor).state is State.READY
        assert actor.current().stream.behind == 0
        nursery.cancel_scope.cancel()


async def test_a_store_that_is_too_slow(world, autojump_clock):
    async with trio.open_nursery() as nursery, world.run() as actor:
        upstream = await followed(world, nursery, actor)
        await trio.sleep(10.5)
        world.store.commit_delay = 200.0
        upstream.end = upstream.sent = 5
        world.source.say(live(append(4, 5), end=5))
        await trio.sleep(59)
        assert status(actor).state is State.READY
        await trio.sleep(1.5)
        assert "2 offsets are still to be stored: rows arrive faster than they are stored" in (
            status(actor).problem.message
        )
        world.store.commit_delay = 0.0
        await trio.sleep(150)
        assert status(actor).state is State.READY
        assert len(await world.rows()) == 5
        nursery.cancel_scope.cancel()


async def test_a_full_disk(world, autojump_clock):
    full = StoreError("The disk is full.", remedy="Free some.")
    async with trio.open_nursery() as nursery, world.run() as actor:
        upstream = await followed(world, nursery, actor)
        await trio.sleep(10.5)
        world.store.failures = [full] * 1000
        upstream.end = upstream.sent = 5
        world.source.say(live(append(4, 5), end=5))
        await trio.sleep(30)
        assert status(actor).problem.message == "The disk is full."
        await trio.sleep(31)
        assert status(actor).problem.message.startswith(STALLED)
        assert status(actor).problem.message.endswith("What arrives can't be stored: The disk is full.")
        assert status(actor).problem.remedy == "Free some."
        world.store.failures = []
        await trio.sleep(60)
        assert (status(actor).state, status(actor).problem) == (State.READY, None)
        assert len(await world.rows()) == 5
        nursery.cancel_scope.cancel()


async def test_a_first_copy_that_takes_long_is_no_lag(world, autojump_clock):
    *parts, end = copied(append(1), append(2), end=2)
    world.source.scripts = [[*parts, 300.0, end]]
    async with world.run() as actor:
        await trio.sleep(299)
        assert status(actor).state is State.REFRESHING
        await trio.sleep(2)
        assert status(actor).state is State.ERROR  # it is complete, with what was there when it was sent
        world.source.say(heartbeat(2))
        await trio.sleep(2)
        assert status(actor).state is State.READY


async def test_a_copy_beside_what_is_served_is_named_as_the_cause(world, autojump_clock):
    async with trio.open_nursery() as nursery, world.run() as actor:
        upstream = await followed(world, nursery, actor)
        await trio.sleep(10.5)
        upstream.paused = True
        *parts, end = copied(append(7, 8), end=2, epoch="f")
        world.source.scripts = [[*parts, 100.0, end]]
        world.source.say(END)
        await trio.sleep(80)
        assert status(actor).problem.message.endswith("A complete copy is under way, with 2 rows so far.")
        assert len(await world.rows()) == 3
        await trio.sleep(30)
        assert len(await world.rows()) == 2
        world.source.say(heartbeat(2, "f"))
        await trio.sleep(1.5)
        assert status(actor).state is State.READY
        nursery.cancel_scope.cancel()


async def test_a_spice_upstream_is_believed_while_it_is_connected(world, autojump_clock):
    world.source.scripts = [[told(append(1, 2))]]
    async with world.run() as actor:
        await trio.sleep(1000)
        assert status(actor).state is State.READY
        assert actor.current().proven_at == world.shared.wall()
        assert actor.current().stream.behind is None
        world.source.say(news(append(3)))
        await trio.sleep(1)
        assert len(await world.rows()) == 3
        world.source.connect_failures = [AWAY] * 100
        world.source.say(AWAY)  # and maybe it was dead for 15 seconds
        await trio.sleep(44)
        assert status(actor).state is State.READY
        await trio.sleep(15.5)  # but it was alive when the last row came
        assert status(actor).problem.message.endswith(f"There is no connection: {AWAY.message}")
        world.source.connect_failures = []
        world.source.scripts = [[told(append(1, 2, 3, 4))]]
        await trio.sleep(60)
        assert status(actor).state is State.READY
        assert len(await world.rows()) == 4


async def test_a_clock_that_is_wrong_upstream_is_shown_and_changes_no_lag(world, autojump_clock):
    async with world.run() as actor:
        world.source.say(*copied(append(1), end=1), heartbeat(1, skew=-3600.0))
        await trio.sleep(5)
        assert actor.current().stream.clock_skew == pytest.approx(-3600.0)
        assert (world.shared.wall() - actor.current().proven_at).total_seconds() == 5
