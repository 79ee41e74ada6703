from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from caraway.config.model import Dataset, FromUri, RefreshMode, RefreshOnStartup, RefreshSql
from caraway.config.params import ConnectorParams
from caraway.config.sql import parse_refresh_sql
from caraway.connectors.file.source import open_file_source
from caraway.core.predicate import Compare, Literal
from caraway.errors import ConfigError, QueryError, QueryFailure, SourceError, StoreError
from caraway.events import (
    RefreshFailed,
    RefreshFinished,
    RefreshScheduled,
    RefreshSkipped,
    RefreshStarted,
)
from caraway.model import RefreshOverrides, ScanRequest, State
from caraway.secrets import Secrets
from support.dataset_world import START, World, table, timed
from support.fake_source import FakeSource

UNREACHABLE = "the core at 127.0.0.1:1 is unreachable"
SCAN = ScanRequest("t")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FakeSource(timed((1, 0), (2, 10))))


def down(count):
    return [SourceError(UNREACHABLE, remedy="Start it.") for _ in range(count)]


async def test_the_first_refresh_makes_it_ready(world, autojump_clock):
    world.accelerate()
    world.source.delay = 3
    async with world.run() as actor:
        with pytest.raises(QueryError, match="Acceleration not ready; loading initial data for t") as caught:
            async with actor.resolve(SCAN):
                pass
        assert caught.value.failure is QueryFailure.NOT_READY
        await actor.status.wait_until(lambda status: status.ready)
        assert trio.current_time() == 3
        assert await world.rows() == world.source.table.to_pylist()
        async with actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 2
    assert world.states == [State.INITIALIZING, State.REFRESHING, State.READY]
    assert actor.status.value.state is State.SHUTTING_DOWN
    assert [type(event) for _, event in world.events] == [RefreshStarted, RefreshFinished]
    status = next(status for _, status in world.history if status.ready)
    assert (status.last_refresh, status.proven_at) == (START + timedelta(seconds=3), START)
    assert status.next_refresh is None


async def test_the_interval_counts_from_the_end(world, autojump_clock):
    world.accelerate(refresh_check_interval=60.0)
    world.source.delay = 5
    async with world.run() as actor:
        await trio.sleep(201)
        assert world.reads == [0, 65, 130, 195]
        assert world.of(RefreshFinished) == [5, 70, 135, 200]
        assert actor.status.value.next_refresh == START + timedelta(seconds=260)
    assert [event.seconds for _, event in world.events if isinstance(event, RefreshScheduled)] == [60.0] * 4


async def test_jitter_moves_start_and_interval(world, autojump_clock):
    world.chance = 0.75
    world.accelerate(refresh_check_interval=60.0, refresh_jitter_enabled=True)  # of 6 s
    async with world.run():
        await trio.sleep(130)
    assert world.reads == [4.5, 67.5]


async def test_cron_fires_at_its_times(world, autojump_clock):
    world.accelerate(refresh_cron="*/10 * * * *")
    async with world.run():
        await trio.sleep(1900)
    assert world.reads == [0, 600, 1200, 1800]


async def test_failures_are_retried_by_fibonacci_and_the_status_says_since_when(world, autojump_clock):
    world.accelerate(refresh_check_interval=1000.0)
    world.source.failures = [None, *down(4)]
    async with world.run() as actor:
        await trio.sleep(1004)
        status = actor.status.value
        assert (status.state, status.ready, status.failures) == (State.ERROR, True, 3)
        assert status.problem.message == UNREACHABLE
        assert status.problem.remedy == "Start it."
        assert status.problem.since == START + timedelta(seconds=1000)
        async with actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 2
        await trio.sleep(10)
        assert (actor.status.value.state, actor.status.value.failures) == (State.READY, 0)
        assert actor.status.value.problem is None
    assert world.reads == [0, 1000, 1001, 1003, 1006, 1011]
    assert [event.retry_in for _, event in world.events if isinstance(event, RefreshFailed)] == [1, 2, 3, 5]
    assert world.states == [
        State.INITIALIZING,
        State.REFRESHING,
        State.READY,
        State.REFRESHING,
        State.ERROR,  # and nothing else while it is tried again
        State.READY,
    ]


