"""What becomes of a copy whose source gains, loses or changes columns: each policy, in the engines that keep files."""

import pyarrow as pa
import pytest
import trio

from caraway.config.model import OnSchemaChange, RefreshMode, StorageMode
from caraway.model import State, TimeColumn
from support.dataset_world import World, at, table
from support.fake_source import FakeSource

BLOCK, FAIL = OnSchemaChange.BLOCK, OnSchemaChange.FAIL
APPEND, SYNC = OnSchemaChange.APPEND_NEW_COLUMNS, OnSchemaChange.SYNC_ALL_COLUMNS
COLUMNS = {"id": pa.int64(), "time": pa.timestamp("us"), "note": pa.string()}
OLD = [{"id": 1, "time": at(0), "note": "a"}]


def gained():
    rows = [{**OLD[0], "size": None}, {"id": 2, "time": at(10), "note": "b", "size": 5}]
    return table(*rows, **COLUMNS, size=pa.int64())


def lost():
    rows = [{"id": 1, "time": at(0)}, {"id": 2, "time": at(10)}]
    return table(*rows, id=pa.int64(), time=pa.timestamp("us"))


def widened():
    """The values fit the stored type all the same."""
    return table(*OLD, {"id": 2, "time": at(10), "note": "b"}, **(COLUMNS | {"id": pa.int32()}))


def changed():
    rows = [{"id": "one", "time": at(0), "note": "a"}, {"id": "two", "time": at(10), "note": "b"}]
    return table(*rows, **(COLUMNS | {"id": pa.string()}))


def without_size(rows):
    return [{name: row[name] for name in COLUMNS} for row in rows]


KEEPS_ON = [
    (BLOCK, StorageMode.FILE, gained, without_size(gained().to_pylist())),
    (BLOCK, StorageMode.FILE, widened, widened().to_pylist()),
    (APPEND, StorageMode.FILE, gained, gained().to_pylist()),
    (APPEND, StorageMode.FILE, widened, widened().to_pylist()),
    *((SYNC, StorageMode.FILE, change, change().to_pylist()) for change in (gained, lost, changed)),
    *((BLOCK, StorageMode.FILE_UPDATE, change, change().to_pylist()) for change in (gained, lost, changed)),
]
STOPS = [
    (BLOCK, lost, "'note'"),
    (BLOCK, changed, "'id'"),
    (FAIL, gained, "'size'"),
    (FAIL, lost, "'note'"),
    (FAIL, changed, "'id'"),
    (FAIL, widened, "'id'"),
    (APPEND, lost, "'note'"),
    (APPEND, changed, "'id'"),
]


@pytest.fixture(params=["sqlite", "parquet"])
def world(request, tmp_path):
    world = World(tmp_path, FakeSource(table(*OLD, **COLUMNS)))
    world.engine = request.param
    return world


def loaded(status):
    return status.snapshot is not None and not status.activity


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(("policy", "mode", "change", "expected"), KEEPS_ON)
async def test_a_policy_goes_along_with(world, restarts, policy, mode, change, expected):
    world.keys(on_schema_change=policy).accelerate(mode=mode)
    async with world.run() as actor:
        await actor.status.wait_until(loaded)
        if not restarts:
            await refreshed(world, actor, change)
            assert await world.rows() == expected
    if restarts:
        async with world.run() as actor:
            await refreshed(world, actor, change)
            assert await world.rows() == expected


async def refreshed(world, actor, change):
    before = actor.status.value.last_refresh
    world.source.table = change()
    actor.request_refresh()
    with trio.fail_after(20):
        status = await actor.status.wait_until(
            lambda status: status.problem or status.last_refresh not in (None, before)
        )
    assert status.problem is None, status.problem


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(("policy", "change", "column"), STOPS)
async def test_a_policy_stops_at(world, restarts, policy, change, column):
    world.keys(on_schema_change=policy).accelerate(mode=StorageMode.FILE)
    async with world.run() as actor:
        await actor.status.wait_until(loaded)
        if not restarts:
            await stopped(world, actor, change, column)
    if restarts:
        async with world.run() as actor:
            await stopped(world, actor, change, column)


async def stopped(world, actor, change, column):
    world.source.table = change()
    actor.request_refresh()
    with trio.fail_after(20):
        status = await actor.status.wait_until(lambda status: status.problem is not None and not status.activity)
    assert status.state is State.ERROR
    assert column in status.problem.message
    assert (status.ready, status.snapshot.rows) == (True, 1)
    assert await world.rows() == OLD
    world.source.table = table(*OLD, {"id": 2, "time": at(10), "note": "b"}, **COLUMNS)
    actor.request_refresh()
    with trio.fail_after(20):
        await actor.status.wait_until(lambda status: status.state is State.READY)
    assert [row["id"] for row in await world.rows()] == [1, 2]


async def test_rows_loaded_before_a_column_came_have_none_in_it(world):
    world.keys(on_schema_change=APPEND, time_column=TimeColumn("time"))
    world.accelerate(mode=StorageMode.FILE, refresh_mode=RefreshMode.APPEND)
    async with world.run() as actor:
        await actor.status.wait_until(loaded)
        await refreshed(world, actor, gained)
        assert [(row["id"], row["size"]) for row in await world.rows()] == [(1, None), (2, 5)]
