"""Crashes, quarantine and cancellation of the dataset actor."""

from dataclasses import replace

import pytest
import trio

from caraway.core.restart import Intensity
from caraway.errors import QueryError, SourceError, StoreError
from caraway.events import RefreshFinished
from caraway.model import RefreshOverrides, ScanRequest, State
from caraway.supervise import Child, GiveUp, Ring, supervise
from support.dataset_world import World, timed
from support.fake_source import FakeSource

SCAN = ScanRequest("t")
THREE = Intensity(restarts=3, within=60.0, first=1.0, ceiling=30.0)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FakeSource(timed((1, 0), (2, 10)))).accelerate(refresh_check_interval=100.0)


class Supervised:
    def __init__(self, world, intensity=THREE):
        self.actor = world.actor()
        self.stopping = trio.Event()
        close = self.actor.aclose
        child = Child(
            "dataset t", self.actor.run, GiveUp.QUARANTINE, intensity, crashed=self.actor.crashed, release=close
        )
        self.run = lambda: supervise([Ring((child,))], stopping=self.stopping, emit=world.emit)


async def test_a_bug_is_shown_restarted_and_forgotten_once_a_refresh_succeeds(world, autojump_clock):
    world.source.failures = [None, ZeroDivisionError("a bug")]
    supervised = Supervised(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervised.run)
        await trio.sleep(100.5)
        status = supervised.actor.status.value
        assert status.state is State.ERROR
        assert status.problem.message == ("Dataset t met a bug: ZeroDivisionError: a bug. It is started again in 1s.")
        assert status.activity == ""
        async with supervised.actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 2
        await trio.sleep(1)
        assert supervised.actor.status.value.state is State.READY
        supervised.stopping.set()
    assert world.reads == [0, 100, 101]


async def test_in_quarantine_the_last_snapshot_is_served_and_the_rest_goes_on(world, autojump_clock):
    supervised = Supervised(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervised.run)
        await trio.sleep(1)
        world.source.failures = [ZeroDivisionError("a bug")] * 10
        await trio.sleep(1000)
        status = supervised.actor.status.value
        assert (status.state, status.ready) == (State.ERROR, True)
        assert "It is not started again." in status.problem.message
        async with supervised.actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 2
        assert world.reads == [0, 100, 101, 103, 107]
        supervised.stopping.set()


@pytest.mark.parametrize("restarts", [3, 0], ids=["between two runs", "given up"])
async def test_a_crashed_dataset_leaves_no_files_in_memory(world, restarts):
    """On the real clock: a virtual one jumps while threads of the engine work."""
    world.engine = "arrow"
    supervised = Supervised(world, replace(THREE, restarts=restarts))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervised.run)
            await supervised.actor.status.wait_until(lambda status: status.state is State.READY)
            world.source.failures = [ZeroDivisionError("a bug")]
            supervised.actor.request_refresh()
            await supervised.actor.status.wait_until(lambda status: status.problem is not None)
            async with supervised.actor.resolve(SCAN) as pinned:
                snapshot = pinned.snapshot
                folder = snapshot.data.paths[0].parent
            assert list(folder.iterdir())
            supervised.stopping.set()
    assert not folder.exists() or not list(folder.iterdir())
    assert world.source.open == 0
    assert supervised.actor.status.value.state is State.SHUTTING_DOWN


async def test_a_request_that_a_crash_met_is_not_lost(world, autojump_clock):
    world.source.delay = 5
    world.source.failures = [None]
    supervised = Supervised(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervised.run)
        await trio.sleep(10)
        world.source.failures = [ZeroDivisionError("a bug")]
        supervised.actor.request_refresh(RefreshOverrides(refresh_sql="SELECT * FROM t WHERE id = 2"))
        await trio.sleep(20)
        assert [row["id"] for row in await world.rows()] == [2]
        supervised.stopping.set()


@pytest.mark.parametrize("when", [0.0, 0.5, 1.5, 2.5, 3.5])
async def test_stopping_anywhere_discards_what_is_staged_and_closes_all(world, autojump_clock, when):
    class Slow(FakeSource):
        async def _batches(self, request):
            for batch in self.table.to_batches(max_chunksize=1):
                await trio.sleep(1)
                yield batch

    world.source = Slow(timed((1, 0), (2, 10)))
    async with world.run():
        if when > 1:
            await trio.sleep(1)
            world.store.commit_delay = 1
        await trio.sleep(max(0.0, when - 1))
    assert world.source.open == 0
    assert world.source.reading == 0
    assert world.shared.permits.borrowed_tokens == 0
    if world.disk.state is not None:
        assert world.disk.state.table.num_rows == 2


@pytest.mark.parametrize("steps", range(0, 60, 3))
async def test_cancelled_after_any_number_of_steps_it_recovers(world, autojump_clock, steps):
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.live, world.actor())
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert (world.source.open, world.source.reading) == (0, 0)
    assert world.shared.permits.borrowed_tokens == 0
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        assert len(await world.rows()) == 2


async def test_a_store_that_hangs_while_closing_holds_up_nobody_for_ever(world, autojump_clock):
    async with world.run():
        await trio.sleep(1)

        async def hang():
            await trio.sleep_forever()

        world.store.aclose = hang
        before = trio.current_time()
    assert trio.current_time() - before <= 10


async def test_a_store_that_does_not_open_is_tried_again(world, autojump_clock):
    failures = [StoreError("disk is not mounted"), StoreError("disk is not mounted")]
    actor = world.actor()
    binding = actor._binding
    original = binding._open_store

    async def open_store(schema):
        if failures:
            raise failures.pop(0)
        return await original(schema)

    binding._open_store = open_store
    async with world.run(actor):
        assert actor.status.value.problem.message == "disk is not mounted"
        await trio.sleep(10)
        assert actor.status.value.state is State.READY
    assert world.of(RefreshFinished) == [1]


async def test_not_ready_names_the_dataset_while_the_source_is_away(world, autojump_clock):
    world.source.connect_failures = [SourceError("refused")] * 100
    async with world.run() as actor:
        await trio.sleep(100)
        assert not actor.status.value.ready
        with pytest.raises(QueryError, match="loading initial data for t"):
            async with actor.resolve(SCAN):
                pass


async def test_repr_shows_the_state(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(1)
        assert "t Ready Waiting(until=100.0" in repr(actor)