async def test_the_remote_s_retry_after_is_honoured(world, autojump_clock):
    world.accelerate()
    world.source.failures = [SourceError("busy", retry_after=42)]
    async with world.run():
        await trio.sleep(100)
    assert world.reads == [0, 42]


async def test_a_permanent_failure_waits_for_the_schedule(world, autojump_clock):
    world.accelerate(refresh_check_interval=60.0)
    world.source.failures = [SourceError("no such table", transient=False)]
    async with world.run() as actor:
        await trio.sleep(30)
        assert actor.status.value.state is State.ERROR
        assert not actor.status.value.ready
        await trio.sleep(40)
        assert actor.status.value.state is State.READY
    assert world.reads == [0, 60]


async def test_a_permanent_failure_without_schedule_waits_for_a_request(world, autojump_clock):
    world.accelerate()
    world.source.failures = [SourceError("no such table", transient=False)]
    async with world.run() as actor:
        await trio.sleep(10_000)
        assert actor.status.value.next_refresh is None
        actor.request_refresh()
        await trio.sleep(1)
        assert actor.status.value.state is State.READY
    assert world.reads == [0, 10_000]


@pytest.mark.parametrize(
    ("keys", "reads"),
    [
        ({"refresh_retry_enabled": False}, [0, 100, 200]),
        ({"refresh_retry_max_attempts": 2}, [0, 1, 3, 103, 104, 106]),
    ],
)
async def test_attempts_are_bounded_and_the_schedule_goes_on(world, autojump_clock, keys, reads):
    world.accelerate(refresh_check_interval=100.0, **keys)
    world.source.failures = down(10)
    async with world.run():
        await trio.sleep(210 if len(reads) == 3 else 150)
    assert world.reads == reads


async def test_connecting_is_tried_for_ever_whatever_the_refresh_keys_say(world, autojump_clock):
    world.accelerate(refresh_retry_enabled=False)
    world.source.connect_failures = down(5)
    async with world.run() as actor:
        await trio.sleep(10)
        assert actor.status.value.problem.message == UNREACHABLE
        await trio.sleep(10)
        assert actor.status.value.state is State.READY
    assert world.source.connects == [0, 1, 3, 6, 11, 19]


async def test_after_a_failure_the_source_is_connected_anew(world, autojump_clock):
    world.accelerate()
    world.source.failures = down(1)
    async with world.run():
        await trio.sleep(5)
        assert world.source.open == 1
    assert world.source.connects == [0, 1]
    assert world.source.open == 0


async def test_a_missing_parameter_is_an_error_that_a_request_can_end(world, autojump_clock):
    world.accelerate()
    world.source.connect_failures = [ConfigError("no secret TOKEN in store env")]
    async with world.run() as actor:
        await trio.sleep(500)
        assert "no secret TOKEN" in actor.status.value.problem.message
        actor.request_refresh()
        await trio.sleep(1)
        assert actor.status.value.state is State.READY


async def test_requests_during_a_run_get_one_run_after_it(world, autojump_clock):
    world.accelerate(refresh_check_interval=1000.0)
    world.source.delay = 10
    async with world.run() as actor:
        for wait in (1, 2, 3):
            await trio.sleep(wait)
            actor.request_refresh()
        await trio.sleep(60)
    assert world.reads == [0, 10]


async def test_a_request_starts_at_once_or_after_its_jitter(world, autojump_clock):
    world.accelerate(refresh_check_interval=1000.0)
    async with world.run() as actor:
        await trio.sleep(50)
        actor.request_refresh()
        await trio.sleep(50)
        actor.request_refresh(RefreshOverrides(refresh_jitter_max=20.0))
        await trio.sleep(50)
    assert world.reads == [0, 50, 110]


async def test_a_request_during_the_backoff_does_not_wait_for_it(world, autojump_clock):
    world.accelerate()
    world.source.failures = down(8)
    async with world.run() as actor:
        await trio.sleep(40)
        world.source.failures.clear()
        actor.request_refresh()
        await trio.sleep(0.5)
        assert actor.status.value.state is State.READY
    assert world.reads[-1] == 40


