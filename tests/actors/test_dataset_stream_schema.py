"""Streams whose columns change, and streams of which only some is kept."""

import pyarrow as pa
import pytest
import trio

from caraway.config.model import OnSchemaChange, RefreshMode, RefreshSql
from caraway.config.sql import parse_refresh_sql
from caraway.core.predicate import RawSql
from caraway.dataset.selection import Selection
from caraway.errors import ConfigError, SourceError
from caraway.events import RetentionBlind, StreamSchemaChanged
from caraway.model import Append, Delete, OnConflict, ScanRequest, State, TableSpec, TimeColumn, Truncate
from support.dataset_world import World
from support.dataset_world import at as moment
from support.fake_stream import SCHEMA, FakeStream, append, at, copied, delete, heartbeat, live, told

WIDE = SCHEMA.append(pa.field("w", pa.float64()))
SCAN = ScanRequest("t")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FakeStream(SCHEMA.empty_table())).accelerate(refresh_mode=RefreshMode.APPEND)


def batch(schema, *records):
    return Append(pa.RecordBatch.from_pylist(list(records), schema=schema))


def change(world, schema):
    world.source.table = schema.empty_table()


# --- changes upstream ------------------------------------------------------------------------------------------------


async def test_added_nullable_columns_are_taken_up_and_the_stream_goes_on_from_its_cursor(world, autojump_clock):
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        change(world, WIDE)
        row = batch(WIDE, {"id": 2, "v": "b", "w": 0.5})
        world.source.scripts = [[live(row, end=2)]]
        world.source.say(live(append(9), end=2), live(row, end=3))  # which is how a stream may tell it
        await trio.sleep(0.5)
        assert [row["id"] for row in await world.rows()] == [1, 9]
        await trio.sleep(1)
        assert await world.rows() == [
            {"id": 1, "v": "a", "w": None},
            {"id": 9, "v": "a", "w": None},
            {"id": 2, "v": "b", "w": 0.5},
        ]
        assert pa.ipc.read_schema(pa.py_buffer(actor.table.value.schema)) == WIDE
        assert actor.status.value.state is State.READY
    assert world.source.follows == [(0, None), (2, at(2))]
    assert [event.columns for _, event in world.events if isinstance(event, StreamSchemaChanged)] == [("id", "v", "w")]


async def test_columns_that_were_added_while_it_was_away_are_taken_up(world, autojump_clock):
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run():
        await trio.sleep(1)
    change(world, WIDE)
    world.source.scripts = [[live(batch(WIDE, {"id": 2, "v": "b", "w": 0.5}), end=2)]]
    async with world.run():
        await trio.sleep(1)
        assert [row["w"] for row in await world.rows()] == [None, 0.5]
    assert [cursor for _, cursor in world.source.follows] == [None, at(1)]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (SCHEMA.remove(1), "column 'v' is gone"),
        (SCHEMA.set(1, pa.field("v", pa.int32())), "column 'v' was string, is int32"),
        (SCHEMA.append(pa.field("w", pa.float64(), nullable=False)), "new column 'w' must not be null"),
    ],
)
async def test_other_changes_are_errors_that_name_the_column_and_the_rows_are_served(
    world, autojump_clock, schema, told
):
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        change(world, schema)
        record = {"id": 2, "v": None, "w": 0.5}
        world.source.say(live(batch(schema, {name: record[name] for name in schema.names}), end=2))
        await trio.sleep(2)
        status = actor.status.value
        assert status.state is State.ERROR
        assert status.problem.message == (
            f"The source's schema of dataset t has changed: {told}. The stream can't go on."
        )
        async with actor.resolve(SCAN) as pinned:
            snapshot = pinned.snapshot
            assert snapshot.rows == 1
        await trio.sleep(60)
        assert world.source.connects == [0, 2, 32, 62]
        change(world, SCHEMA)
        world.source.scripts = [[live(append(2), end=2)]]
        await trio.sleep(31)
        assert [row["id"] for row in await world.rows()] == [1, 2]
        assert actor.status.value.state is State.READY


