import pytest
import trio
import trio.lowlevel

from caraway.config.model import RefreshMode
from caraway.core.predicate import Compare, Literal, RawSql
from caraway.errors import StoreError
from caraway.events import RetentionBlind, RetentionFinished
from caraway.model import State, TimeColumn
from support.dataset_world import World, timed
from support.fake_source import FakeSource


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path, FakeSource(timed((1, -100), (2, -10), (3, None))))
    return world.keys(time_column=TimeColumn("time"))


def keys(**more):
    return {"retention_check_enabled": True, "retention_check_interval": 30.0, **more}


async def ids(world):
    return [row["id"] for row in await world.rows()]


async def test_old_rows_go_and_rows_without_a_time_stay(world, autojump_clock):
    world.accelerate(**keys(retention_period=60.0))
    async with world.run():
        await trio.sleep(1)
        assert await ids(world) == [1, 2, 3]
        await trio.sleep(30)
        assert await ids(world) == [2, 3]
        await trio.sleep(60)
        assert await ids(world) == [3]
    assert [(at, event.rows) for at, event in world.events if isinstance(event, RetentionFinished)] == [
        (30, 1),
        (60, 1),
    ]


async def test_rows_without_a_time_are_warned_of_once(world, autojump_clock):
    world.accelerate(**keys(retention_period=60.0, refresh_check_interval=10.0))
    async with world.run():
        await trio.sleep(100)
    assert [event.rows for _, event in world.events if isinstance(event, RetentionBlind)] == [1]


async def test_a_condition_removes_besides_the_period(world, autojump_clock):
    condition = Compare("id", "=", Literal(3, "int64"))
    world.accelerate(**keys(retention_period=60.0, retention_sql=condition))
    async with world.run():
        await trio.sleep(31)
        assert await ids(world) == [2]


async def test_it_ticks_at_the_start_on_what_is_stored(world, autojump_clock):
    world.accelerate()
    async with world.run():
        await trio.sleep(1)
    world.accelerate(**keys(retention_period=60.0))
    async with world.run():
        await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert await ids(world) == [2, 3]


async def test_late_ticks_are_not_made_up_for(world, autojump_clock):
    world.accelerate(**keys(retention_period=1000.0))
    world.source.delay = 100
    async with world.run():
        await trio.sleep(1)
        commits = []
        original = world.store.commit

        async def commit(changes, cursor):
            if changes:
                commits.append(trio.current_time())
            return await original(changes, cursor)

        world.store.commit = commit
        await trio.sleep(200)
    assert commits == [100, 130, 160, 190]


async def test_the_checkpoint_survives_a_retention(world, autojump_clock):
    world.accelerate(**keys(retention_period=60.0, refresh_mode=RefreshMode.FULL))
    async with world.run() as actor:
        await trio.sleep(31)
        assert actor.status.value.snapshot.cursor is not None
        last = actor.status.value.last_refresh
    async with world.run() as actor:
        assert actor.status.value.last_refresh == last


async def test_a_failure_is_shown_and_ends_by_itself(world, autojump_clock):
    world.accelerate(**keys(retention_period=60.0))
    async with world.run() as actor:
        await trio.sleep(1)
        world.store.failures = [StoreError("No space left on device")]
        await trio.sleep(30)
        assert actor.status.value.state is State.ERROR
        assert actor.status.value.problem.message == "No space left on device"
        await trio.sleep(30)
        assert actor.status.value.state is State.READY


async def test_two_failures_hide_neither(world, autojump_clock):
    world.accelerate(**keys(retention_period=60.0, refresh_check_interval=25.0))
    async with world.run() as actor:
        await trio.sleep(1)
        world.store.failures = [StoreError(f"failure {n}", transient=False) for n in range(2)]
        await trio.sleep(31)
        message = actor.status.value.problem.message
        assert "failure 0" in message
        assert "failure 1" in message


async def test_a_condition_for_sql_engines_alone_is_an_error_that_names_it(world, autojump_clock):
    world.accelerate(**keys(retention_sql=RawSql('length("id") > 3')))
    async with world.run() as actor:
        await trio.sleep(1)
        assert 'length("id") > 3' in actor.status.value.problem.message
    assert world.reads == []