async def test_rows_appear_all_at_once_or_not_at_all(world, autojump_clock):
    world.accelerate(refresh_check_interval=60.0)
    world.source.batch_rows, world.source.fail_after = 1, 1
    async with world.run():
        await trio.sleep(30)
        before = await world.rows()
        world.source.table = timed((7, 0), (8, 0), (9, 0))
        world.source.failures = down(1)
        await trio.sleep(30.5)
        assert await world.rows() == before
        await trio.sleep(10)
        assert await world.rows() == world.source.table.to_pylist()


async def test_a_full_disk_is_an_error_that_ends_by_itself(world, autojump_clock):
    world.accelerate(refresh_check_interval=60.0)
    async with world.run() as actor:
        await trio.sleep(1)
        world.source.table = timed((5, 0))
        world.store.failures = [StoreError("No space left on device", remedy="Free some.") for _ in range(3)]
        await trio.sleep(63)
        assert actor.status.value.problem.message == "No space left on device"
        async with actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 2
        await trio.sleep(10)
        assert (await world.rows())[0]["id"] == 5
        assert actor.status.value.state is State.READY


async def test_an_unchanged_source_is_not_fetched_again(world, autojump_clock):
    world.accelerate(refresh_check_interval=60.0)
    world.source.token = "v1"
    async with world.run() as actor:
        await trio.sleep(130)
        assert world.reads == [0]
        assert world.of(RefreshSkipped) == [60, 120]
        assert actor.status.value.proven_at == START + timedelta(seconds=120)
        actor.request_refresh(RefreshOverrides(refresh_sql="SELECT * FROM t WHERE id = 1"))
        await trio.sleep(1)
        assert [row["id"] for row in await world.rows()] == [1]
        await trio.sleep(60)
        assert [row["id"] for row in await world.rows()] == [1, 2]  # the override stands in for nothing
        world.source.token = "v2"
        await trio.sleep(60)
    assert world.reads == [0, 130, 190, 250]


async def test_a_moving_window_is_fetched_though_the_source_is_unchanged(world, autojump_clock):
    from caraway.model import TimeColumn

    world.keys(time_column=TimeColumn("time")).accelerate(refresh_check_interval=60.0, refresh_data_window=30.0)
    world.source.token = "v1"
    async with world.run():
        await trio.sleep(1)
        assert len(await world.rows()) == 2
        await trio.sleep(60)
        assert await world.rows() == []


async def test_refresh_sql_selects_columns_and_rows(world, autojump_clock):
    condition = Compare("id", ">", Literal(1, "int64"))
    world.accelerate(refresh_sql=RefreshSql("SELECT id FROM t WHERE id > 1", ("id",), condition))
    async with world.run() as actor:
        await trio.sleep(1)
        assert await world.rows() == [{"id": 2}]
        assert pa.ipc.read_schema(pa.py_buffer(actor.table.value.schema)).names == ["id"]


async def test_a_changed_refresh_sql_counts_from_the_next_refresh(world, autojump_clock):
    world.accelerate(refresh_check_interval=60.0)
    async with world.run() as actor:
        await trio.sleep(1)
        actor.set_refresh_sql("SELECT * FROM t WHERE id = 2")
        assert len(await world.rows()) == 2
        await trio.sleep(60)
        assert [row["id"] for row in await world.rows()] == [2]


async def test_what_cannot_be_requested_is_said_at_once(world, autojump_clock):
    world.accelerate()
    async with world.run() as actor:
        await trio.sleep(1)
        for overrides in (
            RefreshOverrides(refresh_mode="changes"),
            RefreshOverrides(refresh_sql="DELETE FROM t"),
            RefreshOverrides(refresh_sql="SELECT id FROM t"),
        ):
            with pytest.raises(ConfigError):
                actor.request_refresh(overrides)
        with pytest.raises(ConfigError, match="select these or"):
            actor.set_refresh_sql("SELECT id FROM t")
    assert world.reads == [0]


