import pyarrow as pa
import pytest
import trio

from caraway.config.model import Acceleration, OnZeroResults, ReadyState
from caraway.core.predicate import Compare, Literal
from caraway.dataset.settings import settings_of
from caraway.errors import QueryError, QueryFailure, SourceError
from caraway.model import ArrowFiles, ScanRequest, State
from support.dataset_world import World, timed
from support.fake_source import FakeSource

ALL = ScanRequest("t")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FakeSource(timed(*((n, n) for n in range(10)))))


def read(snapshot):
    (path,) = snapshot.data.paths
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


async def ask(actor, scan=ALL):
    async with actor.resolve(scan) as pinned:
        snapshot = pinned.snapshot
        return read(snapshot)


def files(world):
    return list((world.tmp_path / "spool").iterdir())


async def test_without_acceleration_the_source_answers(world, autojump_clock):
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.state is State.READY)
        assert pa.ipc.read_schema(pa.py_buffer(actor.table.value.schema)) == world.source.table.schema
        big = Compare("id", ">", Literal(5, "int64"))
        async with actor.resolve(ScanRequest("t", ("id",), big, 3)) as pinned:
            snapshot = pinned.snapshot
            assert isinstance(snapshot.data, ArrowFiles)
            assert snapshot.rows == 3
            assert read(snapshot).to_pydict() == {"id": [6, 7, 8]}
            assert len(files(world)) == 1
            assert world.source.reading == 0  # let go before the rows are used
        assert files(world) == []
        assert world.shared.spool.used == 0
        await trio.sleep(10_000)
    assert len(world.source.reads) == 1


async def test_a_limit_ends_the_reading(world, autojump_clock):
    world.source.batch_rows = 2
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        assert (await ask(actor, ScanRequest("t", limit=3))).num_rows == 3


async def test_a_count_reads_one_column(world, autojump_clock):
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        answer = await ask(actor, ScanRequest("t", ()))
        assert (answer.num_rows, answer.column_names) == (10, ["id"])


async def test_an_empty_answer_is_a_file_too(world, autojump_clock):
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        assert (await ask(actor, ScanRequest("t", predicate=Compare("id", "=", Literal(77, "int64"))))).num_rows == 0


async def test_a_failing_source_fails_the_query_and_leaves_nothing(world, autojump_clock):
    world.source.batch_rows, world.source.fail_after = 2, 2
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        world.source.failures = [SourceError("connection reset", remedy="Try again.")]
        with pytest.raises(QueryError, match="source of dataset t failed: connection reset Try again") as caught:
            await ask(actor)
        assert caught.value.failure is QueryFailure.SOURCE
        assert files(world) == []
        assert world.shared.spool.used == 0


async def test_before_the_source_is_connected_it_is_not_ready(world, autojump_clock):
    world.source.connect_failures = [SourceError("refused")] * 2
    async with world.run() as actor:
        with pytest.raises(QueryError, match="source of dataset t is not connected") as caught:
            await ask(actor)
        assert caught.value.failure is QueryFailure.NOT_READY
        await trio.sleep(10)
        assert (await ask(actor)).num_rows == 10


async def test_answers_are_bounded_together(world, autojump_clock):
    world.spool_bytes = 200
    world.__post_init__()
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        async with actor.resolve(ScanRequest("t")):
            with pytest.raises(QueryError, match="40 bytes left") as caught:
                await ask(actor)
            assert caught.value.failure is QueryFailure.RESOURCES
        assert (await ask(actor)).num_rows == 10


async def test_a_spool_that_cannot_be_written_is_an_error_of_the_query(world, autojump_clock):
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        (world.tmp_path / "spool").rmdir()
        with pytest.raises(QueryError, match="can't be kept in") as caught:
            await ask(actor)
        assert caught.value.failure is QueryFailure.RESOURCES


async def test_what_an_earlier_run_left_in_the_spool_is_removed(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "old.arrow").touch()
    world = World(tmp_path, FakeSource(timed()))
    assert files(world) == []


@pytest.mark.parametrize("point", range(6))
async def test_a_query_cancelled_anywhere_leaves_nothing(world, autojump_clock, point):
    world.source.batch_rows, world.source.delay = 1, 1.0
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def cancel():
                    await trio.sleep(0.5 if point == 0 else 1.0)
                    for _ in range(point):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                nursery.start_soon(cancel)
                await ask(actor)
                await trio.sleep_forever()
        assert files(world) == []
        assert world.shared.spool.used == 0
        assert world.source.reading == 0


async def test_until_loaded_the_source_answers_by_ready_state_on_registration(world, autojump_clock):
    world.keys(ready_state=ReadyState.ON_REGISTRATION).accelerate()
    world.source.failures = [SourceError("no", transient=True)]
    async with world.run() as actor:
        assert actor.status.value.ready
        world.source.delay = 5
        await trio.sleep(2)
        world.source.delay = 0
        assert (await ask(actor)).num_rows == 10
        await trio.sleep(10)
        async with actor.resolve(ALL) as pinned:
            snapshot = pinned.snapshot
            assert not snapshot.epoch.startswith("source")


