"""Conditions relative to now, bound to the wall clock at each refresh and each retention."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio

from caraway.config.model import Dataset, FromUri, RefreshMode
from caraway.config.params import ConnectorParams
from caraway.config.sql import parse_refresh_sql, retention_sql_of
from caraway.connectors.file.source import open_file_source
from caraway.core.predicate import Compare, Literal
from caraway.events import RefreshFinished, RefreshSkipped, RetentionFinished
from caraway.model import RefreshOverrides, State, TimeColumn
from caraway.secrets import Secrets
from support.dataset_world import World, table, timed
from support.fake_source import FakeSource

RECENT = parse_refresh_sql("SELECT * FROM t WHERE time > now() - INTERVAL '1 minute'", "t")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FakeSource(timed((1, -100), (2, -10), (3, 40), (4, None))))


async def ids(world):
    return [row["id"] for row in await world.rows()]


async def test_a_retention_removes_what_has_grown_old(world, autojump_clock):
    old = retention_sql_of("DELETE FROM t WHERE time < now() - INTERVAL '1 minute'", "t")
    world.accelerate(retention_check_enabled=True, retention_check_interval=30.0, retention_sql=old)
    async with world.run():
        await trio.sleep(1)
        assert await ids(world) == [1, 2, 3, 4]
        await trio.sleep(30)
        assert await ids(world) == [2, 3, 4]
        await trio.sleep(60)
        assert await ids(world) == [3, 4]
        await trio.sleep(60)
        assert await ids(world) == [4]
    assert world.of(RetentionFinished) == [30, 60, 120]


async def test_each_refresh_asks_the_source_for_literals_of_its_own_moment(world, autojump_clock):
    world.accelerate(refresh_sql=RECENT, refresh_check_interval=30.0)
    async with world.run():
        await trio.sleep(1)
        assert await ids(world) == [2, 3]
        await trio.sleep(60)
        assert await ids(world) == [3]
    start = 1_772_366_400_000
    assert [request.predicate for _, request in world.source.reads] == [
        Compare("time", ">", Literal(start + 1000 * (after - 60), "timestamp[ms, tz=UTC]")) for after in (0, 30, 60)
    ]


async def test_an_unchanged_source_is_read_again_since_time_has_passed(world, autojump_clock):
    world.source.token = "same"
    world.accelerate(refresh_sql=RECENT, refresh_check_interval=30.0)
    async with world.run():
        await trio.sleep(61)
    assert (world.of(RefreshFinished), world.of(RefreshSkipped)) == ([0, 30, 60], [])


async def test_a_file_source_evaluates_it(world, tmp_path: Path, autojump_clock):
    pq.write_table(world.source.table, tmp_path / "t.parquet")
    dataset = Dataset("t", FromUri("file", "t.parquet", "file:t.parquet"))

    async def connect():
        return await open_file_source(dataset, ConnectorParams({}, Secrets({}), "t"), directory=tmp_path)

    world.source.connect = connect
    world.accelerate(refresh_sql=RECENT)
    async with world.run() as actor:
        await actor.status.wait_until(lambda status: status.ready)  # no timer: time stands still while threads read
        assert await ids(world) == [2, 3]
        await trio.sleep(60)
        actor.request_refresh()
        await actor.status.wait_until(lambda status: status.snapshot.rows == 1)
        assert await ids(world) == [3]


async def test_an_append_adds_what_has_come_of_age(world, autojump_clock):
    settled = parse_refresh_sql("SELECT * FROM t WHERE time <= now() - INTERVAL '20 seconds'", "t")
    world.source.token = "same"
    world.accelerate(refresh_sql=settled, refresh_check_interval=30.0, refresh_mode=RefreshMode.APPEND)
    world.keys(time_column=TimeColumn("time"))
    async with world.run():
        await trio.sleep(1)
        assert await ids(world) == [1]
        await trio.sleep(60)
        assert await ids(world) == [1, 2, 3]


async def test_a_refresh_asked_for_by_hand_may_hold_it(world, autojump_clock):
    world.accelerate()
    async with world.run() as actor:
        await trio.sleep(1)
        actor.request_refresh(RefreshOverrides(refresh_sql=RECENT.text))
        await trio.sleep(1)
        assert await ids(world) == [2, 3]


NUMBERS = table({"id": 1, "time": 1_772_366_400}, id=pa.int64(), time=pa.int64())


@pytest.mark.parametrize("key", ["refresh_sql", "retention_sql"])
async def test_a_column_of_numbers_is_an_error_that_names_it(world, key, autojump_clock):
    world.source = FakeSource(NUMBERS)
    old = retention_sql_of("DELETE FROM t WHERE time < now() - INTERVAL '1 minute'", "t")
    retention = {"retention_check_enabled": True, "retention_check_interval": 30.0, "retention_sql": old}
    world.accelerate(**(retention if key == "retention_sql" else {"refresh_sql": RECENT}))
    async with world.run() as actor:
        await trio.sleep(1)
        status = actor.status.value
        assert status.state is State.ERROR
        assert (
            f"acceleration.{key}: column 'time' is int64, which can't be compared with now()" in status.problem.message
        )
    assert world.reads == []