async def test_a_refresh_that_waits_for_its_turn_says_so(world, autojump_clock):
    world.accelerate()
    world.shared.permits.total_tokens = 1
    async with world.shared.permits, world.run() as actor:
        await wait_all_tasks_blocked()
        assert actor.status.value.activity == "waiting for a turn"
        assert actor.status.value.state is State.REFRESHING
        assert world.source.connects == []


async def test_permits_are_fair_and_bound_what_runs(world, autojump_clock):
    world.permits = 2
    world.accelerate()
    worlds = []
    for number in range(6):
        other = World(world.tmp_path / str(number), FakeSource(timed((1, 0)), delay=10.0), world.config)
        other.shared = replace(world.shared, permits=world.shared.permits)
        worlds.append(other)
    world.shared.permits.total_tokens = 2
    async with trio.open_nursery() as nursery:
        for other in worlds:
            nursery.start_soon(other.actor().run)
            await wait_all_tasks_blocked()
        await trio.sleep(31)
        nursery.cancel_scope.cancel()
    assert [other.reads for other in worlds] == [[0], [0], [10], [10], [20], [20]]


async def test_progress_shows_rows_and_rate(world, autojump_clock):
    world.accelerate()

    class Slow(FakeSource):
        async def _batches(self, request):
            for batch in self.table.to_batches(max_chunksize=100):
                await trio.sleep(1)
                yield batch

    world.source = Slow(timed(*((n, n) for n in range(1000))))
    async with world.run() as actor:
        await trio.sleep(5.5)
        assert (actor.status.value.rows_loading, actor.status.value.rate) == (500, 100.0)
        assert actor.status.value.activity == "loading"
        await trio.sleep(5)
        assert (actor.status.value.rows_loading, actor.status.value.rate) == (0, 100.0)


async def test_a_dataset_that_is_only_written_to_is_ready_and_empty(world, autojump_clock):
    world.accelerate(refresh_mode=RefreshMode.DISABLED)
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)
        async with actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 0
        with pytest.raises(ConfigError, match="written to"):
            actor.request_refresh()
        await trio.sleep(10_000)
    assert world.reads == []


def test_modes_that_need_more_are_load_errors(tmp_path):
    world = World(tmp_path, FakeSource(timed())).accelerate(refresh_mode=RefreshMode.SNAPSHOT)
    with pytest.raises(ConfigError, match="not available for dataset t"):
        world.actor()


async def test_a_virtual_week_with_an_outage_every_hour(world, autojump_clock):
    world.accelerate(refresh_check_interval=600.0)
    world.chance = 0.3
    week = 7 * 24 * 3600
    async with world.run() as actor:
        while trio.current_time() < week:
            await trio.sleep(2400)
            world.source.failures = down(7)
            await trio.sleep(1200)
            assert actor.status.value.state is State.READY
    assert len(world.of(RefreshFailed)) == 7 * 24 * 7
    gaps = [later - sooner for sooner, later in zip(world.reads, world.reads[1:], strict=False)]
    assert max(gaps) <= 600.001
    assert len(world.of(RefreshFinished)) > 800


@pytest.mark.parametrize(
    ("keys", "reads"),
    [
        ({}, []),
        ({"refresh_on_startup": RefreshOnStartup.ALWAYS}, [100]),
        ({"refresh_check_interval": 150.0}, [150]),
        ({"refresh_check_interval": 50.0}, [100, 150]),
        ({"refresh_cron": "*/10 * * * *"}, []),
        ({"refresh_cron": "* * * * *"}, [100, 120, 180]),
    ],
)
async def test_a_restart_serves_at_once_and_refreshes_by_what_is_stored(world, autojump_clock, keys, reads):
    world.accelerate(**keys)
    async with world.run():
        await trio.sleep(0.5)
    await trio.sleep(99.5)
    first = len(world.source.reads)
    world.source.connect_failures = down(1)
    async with world.run() as actor:
        assert trio.current_time() == 100
        assert actor.status.value.ready
        async with actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 2
        assert actor.status.value.last_refresh == START
        await trio.sleep(0.5)
        assert actor.status.value.problem.message == UNREACHABLE
        await trio.sleep(99)
        assert actor.status.value.state is State.READY
        assert len(world.source.connects) == 3
        later = [at for at in world.reads[first:] if at <= 199]
    assert later == [at + 1 if at == 100 else at for at in reads] if 50.0 not in keys.values() else [101, 151]