async def test_rows_of_another_schema_than_the_source_tells_are_tried_once_and_then_fitted(world, autojump_clock):
    """A dictionary on the wire, a column that GetSchema does not tell: what the source tells of the table counts."""
    odd = pa.schema({"id": pa.int64(), "v": pa.dictionary(pa.int8(), pa.string()), "x": pa.int8()})
    row = batch(odd, {"id": 1, "v": "a", "x": 7})
    world.source.scripts = [copied(row, end=1)] * 2
    async with world.run() as actor:
        await trio.sleep(2)
        assert await world.rows() == [{"id": 1, "v": "a"}]
        world.source.say(live(row, end=2))
        await trio.sleep(2)
        assert await world.rows() == [{"id": 1, "v": "a"}] * 2
        assert actor.status.value.state is State.READY
    assert len(world.source.follows) == 2


async def test_on_schema_change_fail_refuses_new_columns(world, autojump_clock):
    world.keys(on_schema_change=OnSchemaChange.FAIL)
    world.source.scripts = [copied(append(1), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        change(world, WIDE)
        world.source.say(SourceError("gone"))
        await trio.sleep(2)
        assert "column 'w' is new. on_schema_change is fail." in actor.status.value.problem.message


async def test_what_became_nullable_is_taken_up_and_what_became_not_null_stays(world, autojump_clock):
    strict = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("v", pa.string())])
    change(world, strict)
    world.source.scripts = [copied(batch(strict, {"id": 1, "v": None}), end=1)]
    async with world.run() as actor:
        await trio.sleep(1)
        change(world, pa.schema([pa.field("id", pa.int64()), pa.field("v", pa.string(), nullable=False)]))
        world.source.scripts = [[live(append(2), end=2)]]
        world.source.say(SourceError("gone"))
        await trio.sleep(2)
        assert pa.ipc.read_schema(pa.py_buffer(actor.table.value.schema)) == SCHEMA
        assert [row["id"] for row in await world.rows()] == [1, 2]


@pytest.mark.parametrize("engine", ["arrow", "sqlite", "parquet"])
async def test_engines_take_up_columns(world, engine):
    """On the real clock: a virtual one jumps while threads of the engine work."""
    world.engine = engine
    world.chance = 0.0
    if engine != "arrow":
        from caraway.config.model import Engine, StorageMode

        world.accelerate(refresh_mode=RefreshMode.APPEND, engine=Engine(engine), mode=StorageMode.FILE)
    row = batch(WIDE, {"id": 2, "v": "b", "w": 0.5})
    copy = copied(batch(WIDE, {"id": 1, "v": "a", "w": None}), row, end=2)
    world.source.scripts = [copied(append(1), end=1), copy if engine == "arrow" else [live(row, end=2)]]
    with trio.fail_after(20):
        async with world.run() as actor:
            await actor.status.wait_until(lambda status: status.ready)
            change(world, WIDE)
            world.source.say(SourceError("gone"))
            await actor.table.wait_change()
            await actor.status.wait_until(lambda status: status.snapshot is not None and status.snapshot.rows == 2)
            assert [row["w"] for row in await world.rows()] == [None, 0.5]
    assert [cursor for _, cursor in world.source.follows] == [None, None if engine == "arrow" else at(1)]


# --- refresh_sql -----------------------------------------------------------------------------------------------------


def spec(schema=SCHEMA, key=("id",), on_conflict=OnConflict.UPSERT_LAST):
    return TableSpec("t", schema, key, on_conflict)


def selects(text, table=None):
    return Selection(table or spec(), parse_refresh_sql(text, "t"))


def plain(changes):
    return [
        ("+", change.rows.to_pylist()) if isinstance(change, Append) else ("-", change.keys.to_pylist())
        for change in changes
    ]


def both(*pairs):
    return batch(SCHEMA, *({"id": id_, "v": v} for id_, v in pairs))


def test_a_row_that_leaves_the_selection_is_removed_by_its_key():
    found = selects("SELECT * FROM t WHERE v = 'in'").live([both((1, "in"), (2, "out"), (3, None))], 0)
    assert plain(found) == [("-", [{"id": 2}, {"id": 3}]), ("+", [{"id": 1, "v": "in"}])]


def test_the_last_word_on_a_key_decides():
    selection = selects("SELECT * FROM t WHERE v = 'in'")
    assert plain(selection.live([both((1, "in"), (1, "out"))], 0)) == [("-", [{"id": 1}])]
    assert plain(selection.live([both((1, "out"), (1, "in"))], 0)) == [("+", [{"id": 1, "v": "in"}])]
    assert selection.live([both()], 0) == []