async def test_on_zero_results_asks_the_source_without_the_refresh_s_conditions(world, autojump_clock):
    world.accelerate(on_zero_results=OnZeroResults.USE_SOURCE)
    async with world.run() as actor:
        await trio.sleep(1)
        assert actor.table.value.use_source_on_zero
        world.source.table = timed((100, 0))
        assert (await ask(actor, ScanRequest("t", from_source=True))).to_pydict()["id"] == [100]
        assert world.source.reads[-1][1].predicate is None


async def test_a_source_dropped_while_a_query_reads_it_is_closed_afterwards(world, autojump_clock):
    world.accelerate(refresh_check_interval=10.0)
    async with world.run() as actor:
        await trio.sleep(1)
        world.source.failures = [None, SourceError("broken")]
        world.source.delay = 12
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, actor, ScanRequest("t", from_source=True))
            await trio.sleep(11)
            assert world.source.open == 2  # the old one for the query, the new one for the retry
            world.source.delay = 0
        await trio.sleep(20)
        assert world.source.open == 1


def test_acceleration_that_is_switched_off_is_none(tmp_path):
    world = World(tmp_path, FakeSource(timed()))
    world.keys(acceleration=Acceleration(enabled=False, refresh_check_interval=1.0))
    assert settings_of(world.config).accelerated is False


# --- a source that fails queries -------------------------------------------------------------------------------------


async def fails(actor):
    with pytest.raises(QueryError) as caught:
        await ask(actor)
    return caught.value.failure


async def test_after_a_failed_query_the_source_is_connected_anew(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(50)
        world.source.failures = [SourceError("connection reset")]
        assert await fails(actor) is QueryFailure.SOURCE
        await trio.sleep(0.1)
        assert world.source.connects == [0, 50]
        assert world.source.open == 1
        assert (await ask(actor)).num_rows == 10
        await trio.sleep(100)
    assert world.source.connects == [0, 50]
    assert world.source.open == 0


async def test_a_schema_that_changed_heals_with_the_connection(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(50)
        world.source.table = world.source.table.rename_columns(["number", "time"])
        assert await fails(actor) is QueryFailure.SOURCE
        await trio.sleep(0.1)
        assert (await ask(actor)).column_names == ["number", "time"]


async def test_queries_that_go_on_failing_reconnect_less_and_less(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(10)
        world.source.failures = [SourceError("reset")] * 1000
        for _ in range(300):
            assert await fails(actor) is QueryFailure.SOURCE
            await trio.sleep(0.1)
        assert [round(at) for at in world.source.connects] == [0, 10, 12, 15, 20, 28]
        world.source.failures.clear()
        await trio.sleep(60)
        assert (await ask(actor)).num_rows == 10
        world.source.failures = [SourceError("reset")]
        assert await fails(actor) is QueryFailure.SOURCE
        await trio.sleep(0.1)
        assert world.source.connects[-1] == pytest.approx(trio.current_time(), abs=0.2)  # it had served meanwhile


async def test_while_a_dead_source_is_tried_again_queries_are_refused_at_once(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(10)
        world.source.failures = [SourceError("reset")]
        world.source.connect_failures = [SourceError("refused")] * 3
        assert await fails(actor) is QueryFailure.SOURCE
        await trio.sleep(0.1)
        assert actor.status.value.state is State.ERROR
        for _ in range(50):
            assert await fails(actor) is QueryFailure.NOT_READY
        await trio.sleep(10)
        assert world.source.connects == [0, 10, 11, 13, 16]
        assert actor.status.value.state is State.READY
        assert (await ask(actor)).num_rows == 10


async def test_a_dead_source_that_queries_ask_for_is_looked_for_every_few_seconds(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(10)
        world.source.failures = [SourceError("reset")]
        world.source.connect_failures = [SourceError("refused.", remedy="Start it.")] * 1000
        await fails(actor)
        await trio.sleep(100)
        with pytest.raises(QueryError, match=r"source of dataset t is not connected: refused\. Start it\.") as caught:
            await ask(actor)
        assert caught.value.failure is QueryFailure.NOT_READY
        await trio.sleep(1000)
        unasked = len(world.source.connects)
        assert unasked < 30
        for _ in range(100):
            await fails(actor)
            await trio.sleep(1)
        assert 20 < len(world.source.connects) - unasked < 40
        world.source.connect_failures.clear()
        await fails(actor)
        await trio.sleep(5.1)
        assert (await ask(actor)).num_rows == 10


async def test_the_pause_that_a_source_asks_for_is_kept(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(10)
        world.source.failures = [SourceError("busy", retry_after=30.0)]
        await fails(actor)
        await trio.sleep(60)
    assert world.source.connects == [0, 40]


async def test_a_query_that_still_reads_keeps_the_connection_that_another_gave_up(world, autojump_clock):
    async with world.run() as actor, trio.open_nursery() as nursery:
        await trio.sleep(10)
        world.source.delay = 5
        counts, done = [], trio.Event()

        async def slow():
            counts.append((await ask(actor)).num_rows)
            done.set()

        nursery.start_soon(slow)
        await trio.sleep(1)
        world.source.failures = [SourceError("reset")]
        await fails(actor)
        await trio.sleep(0.1)
        assert world.source.open == 2
        await done.wait()
        assert counts == [10]
        assert world.source.open == 1