async def test_a_restart_without_schedule_still_takes_requests(world, autojump_clock):
    world.accelerate()
    async with world.run():
        await trio.sleep(1)
    async with world.run() as actor:
        await trio.sleep(10)
        assert world.reads == [0]
        actor.request_refresh()
        await trio.sleep(1)
    assert world.reads == [0, 11]


async def test_a_request_before_the_source_is_there_is_not_lost_to_the_stored_rows(world, autojump_clock):
    world.accelerate()
    async with world.run():
        await trio.sleep(1)
    world.source.connect_failures = down(3)
    async with world.run() as actor:
        await trio.sleep(0.5)
        actor.request_refresh()
        await trio.sleep(20)
    assert len(world.reads) == 2


async def test_another_refresh_sql_is_fetched_after_a_restart(world, autojump_clock):
    world.accelerate()
    async with world.run():
        await trio.sleep(1)
    condition = Compare("id", "=", Literal(1, "int64"))
    world.accelerate(refresh_sql=RefreshSql("SELECT * FROM t WHERE id = 1", None, condition))
    async with world.run():
        await trio.sleep(1)
        assert [row["id"] for row in await world.rows()] == [1]


async def test_a_column_that_vanished_is_an_error_and_the_copy_is_served(world, autojump_clock):
    world.accelerate(refresh_check_interval=60.0)
    async with world.run() as actor:
        await trio.sleep(1)
        world.source.table = table({"id": 5}, id=pa.int64())
        world.source.failures = [SourceError("column time not found", transient=False)]
        await trio.sleep(130)
        problem = actor.status.value.problem
        assert "column 'time' is gone" in problem.message
        assert "still served" in problem.remedy
        async with actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 2


async def test_new_columns_are_left_out(world, autojump_clock):
    world.accelerate()
    async with world.run():
        await trio.sleep(1)
    world.source.table = table(
        {"id": 5, "more": "x", "time": None}, id=pa.int64(), more=pa.string(), time=pa.timestamp("us")
    )
    async with world.run() as actor:
        actor.request_refresh()
        await trio.sleep(1)
        assert await world.rows() == [{"id": 5, "time": None}]


async def test_a_value_that_does_not_fit_names_its_column(world, autojump_clock):
    world.accelerate()
    async with world.run():
        await trio.sleep(1)
    world.source.table = table({"id": "many", "time": None}, id=pa.string(), time=pa.timestamp("us"))
    async with world.run() as actor:
        actor.request_refresh()
        await trio.sleep(1)
        assert "Column 'id'" in actor.status.value.problem.message
        assert len(await world.rows()) == 2


@pytest.mark.parametrize("how", ["keys", "patch", "override"])
async def test_a_condition_that_the_source_cannot_evaluate_is_named_and_not_tried_again(world, autojump_clock, how):
    pq.write_table(timed((1, 0), (2, 10)), world.tmp_path / "rows.parquet")
    text = "SELECT * FROM t WHERE id % 2 = 0 AND id > 1"
    source = Dataset("t", FromUri("file", "rows.parquet", "file:rows.parquet"))
    files = await open_file_source(source, ConnectorParams({}, Secrets({}), "t"), directory=world.tmp_path)
    world.source.connect = lambda: connected(files)
    world.accelerate(refresh_sql=parse_refresh_sql(text, "t") if how == "keys" else None)
    async with world.run() as actor:
        if how != "keys":
            await actor.status.wait_until(lambda status: status.state is State.READY)
            if how == "patch":
                actor.set_refresh_sql(text)
            actor.request_refresh(RefreshOverrides(refresh_sql=text if how == "override" else None))
        status = await actor.status.wait_until(lambda status: status.problem is not None)
        assert '"id" % 2 = 0' in status.problem.message
        assert "comparisons" in status.problem.remedy
        assert status.state is State.ERROR
        assert (status.snapshot.rows if status.snapshot is not None else 0) == (0 if how == "keys" else 2)
        await trio.sleep(1000)
        assert len(world.of(RefreshFailed)) == 1


async def connected(source):
    return source