def test_without_a_key_and_where_stored_rows_stay_the_others_are_left_out():
    for table in (spec(key=()), spec(on_conflict=OnConflict.DROP)):
        found = selects("SELECT * FROM t WHERE v = 'in'", table).live([both((1, "out"), (2, "in"))], 0)
        assert plain(found) == [("+", [{"id": 2, "v": "in"}])]


def test_columns_are_projected_and_a_condition_may_ask_for_others():
    selection = selects("SELECT id FROM t WHERE v = 'in'", spec(SCHEMA.remove(1)))
    assert plain(selection.live([both((1, "in"))], 0)) == [("+", [{"id": 1}])]
    assert plain(selection.live([delete(1)], 0)) == [("-", [{"id": 1}])]
    assert selection.copied(both((1, "in"), (2, "out")), 0).to_pylist() == [{"id": 1}]


def test_deletes_by_equality_need_all_columns():
    with pytest.raises(SourceError, match="can't be told apart"):
        selects("SELECT id FROM t", spec(SCHEMA.remove(1), ())).live([Delete(append(1).rows)], 0)


def test_deletes_within_a_copy_are_no_copy():
    with pytest.raises(SourceError, match="within a complete copy"):
        Selection(spec(), None).copied(delete(1), 0)


def test_now_is_when_the_rows_come():
    schema = pa.schema({"id": pa.int64(), "at": pa.timestamp("us")})
    selection = selects("SELECT * FROM t WHERE at > now() - INTERVAL '10 seconds'", spec(schema))
    rows = batch(schema, {"id": 1, "at": moment(0)}, {"id": 2, "at": moment(60)})
    base = int((moment(0) - moment(0).replace(year=1970, month=1, day=1, hour=0)).total_seconds())
    for seconds, expected in ((5, [1, 2]), (65, [2])):
        found = selection.copied(rows, (base + seconds) * 10**9)
        assert found["id"].to_pylist() == expected


def test_conditions_that_only_sql_can_evaluate_are_refused(world):
    sql = RefreshSql("SELECT * FROM t WHERE f(v)", None, RawSql("f(v)"))
    with pytest.raises(ConfigError, match="can't be evaluated on the rows of a stream"):
        world.accelerate(refresh_mode=RefreshMode.APPEND, refresh_sql=sql).actor()


async def test_a_selected_stream_from_copy_to_news(world, autojump_clock):
    sql = parse_refresh_sql("SELECT * FROM t WHERE v = 'a'", "t")
    world.accelerate(refresh_mode=RefreshMode.CHANGES, primary_key=("id",), refresh_sql=sql)
    world.source.scripts = [[told(Truncate(), append(1, 2), append(3, v="b"))]]
    async with world.run():
        await trio.sleep(2)
        assert [row["id"] for row in await world.rows()] == [1, 2]
        world.source.say(told(append(1, 4, v="b"), append(3)))
        await trio.sleep(1)
        assert [row["id"] for row in await world.rows()] == [2, 3]


async def test_other_rows_than_those_stored_take_a_copy(world, autojump_clock):
    world.source.scripts = [copied(append(1), end=1), copied(append(1), end=1), [heartbeat(1)]]
    for text in (None, "SELECT * FROM t WHERE id > 1", "SELECT * FROM t WHERE id > 1"):
        sql = parse_refresh_sql(text, "t") if text is not None else None
        world.accelerate(refresh_mode=RefreshMode.APPEND, refresh_sql=sql)
        async with world.run():
            await trio.sleep(1)
    assert [cursor for _, cursor in world.source.follows] == [None, None, at(1)]


async def test_rows_that_retention_never_sees_are_told_once(world, autojump_clock):
    schema = pa.schema({"id": pa.int64(), "at": pa.timestamp("us")})
    change(world, schema)
    world.keys(time_column=TimeColumn("at"))
    world.accelerate(
        refresh_mode=RefreshMode.CHANGES,
        retention_check_enabled=True,
        retention_period=60.0,
        retention_check_interval=10.0,
    )
    fresh, timeless = ({"id": 1, "at": moment(0)}, {"id": 2, "at": None})
    world.source.scripts = [copied(batch(schema, fresh), end=1)]
    async with world.run():
        await trio.sleep(5)
        world.source.say(live(batch(schema, timeless), end=2), live(batch(schema, timeless), end=3))
        await trio.sleep(100)
        assert [row["id"] for row in await world.rows()] == [2, 2]
    assert world.of(RetentionBlind) == [5]
