"""What every accelerator does (ports.Accelerator, DESIGN section 3); run over each engine and over the fake."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import trio

from caraway.config.model import StorageMode
from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or
from caraway.errors import ConfigError, StoreError
from caraway.kernels import filter_batch
from caraway.model import (
    Append,
    Cursor,
    Delete,
    DeleteWhere,
    Index,
    OnConflict,
    TableSpec,
    TimeColumn,
    TimeFormat,
)
from support.engines import CONFORMING, FAKE, NAMES, PERSISTENT, SIMULATED, EngineUnderTest, rows_of, table_of, tail_of

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("name", pa.string()), pa.field("at", pa.timestamp("us"))])
TIME = TimeColumn("at", TimeFormat.TIMESTAMP)
PLAIN = TableSpec("orders", SCHEMA, time=TIME)


def keyed(on_conflict: OnConflict = OnConflict.UPSERT, indexes: tuple[Index, ...] = ()) -> TableSpec:
    return TableSpec("orders", SCHEMA, ("id",), on_conflict, indexes, TIME)


def batch(*rows: tuple, schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def numbered(*ids: int, name: str = "x") -> pa.RecordBatch:
    return batch(*((i, f"{name}{i}", i * 1000) for i in ids))


def ids(rows: list[dict]) -> list[int]:
    return [row["id"] for row in rows]


@pytest.fixture(params=CONFORMING)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> EngineUnderTest:
    return EngineUnderTest(request.param, tmp_path / "orders")


def among(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("engine", names, indirect=True)


outliving = among(FAKE, SIMULATED, *PERSISTENT)
"""What memory holds ends with its process."""
with_modes = among(*PERSISTENT)
"""`arrow` has one mode, memory."""
real = among(*(name for name in NAMES if name != FAKE))
"""The fake has no modes and takes what a test gives it."""


# --- commits ---------------------------------------------------------------------------------------------------------


async def test_a_new_store_holds_nothing(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        assert store.spec == PLAIN
        assert store.snapshot.value is None
        with pytest.raises(StoreError), store.pin():
            pass
        assert await tail_of(store, "any", 0) is None


async def test_a_commit_returns_and_publishes_the_snapshot(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        rows = numbered(1, 2, 3)
        snapshot = await store.commit([Append(rows)], Cursor('{"at": 3}'))
        assert store.snapshot.value == snapshot
        assert snapshot.epoch
        assert (snapshot.end_offset, snapshot.rows, snapshot.cursor) == (3, 3, '{"at": 3}')
        assert snapshot.max_time == 3_000_000
        assert snapshot.bytes > 0
        assert (await table_of(store)).equals(pa.Table.from_batches([rows]))


async def test_the_first_commit_opens_an_epoch_even_without_rows(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        snapshot = await store.commit([], Cursor("c"))
        assert (snapshot.rows, snapshot.bytes, snapshot.end_offset, snapshot.max_time) == (0, 0, 0, None)
        assert await rows_of(store) == []
        assert await tail_of(store, snapshot.epoch, 0) == []


async def test_later_commits_stay_in_the_epoch_and_raise_generation_and_offset(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        first = await store.commit([Append(numbered(1))], Cursor("1"))
        second = await store.commit([Append(numbered(2)), Append(numbered(3))], Cursor("2"))
        assert second.epoch == first.epoch
        assert second.generation > first.generation
        assert (second.end_offset, second.rows, second.cursor) == (3, 3, "2")
        assert second.bytes > first.bytes
        assert ids(await rows_of(store)) == [1, 2, 3]


async def test_a_commit_that_changes_nothing_keeps_the_generation(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        first = await store.commit([Append(numbered(1))], Cursor("1"))
        for changes in (
            [],
            [Append(numbered())],
            [Delete(numbered(7))],
            [DeleteWhere(Compare("id", "=", Literal(7, "int64")))],
        ):
            second = await store.commit(changes, Cursor("2"))
            assert (second.generation, second.end_offset, second.rows) == (first.generation, 1, 1)
            assert second.cursor == "2"
            assert store.snapshot.value == second


async def test_a_cursor_of_none_is_stored_too(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        await store.commit([Append(numbered(1))], Cursor("1"))
        assert (await store.commit([], None)).cursor is None


async def test_changes_apply_in_order(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        changes = [Append(numbered(1, 2)), Delete(numbered(1)), Append(numbered(1, name="y")), Delete(numbered(2))]
        await store.commit(changes, None)
        assert [row["name"] for row in await rows_of(store)] == ["y1"]


async def test_a_refused_commit_changes_neither_rows_nor_cursor(engine: EngineUnderTest) -> None:
    async with engine.open(keyed(OnConflict.REJECT)) as store:
        before = await store.commit([Append(numbered(1))], Cursor("1"))
        with pytest.raises(StoreError, match=r"uniqueness constraint on column\(s\): id") as caught:
            await store.commit([Append(numbered(2)), Append(numbered(1))], Cursor("2"))
        assert not caught.value.transient
        assert store.snapshot.value == before
        assert ids(await rows_of(store)) == [1]
        after = await store.commit([Append(numbered(2))], Cursor("2"))
        assert (after.rows, ids(await rows_of(store))) == (2, [1, 2])


async def test_a_batch_of_another_schema_is_cast_or_refused_by_column(engine: EngineUnderTest) -> None:
    narrow = pa.schema([("at", pa.timestamp("ms")), ("id", pa.int32()), ("name", pa.large_string())])
    async with engine.open(PLAIN) as store:
        await store.commit([Append(batch((5, 1, "a"), schema=narrow))], None)
        assert (await table_of(store)).column("id").to_pylist() == [1]
        wrong = pa.schema([("id", pa.string()), ("name", pa.string()), ("at", pa.timestamp("us"))])
        with pytest.raises(StoreError, match="'id'"):
            await store.commit([Append(batch(("one", "b", 1), schema=wrong))], None)
        assert len(await rows_of(store)) == 1


# --- epochs ----------------------------------------------------------------------------------------------------------


async def test_a_replacement_is_invisible_until_its_commit_and_then_a_new_epoch(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        first = await store.commit([Append(numbered(1, 2))], Cursor("1"))
        async with store.stage(replace=True) as staging:
            await staging.append(numbered(7))
            await staging.append(numbered(8))
            assert store.snapshot.value == first
            assert ids(await rows_of(store)) == [1, 2]
            second = await staging.commit(Cursor("2"))
        assert store.snapshot.value == second
        assert second.epoch != first.epoch
        assert (second.rows, second.end_offset, second.cursor, second.max_time) == (2, 2, "2", 8_000_000)
        assert ids(await rows_of(store)) == [7, 8]
        assert await tail_of(store, first.epoch, 0) is None


async def test_a_replacement_may_be_the_first_commit_or_empty(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        async with store.stage(replace=True) as staging:
            await staging.append(numbered(1))
            first = await staging.commit(Cursor("1"))
        async with store.stage(replace=True) as staging:
            second = await staging.commit(Cursor("2"))
        assert second.epoch != first.epoch
        assert (second.rows, second.bytes, second.end_offset, second.max_time) == (0, 0, 0, None)
        assert await rows_of(store) == []


async def test_staged_rows_are_appended_at_once(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        first = await store.commit([Append(numbered(1))], Cursor("1"))
        async with store.stage(replace=False) as staging:
            await staging.append(numbered(2))
            await staging.append(numbered(3))
            assert ids(await rows_of(store)) == [1]
            second = await staging.commit(Cursor("2"))
        assert second.epoch == first.epoch
        assert second.generation > first.generation
        assert (second.rows, second.cursor, second.max_time) == (3, "2", 3_000_000)
        assert ids(await rows_of(store)) == [1, 2, 3]
        assert [row["id"] for _, row in await tail_of(store, first.epoch, first.end_offset) or ()] == [2, 3]


async def test_staged_rows_may_be_the_first_ones(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        async with store.stage(replace=False) as staging:
            await staging.append(numbered(2))
            snapshot = await staging.commit(None)
        assert (snapshot.rows, ids(await rows_of(store))) == (1, [2])


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("how", ["left", "raised", "cancelled"])
async def test_leaving_a_staging_discards_it(engine: EngineUnderTest, replace: bool, how: str) -> None:
    async with engine.open(PLAIN) as store:
        before = await store.commit([Append(numbered(1))], Cursor("1"))
        with trio.CancelScope() as scope, pytest.raises(KeyError) if how == "raised" else nullcontext():
            async with store.stage(replace=replace) as staging:
                await staging.append(numbered(2))
                if how == "cancelled":
                    scope.cancel()
                    await trio.sleep_forever()
                if how == "raised":
                    raise KeyError(how)
        await store.maintain()
        assert store.snapshot.value == before
        assert ids(await rows_of(store)) == [1]
        assert (await store.commit([Append(numbered(3))], Cursor("3"))).rows == 2
        assert ids(await rows_of(store)) == [1, 3]


# --- pins and scans --------------------------------------------------------------------------------------------------


async def test_a_pinned_snapshot_stays_as_it_was(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        await store.commit([Append(numbered(1, 2, 3))], None)
        with store.pin() as pinned:
            expected = await rows_of(store, pinned)
            await store.commit([Append(numbered(2, 4, name="new"))], None)
            assert await rows_of(store, pinned) == expected
            await store.commit([Delete(numbered(1))], None)
            with store.pin() as later:
                assert ids(await rows_of(store, later)) == [3, 2, 4]
                await store.maintain()
                await store.commit([DeleteWhere(Compare("id", ">", Literal(0, "int64")))], None)
                async with store.stage(replace=True) as staging:
                    await staging.append(numbered(9))
                    await staging.commit(None)
                await store.maintain()
                assert ids(await rows_of(store, later)) == [3, 2, 4]
            assert await rows_of(store, pinned) == expected
        await store.maintain()
        await store.commit([Append(numbered(10))], None)
        assert ids(await rows_of(store)) == [9, 10]


async def test_a_scan_projects_and_filters(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        await store.commit([Append(numbered(1, 2, 3))], None)
        above_one = Compare("id", ">", Literal(1, "int64"))
        assert (await table_of(store, columns=["at", "id"])).column_names == ["at", "id"]
        found = await table_of(store, columns=["name"], predicate=above_one)
        assert found.to_pylist() == [{"name": "x2"}, {"name": "x3"}]
        with store.pin() as snapshot:
            async with store.scan(snapshot, []) as batches:
                assert sum([part.num_rows async for part in batches]) == 3
            async with store.scan(snapshot, [], above_one) as batches:
                assert sum([part.num_rows async for part in batches]) == 2


async def test_a_scan_may_be_left_early(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        for start in range(0, 100, 10):
            await store.commit([Append(numbered(*range(start, start + 10)))], None)
        with store.pin() as snapshot:
            async with store.scan(snapshot) as batches:
                async for part in batches:
                    assert part.num_rows > 0
                    break
        await store.commit([Append(numbered(100))], None)
        assert len(await rows_of(store)) == 101


async def test_a_cancelled_scan_leaves_the_store_whole(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        await store.commit([Append(numbered(*range(1000)))], None)
        with trio.CancelScope() as scope, store.pin() as snapshot:
            async with store.scan(snapshot) as batches:
                scope.cancel()
                async for _ in batches:
                    pass
        assert scope.cancelled_caught
        assert len(await rows_of(store)) == 1000


async def test_scans_go_on_beside_commits(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        await store.commit([Append(numbered(0))], None)

        async def write() -> None:
            for number in range(1, 20):
                await store.commit([Append(numbered(number))], None)

        async def read() -> None:
            for _ in range(10):
                with store.pin() as snapshot:
                    assert ids(await rows_of(store, snapshot)) == list(range(snapshot.rows))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            nursery.start_soon(read)
            nursery.start_soon(read)
        assert ids(await rows_of(store)) == list(range(20))


# --- the log ---------------------------------------------------------------------------------------------------------


async def test_a_tail_gives_what_came_from_an_offset_on(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        for start in (0, 10, 20):
            snapshot = await store.commit([Append(numbered(*range(start, start + 10)))], None)
        for _ in range(2):
            for start in (0, 5, 10, 29, 30):
                tail = await tail_of(store, snapshot.epoch, start)
                assert tail is not None
                assert ids([row for _, row in tail]) == list(range(start, 30))
                assert [end for end, _ in tail] == sorted(end for end, _ in tail)
                assert not tail or tail[-1][0] == 30
            await store.maintain()
        assert await tail_of(store, snapshot.epoch, 31) is None
        assert await tail_of(store, "another epoch", 0) is None


async def test_each_offset_of_a_tail_resumes_it_exactly(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        for start in range(0, 40, 8):
            snapshot = await store.commit([Append(numbered(*range(start, start + 8)))], None)
        snapshot = await store.commit([Delete(numbered(3, 4, 20, 39)), Append(numbered(8, 9))], None)
        whole = await tail_of(store, snapshot.epoch, 0)
        assert whole is not None
        for end in {end for end, _ in whole}:
            rest = await tail_of(store, snapshot.epoch, end)
            assert rest is not None
            assert [row for _, row in rest] == [row for later, row in whole if later > end]


async def test_an_upserted_row_gets_a_new_offset(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        first = await store.commit([Append(numbered(1, 2))], None)
        second = await store.commit([Append(numbered(1, name="y"))], None)
        tail = await tail_of(store, first.epoch, first.end_offset)
        assert tail is not None
        assert [row["name"] for _, row in tail] == ["y1"]
        assert second.rows == 2
        assert [row["name"] for row in await rows_of(store)] == ["x2", "y1"]


async def test_offsets_are_never_given_twice(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        first = await store.commit([Append(numbered(1, 2))], None)
        holes = await store.commit([Delete(numbered(2))], None)
        assert holes.end_offset > first.end_offset
        second = await store.commit([Append(numbered(3))], None)
        assert second.end_offset > first.end_offset
        tail = await tail_of(store, first.epoch, first.end_offset)
        assert tail is not None
        assert ids([row for _, row in tail]) == [3]


async def test_a_delete_by_key_has_an_offset_of_its_own(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        first = await store.commit([Append(numbered(1, 2, 3, 4, 5))], None)
        second = await store.commit([Delete(numbered(1, 2)), Delete(numbered(1)), Delete(numbered(3))], None)
        assert second.end_offset == 7
        third = await store.commit([Append(numbered(6)), Delete(numbered(6)), Append(numbered(7))], None)
        assert third.end_offset == 10
        assert [row["id"] for _, row in await tail_of(store, first.epoch, 5) or ()] == [7]
        retention = Compare("id", "=", Literal(7, "int64"))
        assert (await store.commit([DeleteWhere(retention)], None)).end_offset == 10


async def test_a_delete_without_a_key_has_one_too(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        await store.commit([Append(numbered(1, 2, 2))], None)
        assert (await store.commit([Delete(numbered(2)), Delete(numbered(9))], None)).end_offset == 4


async def test_a_tail_may_begin_and_end_in_a_hole(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        await store.commit([Append(numbered(*range(1, 9)))], None)
        await store.commit([Delete(numbered(5, 6))], None)
        await store.commit([Append(numbered(10, 11))], None)
        last = await store.commit([Delete(numbered(11)), Delete(numbered(8))], None)
        assert last.end_offset == 13
        for _ in range(2):
            for start, expected in {4: [7, 10], 8: [10], 9: [10], 10: [], 11: [], 12: [], 13: []}.items():
                tail = await tail_of(store, last.epoch, start)
                assert tail is not None
                assert [row["id"] for _, row in tail] == expected, start
                assert all(start < end <= 13 for end, _ in tail)
            await store.maintain()
        assert (await store.commit([Append(numbered(12))], None)).end_offset == 14


# --- deletes and retention -------------------------------------------------------------------------------------------


async def test_rows_are_deleted_by_key(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        await store.commit([Append(numbered(1, 2, 3))], None)
        snapshot = await store.commit([Delete(pa.record_batch({"id": [1, 3, 99]}))], None)
        assert (snapshot.rows, ids(await rows_of(store))) == (1, [2])


async def test_without_a_key_rows_are_deleted_by_equality_of_all_columns(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        await store.commit(
            [Append(batch((1, "a", 1), (1, None, None), (1, "a", 2), (1, "a", 1), (2, None, None)))], None
        )
        snapshot = await store.commit([Delete(batch((1, "a", 1), (2, None, None)))], None)
        assert snapshot.rows == 2
        assert [(row["name"], row["at"] is None) for row in await rows_of(store)] == [(None, True), ("a", False)]


async def test_retention_leaves_holes_and_null_times(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        first = await store.commit([Append(batch((1, "a", 10), (2, "b", None), (3, "c", 30)))], None)
        old = Compare("at", "<", Literal(25, "timestamp[us]"))
        second = await store.commit([DeleteWhere(old)], first.cursor)
        assert ids(await rows_of(store)) == [2, 3]
        assert (second.rows, second.end_offset, second.epoch) == (2, 3, first.epoch)
        assert second.generation > first.generation
        assert second.bytes < first.bytes
        tail = await tail_of(store, first.epoch, 0)
        assert tail is not None
        assert ids([row for _, row in tail]) == [2, 3]


async def test_the_greatest_time_outlives_its_row(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        await store.commit([Append(batch((1, "a", 10), (2, "b", 30)))], None)
        snapshot = await store.commit([DeleteWhere(Compare("id", "=", Literal(2, "int64")))], None)
        assert snapshot.max_time == 30_000
        assert (await store.commit([Append(batch((3, "c", 20)))], None)).max_time == 30_000


async def test_all_rows_may_be_deleted(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        first = await store.commit([Append(numbered(1, 2))], None)
        second = await store.commit([DeleteWhere(Not(IsNull("id")))], None)
        assert (second.rows, second.bytes, second.end_offset) == (0, 0, 2)
        await store.maintain()
        assert await rows_of(store) == []
        assert await tail_of(store, first.epoch, 2) == []
        assert (await store.commit([Append(numbered(3))], None)).end_offset > 2


# --- keys ------------------------------------------------------------------------------------------------------------

ONE_TWO = batch((1, "old", 1), (2, "old", 2))
CONFLICTS = [
    # what arrives, on_conflict, what is there then (None: refused)
    (batch((2, "new", 9), (3, "new", 9)), OnConflict.REJECT, None),
    (batch((2, "new", 9), (3, "new", 9)), OnConflict.DROP, [(1, "old"), (2, "old"), (3, "new")]),
    (batch((2, "new", 9), (3, "new", 9)), OnConflict.UPSERT, [(1, "old"), (2, "new"), (3, "new")]),
    (batch((2, "new", 9), (3, "new", 9)), OnConflict.UPSERT_DEDUP, [(1, "old"), (2, "new"), (3, "new")]),
    (batch((2, "new", 9), (3, "new", 9)), OnConflict.UPSERT_LAST, [(1, "old"), (2, "new"), (3, "new")]),
    (batch((3, "a", 9), (3, "a", 9)), OnConflict.REJECT, None),
    (batch((3, "a", 9), (3, "b", 9)), OnConflict.DROP, [(1, "old"), (2, "old"), (3, "a")]),
    (batch((3, "a", 9), (3, "a", 9)), OnConflict.UPSERT, None),
    (batch((3, "a", 9), (3, "b", 9)), OnConflict.UPSERT, None),
    (batch((2, "a", 9), (2, "a", 9)), OnConflict.UPSERT_DEDUP, [(1, "old"), (2, "a")]),
    (batch((2, None, None), (2, None, None)), OnConflict.UPSERT_DEDUP, [(1, "old"), (2, None)]),
    (batch((2, "a", 9), (2, "b", 9)), OnConflict.UPSERT_DEDUP, None),
    (batch((2, "a", 9), (3, "c", 9), (2, "b", 9)), OnConflict.UPSERT_LAST, [(1, "old"), (3, "c"), (2, "b")]),
    (batch((None, "a", 9)), OnConflict.UPSERT, None),
    (batch((None, "a", 9)), OnConflict.DROP, None),
]


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize(("arriving", "on_conflict", "expected"), CONFLICTS)
async def test_an_arriving_key_that_is_there(
    engine: EngineUnderTest,
    arriving: pa.RecordBatch,
    on_conflict: OnConflict,
    expected: list[tuple] | None,
    staged: bool,
) -> None:
    async def offer(store) -> None:
        if not staged:
            await store.commit([Append(arriving)], None)
            return
        async with store.stage(replace=False) as staging:
            await staging.append(arriving)
            await staging.commit(None)

    async with engine.open(keyed(on_conflict)) as store:
        before = await store.commit([Append(ONE_TWO)], None)
        if expected is None:
            with pytest.raises(StoreError):
                await offer(store)
            assert store.snapshot.value == before
            expected = [(1, "old"), (2, "old")]
        else:
            await offer(store)
        assert sorted((row["id"], row["name"]) for row in await rows_of(store)) == sorted(expected)
        assert store.snapshot.value is not None
        assert store.snapshot.value.rows == len(expected)


@pytest.mark.parametrize(
    ("on_conflict", "expected"),
    [(OnConflict.REJECT, None), (OnConflict.DROP, ["a1", "a2", "b3"]), (OnConflict.UPSERT, ["a1", "b2", "b3"])],
)
@pytest.mark.parametrize("replace", [False, True])
async def test_a_key_in_two_staged_batches(
    engine: EngineUnderTest, on_conflict: OnConflict, expected: list[str] | None, replace: bool
) -> None:
    async def load(store) -> None:
        async with store.stage(replace=replace) as staging:
            await staging.append(numbered(1, 2, name="a"))
            await staging.append(numbered(2, 3, name="b"))
            await staging.commit(None)

    async with engine.open(keyed(on_conflict)) as store:
        before = await store.commit([Append(numbered(9))], None)
        if expected is None:
            with pytest.raises(StoreError, match="uniqueness"):
                await load(store)
            assert store.snapshot.value == before
        else:
            await load(store)
            names = [row["name"] for row in await rows_of(store) if row["id"] != 9]
            assert sorted(names) == expected
            assert ids(await rows_of(store)).count(9) == (0 if replace else 1)


async def test_keys_of_several_columns(engine: EngineUnderTest) -> None:
    spec = TableSpec("orders", SCHEMA, ("name", "id"), OnConflict.UPSERT)
    async with engine.open(spec) as store:
        await store.commit([Append(batch((1, "a", 1), (1, "b", 2), (2, "a", 3)))], None)
        await store.commit([Append(batch((1, "b", 9)))], None)
        await store.commit([Delete(pa.record_batch({"id": [2], "name": ["a"]}))], None)
        rows = await table_of(store)
        assert list(zip(rows["id"].to_pylist(), rows["name"].to_pylist(), strict=True)) == [(1, "a"), (1, "b")]
        assert pc.cast(rows["at"], pa.int64()).to_pylist() == [1, 9]


async def test_a_unique_index_refuses_and_lets_nulls_pass(engine: EngineUnderTest) -> None:
    spec = keyed(OnConflict.REJECT, (Index(("name",), unique=True), Index(("at",))))
    async with engine.open(spec) as store:
        await store.commit([Append(batch((1, "a", 1), (2, None, 1)))], None)
        await store.commit([Append(batch((3, None, 1)))], None)
        with pytest.raises(StoreError, match=r"column\(s\): name"):
            await store.commit([Append(batch((4, "a", 1)))], None)
        assert ids(await rows_of(store)) == [1, 2, 3]
        await store.commit([DeleteWhere(Compare("name", "=", Literal("a", "string")))], None)
        await store.commit([Append(batch((5, "a", 1)))], None)
        assert ids(await rows_of(store)) == [2, 3, 5]


async def test_a_unique_index_may_be_the_target_of_on_conflict(engine: EngineUnderTest) -> None:
    spec = TableSpec("orders", SCHEMA, (), OnConflict.UPSERT, (Index(("name",), unique=True),))
    async with engine.open(spec) as store:
        await store.commit([Append(batch((1, "a", 1), (2, None, 1)))], None)
        await store.commit([Append(batch((3, "a", 1), (4, None, 1)))], None)
        assert ids(await rows_of(store)) == [2, 3, 4]


async def test_a_deleted_key_may_come_again_in_the_same_commit(engine: EngineUnderTest) -> None:
    async with engine.open(keyed(OnConflict.REJECT)) as store:
        await store.commit([Append(numbered(1, 2))], None)
        with store.pin() as pinned:
            await store.commit([Delete(numbered(1)), Append(numbered(1, name="y"))], None)
            assert [row["name"] for row in await rows_of(store)] == ["x2", "y1"]
            assert [row["name"] for row in await rows_of(store, pinned)] == ["x1", "x2"]


# --- reopening -------------------------------------------------------------------------------------------------------


@outliving
async def test_the_offset_of_a_delete_is_found_again(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        await store.commit([Append(numbered(1, 2, 3))], None)
        await store.commit([Delete(numbered(3))], None)
        await store.maintain()
        before = await store.commit([Append(numbered(4)), Delete(numbered(4))], Cursor("c"))
        assert before.end_offset == 6
    async with engine.open(keyed()) as store:
        assert store.snapshot.value is not None
        assert (store.snapshot.value.end_offset, store.snapshot.value.rows) == (6, 2)
        after = await store.commit([Append(numbered(5))], None)
        assert [row["id"] for _, row in await tail_of(store, after.epoch, 6) or ()] == [5]


@outliving
async def test_a_store_is_found_again(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        await store.commit([Append(numbered(1, 2, 3)), Delete(numbered(1))], Cursor("1"))
        before = await store.commit([Append(numbered(2, name="y"))], Cursor("2"))
        rows = await rows_of(store)
    async with engine.open(keyed()) as store:
        assert store.snapshot.value is not None
        for name in ("epoch", "generation", "end_offset", "rows", "bytes", "max_time", "cursor"):
            assert getattr(store.snapshot.value, name) == getattr(before, name), name
        assert await rows_of(store) == rows
        assert [row for _, row in await tail_of(store, before.epoch, 0) or ()] == rows
        after = await store.commit([Append(numbered(3, name="z"))], None)
        assert after.end_offset > before.end_offset
        assert after.generation > before.generation
        assert sorted(row["name"] for row in await rows_of(store)) == ["y2", "z3"]


async def test_a_store_is_found_without_a_schema(engine: EngineUnderTest) -> None:
    assert await engine.recover(PLAIN) is None
    async with engine.open(PLAIN) as store:
        await store.commit([Append(numbered(1))], Cursor("1"))
    store = await engine.recover(PLAIN)
    if not engine.persistent:
        assert store is None
        return
    assert store is not None
    assert store.spec == PLAIN
    assert ids(await rows_of(store)) == [1]
    await store.commit([Append(numbered(2))], None)
    await store.aclose()


@outliving
async def test_a_discarded_staging_is_not_found_again(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        await store.commit([Append(numbered(1))], Cursor("1"))
        async with store.stage(replace=True) as staging:
            await staging.append(numbered(2))
    async with engine.open(PLAIN) as store:
        assert ids(await rows_of(store)) == [1]


@with_modes
async def test_file_create_starts_empty(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        epoch = (await store.commit([Append(numbered(1))], None)).epoch
    assert await engine.recover(PLAIN, StorageMode.FILE_CREATE) is None
    async with engine.open(PLAIN, StorageMode.FILE_CREATE) as store:
        assert store.snapshot.value is None
        assert (await store.commit([Append(numbered(2))], None)).epoch != epoch
        assert ids(await rows_of(store)) == [2]


@real
async def test_memory_mode_leaves_nothing(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN, StorageMode.MEMORY) as store:
        await store.commit([Append(numbered(1))], None)
        assert ids(await rows_of(store)) == [1]
    assert await engine.recover(PLAIN, StorageMode.MEMORY) is None
    async with engine.open(PLAIN, StorageMode.MEMORY) as store:
        assert store.snapshot.value is None


WIDER = TableSpec("orders", pa.schema([SCHEMA.field(0), pa.field("extra", pa.string()), *list(SCHEMA)[1:]]))
OTHER = TableSpec("orders", pa.schema([("id", pa.string()), ("name", pa.string())]))


@pytest.mark.parametrize("mode", [StorageMode.FILE, StorageMode.FILE_UPDATE])
@with_modes
async def test_new_nullable_columns_keep_the_rows(engine: EngineUnderTest, mode: StorageMode) -> None:
    async with engine.open(PLAIN, mode) as store:
        before = await store.commit([Append(numbered(1))], Cursor("1"))
    async with engine.open(WIDER, mode) as store:
        if store.snapshot.value is None:
            assert mode is StorageMode.FILE_UPDATE, "mode file keeps what it can keep"
            return
        assert (store.snapshot.value.rows, store.snapshot.value.cursor) == (1, before.cursor)
        row = pa.RecordBatch.from_pylist([{"id": 2, "extra": "e"}], WIDER.schema)
        await store.commit([Append(row)], None)
        assert [(row["id"], row["extra"]) for row in await rows_of(store)] == [(1, None), (2, "e")]
    async with engine.open(WIDER, mode) as store:
        assert [(row["id"], row["extra"]) for row in await rows_of(store)] == [(1, None), (2, "e")]


@with_modes
async def test_another_schema_is_refused_or_starts_anew(engine: EngineUnderTest) -> None:
    async with engine.open(PLAIN) as store:
        epoch = (await store.commit([Append(numbered(1))], Cursor("1"))).epoch
    with pytest.raises(StoreError, match="'id'") as caught:
        async with engine.open(OTHER):
            pass
    assert not caught.value.transient
    async with engine.open(PLAIN) as store:
        assert ids(await rows_of(store)) == [1]
    async with engine.open(OTHER, StorageMode.FILE_UPDATE) as store:
        assert store.snapshot.value is None
        assert (await store.commit([], None)).epoch != epoch


@pytest.mark.parametrize(
    "spec",
    [
        TableSpec("orders", SCHEMA, ("nope",)),
        TableSpec("orders", SCHEMA, indexes=(Index(("id", "nope")),)),
        TableSpec("orders", SCHEMA, time=TimeColumn("nope")),
    ],
)
@real
async def test_unknown_columns_are_named(engine: EngineUnderTest, spec: TableSpec) -> None:
    with pytest.raises(ConfigError, match=r"'nope'.*Valid columns: id, name, at"):
        async with engine.open(spec):
            pass


# --- cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoints", [0, 1, 2, 3, 5])
async def test_a_cancelled_commit_is_whole_or_nothing(engine: EngineUnderTest, checkpoints: int) -> None:
    async with engine.open(keyed()) as store:
        before = await store.commit([Append(numbered(1, 2))], Cursor("1"))
        async with trio.open_nursery() as nursery:

            async def commit() -> None:
                await store.commit([Append(numbered(2, 3, name="y")), Delete(numbered(1))], Cursor("2"))

            nursery.start_soon(commit)
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        newest = store.snapshot.value
        assert newest is not None
        names = [row["name"] for row in await rows_of(store)]
        assert (names, newest.cursor) in [(["x1", "x2"], "1"), (["y2", "y3"], "2")]
        assert (newest.generation == before.generation) == (newest.cursor == "1")
        after = await store.commit([Append(numbered(9))], Cursor("3"))
        assert after.rows == 3
    if engine.persistent:
        async with engine.open(keyed()) as store:
            assert [row["name"] for row in await rows_of(store)] == [*names, "x9"]


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 1023, 1024, 1025, 65_536, 65_537, 1_000_000])
async def test_batches_of_any_size(engine: EngineUnderTest, size: int) -> None:
    numbers = pa.arange(0, size)
    rows = pa.record_batch([numbers, pc.cast(numbers, pa.string()), numbers.cast(pa.timestamp("us"))], schema=SCHEMA)
    async with engine.open(PLAIN) as store:
        snapshot = await store.commit([Append(rows)], None)
        assert (snapshot.rows, snapshot.end_offset) == (size, size)
        with store.pin() as pinned:
            async with store.scan(pinned) as batches:
                parts = [part async for part in batches]
        assert max(part.num_rows for part in parts) <= 131_072
        assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([rows]))


async def test_many_small_commits_are_merged(engine: EngineUnderTest) -> None:
    async with engine.open(keyed()) as store:
        for number in range(120):
            snapshot = await store.commit([Append(numbered(number % 50, name=f"{number}-"))], Cursor(str(number)))
            if number % 10 == 9:
                await store.maintain()
        await store.maintain()
        assert (snapshot.rows, snapshot.cursor) == (50, "119")
        assert [row["name"].partition("-")[0] for row in await rows_of(store)] == [str(n) for n in range(70, 120)]
        files = [path for path in engine.directory.rglob("*") if path.is_file()]
        assert len(files) <= 20


@real
async def test_repeated_replacements_do_not_grow_the_files(engine: EngineUnderTest) -> None:
    numbers = pa.arange(0, 50_000)
    rows = pa.record_batch([numbers, pc.cast(numbers, pa.string()), numbers.cast(pa.timestamp("us"))], schema=SCHEMA)
    sizes = []
    async with engine.open(keyed()) as store:
        for _ in range(8):
            async with store.stage(replace=True) as staging:
                await staging.append(rows)
                await staging.commit(None)
            await store.maintain()
            sizes.append(sum(path.stat().st_size for path in engine.directory.rglob("*") if path.is_file()))
    assert max(sizes[3:]) <= 1.1 * max(sizes[:3])


# --- types -----------------------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


def typed() -> Iterator[tuple[pa.DataType, list]]:  # noqa: C901  a table, written as loops
    for signed in (pa.int8(), pa.int16(), pa.int32(), pa.int64()):
        yield signed, [0, -(2 ** (signed.bit_width - 1)), 2 ** (signed.bit_width - 1) - 1, 5]
    for unsigned in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        yield unsigned, [0, 2**unsigned.bit_width - 1, 2 ** (unsigned.bit_width - 1), 5]
    for real in (pa.float16(), pa.float32(), pa.float64()):
        yield real, [0.5, -0.0, 0.0, NAN, INF, -INF, 1.0, -1.5]
    yield pa.bool_(), [True, False]
    for text in (pa.string(), pa.large_string(), pa.string_view()):
        yield text, ["", "a", "\x00b\x00", "%_'\"\\", "日本語" * 10, "A"]
    for blob in (pa.binary(), pa.large_binary(), pa.binary_view()):
        yield blob, [b"", b"\x00", b"\xff\x00\xfe" * 9, b"a"]
    yield pa.binary(3), [b"abc", b"\x00\x00\x00", b"\xff\xff\xff"]
    decimals = [(9, 2), (18, 4), (19, 4), (38, 10)]
    for make, sizes in ((pa.decimal32, [(9, 2)]), (pa.decimal64, [(18, 4)]), (pa.decimal128, decimals)):
        for precision, scale in sizes:
            kind = make(precision, scale)
            top = "9" * (precision - scale) + "." + "9" * scale
            yield kind, [pa.scalar(v).cast(pa.string()).cast(kind) for v in ("0", "1.5", "-1.5", top, f"-{top}", "2")]
    wide = pa.decimal256(76, 20)
    yield wide, [pa.scalar(v).cast(wide) for v in ("0", "1.5", "-1.5", "9" * 56 + ".1", "-" + "9" * 56 + ".1")]
    yield pa.date32(), [0, -1, 20_000, 2_932_896]
    yield pa.date64(), [0, -86_400_000, 86_400_000 * 20_000]
    for unit, top in (("s", 86_399), ("ms", 86_399_999)):
        yield pa.time32(unit), [0, 1, top]
    for unit, top in (("us", 86_399_999_999), ("ns", 86_399_999_999_999)):
        yield pa.time64(unit), [0, 1, top]
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "Europe/Berlin", "+05:30"):
            yield pa.timestamp(unit, zone), [0, -1, 1, 1_700_000_000]
        yield pa.duration(unit), [0, -1, 10**15]
    yield pa.timestamp("us"), [253_402_300_799_999_999, -62_135_596_800_000_000]
    yield pa.list_(pa.int64()), [[], [1, None], [3]]
    yield pa.large_list(pa.string()), [[], ["a", None], ["b"]]
    yield pa.list_(pa.int16(), 2), [[1, 2], [None, 4]]
    yield pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]), [{"a": 1, "b": ["x"]}, {"a": None, "b": None}]
    yield pa.map_(pa.string(), pa.int32()), [[], [("k", 1), ("l", None)]]
    yield pa.list_(pa.struct([("t", pa.timestamp("ns", "UTC")), ("f", pa.float64())])), [[{"t": 5000, "f": NAN}], []]
    yield pa.dictionary(pa.int8(), pa.string()), ["a", "b", "a"]
    yield pa.dictionary(pa.int32(), pa.int64()), [7, 8, 7]
    yield pa.null(), [None]


def array(kind: pa.DataType, values: list) -> pa.Array:
    if pa.types.is_temporal(kind):
        storage = pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()
        return pa.array(values, storage).cast(kind)
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    if pa.types.is_decimal(kind):
        return pa.array([v.as_py() if isinstance(v, pa.Scalar) else v for v in values], kind)
    return pa.array(values, kind)


TYPED = list(typed())


def same(left: pa.ChunkedArray, right: pa.Array) -> bool:
    """Equal in type, nulls and values; NaN equals itself and the signs of zeros count."""
    return left.type == right.type and printed(left) == printed(right)


def printed(column: pa.ChunkedArray | pa.Array) -> list[str]:
    """One text a value; nanoseconds are beyond Python's own types."""
    return [str(value) if pa.types.is_nested(value.type) else value_text(value) for value in column]


def value_text(value: pa.Scalar) -> str:
    if not value.is_valid:
        return "null"
    if pa.types.is_temporal(value.type):
        return str(value.cast(pa.int32() if value.type.bit_width == 32 else pa.int64()))
    return repr(value.as_py())


def storable(kind: pa.DataType) -> TableSpec:
    return TableSpec("orders", pa.schema([pa.field("k", pa.int64()), pa.field("v", kind)]))


@pytest.mark.parametrize(("kind", "values"), TYPED, ids=[str(kind) for kind, _ in TYPED])
async def test_a_type_there_and_back(engine: EngineUnderTest, kind: pa.DataType, values: list) -> None:
    spec = storable(kind)
    parts = [
        array(kind, [None, None]),
        array(kind, values),
        array(kind, [None, *values, None]).slice(1),
        array(kind, []),
    ]
    batches = [pa.record_batch([pa.arange(0, len(part)), part], schema=spec.schema) for part in parts]
    expected = [value for part in parts for value in printed(part)]
    async with engine.open(spec) as store:
        for rows in batches[:2]:
            await store.commit([Append(rows)], None)
        async with store.stage(replace=False) as staging:
            for rows in batches[2:]:
                await staging.append(rows)
            await staging.commit(None)
        for _ in range(2):
            got = (await table_of(store))["v"]
            assert got.type == kind
            assert printed(got) == expected
            await store.maintain()
        snapshot = store.snapshot.value
        assert snapshot is not None
        async with store.tail(snapshot.epoch, 0) as newer:
            assert newer is not None
            assert [value async for _, rows in newer for value in printed(rows["v"])] == expected
        async with store.stage(replace=True) as staging:
            await staging.append(batches[2])
            await staging.commit(None)
        assert same((await table_of(store))["v"], parts[2])
    if engine.persistent:
        store = await engine.recover(spec)
        assert store is not None
        assert store.spec.schema == spec.schema
        assert same((await table_of(store))["v"], parts[2])
        await store.aclose()


def literals(kind: pa.DataType, values: list) -> list[Literal]:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_decimal(kind):
        return [Literal(value.as_py(), str(kind)) for value in values]
    return [Literal(value, str(kind)) for value in values]


COMPARABLE = [(kind, values) for kind, values in TYPED if not pa.types.is_nested(kind) and not pa.types.is_null(kind)]


@pytest.mark.parametrize(("kind", "values"), COMPARABLE, ids=[str(kind) for kind, _ in COMPARABLE])
async def test_predicates_over_stored_values_are_exact(
    engine: EngineUnderTest, kind: pa.DataType, values: list
) -> None:
    spec = storable(kind)
    column = array(kind, [None, *values, None, *values])
    rows = pa.record_batch([pa.arange(0, len(column)), column], schema=spec.schema)
    known = literals(kind, values)
    predicates = [Compare("v", op, literal) for literal in known for op in ("=", "!=", "<", "<=", ">", ">=")]
    predicates += [In("v", tuple(known[:2])), Not(In("v", (known[0], Literal(None, known[0].type)))), IsNull("v")]
    predicates += [
        Not(Compare("v", "<", known[0])),
        Or((IsNull("v"), Compare("v", ">", known[-1]))),
        And((Not(IsNull("v")), Compare("k", ">=", Literal(2, "int64")), Compare("v", "<=", known[-1]))),
        Compare("v", "=", Literal(None, known[0].type)),
    ]
    async with engine.open(spec) as store:
        await store.commit([Append(rows)], None)
        for predicate in predicates:
            found = await table_of(store, columns=["k"], predicate=predicate)
            assert found["k"].to_pylist() == filter_batch(rows, predicate)["k"].to_pylist(), predicate


@pytest.mark.parametrize("pattern", ["a%", "%b", "_b_", "%", "", "A%", "a[b*]?c", "%\\%", "日_語%"])
@pytest.mark.parametrize("case_insensitive", [False, True])
async def test_like_is_exact(engine: EngineUnderTest, pattern: str, case_insensitive: bool) -> None:
    texts = ["a", "ab", "abc", "ABC", "xbx", "", None, "a[b*]?c", "50\\%", "日本語", "日本語です", "a\nb", "Ä"]
    spec = storable(pa.string())
    rows = pa.record_batch([pa.arange(0, len(texts)), pa.array(texts)], schema=spec.schema)
    predicate = Like("v", pattern, case_insensitive)
    async with engine.open(spec) as store:
        await store.commit([Append(rows)], None)
        for asked in (predicate, Not(predicate)):
            found = await table_of(store, columns=["k"], predicate=asked)
            assert found["k"].to_pylist() == filter_batch(rows, asked)["k"].to_pylist()


@pytest.mark.parametrize(("kind", "values"), COMPARABLE, ids=[str(kind) for kind, _ in COMPARABLE])
async def test_a_key_of_any_comparable_type(engine: EngineUnderTest, kind: pa.DataType, values: list) -> None:
    """Zeros of both signs are one value, so a key column holds one of them here."""
    values = [value for index, value in enumerate(values) if repr(value) != "-0.0" and value not in values[:index]]
    spec = TableSpec("orders", storable(kind).schema, ("v",), OnConflict.UPSERT)
    column = array(kind, values)
    rows = pa.record_batch([pa.arange(0, len(column)), column], schema=spec.schema)
    again = pa.record_batch([pa.arange(100, 100 + len(column)), column], schema=spec.schema)
    async with engine.open(spec) as store:
        await store.commit([Append(rows)], None)
        await store.commit([Append(again)], None)
        assert (await table_of(store))["k"].to_pylist() == list(range(100, 100 + len(column)))
        snapshot = await store.commit([Delete(rows.slice(0, 1))], None)
        assert (await table_of(store))["k"].to_pylist() == list(range(101, 100 + len(column)))
        assert snapshot.rows == len(column) - 1


async def test_dictionaries_of_many_batches_share_a_narrow_index(engine: EngineUnderTest) -> None:
    spec = storable(pa.dictionary(pa.int8(), pa.string()))
    async with engine.open(spec) as store:
        expected = []
        for start in range(0, 400, 100):
            words = [f"w{n}" for n in range(start, start + 100)]
            expected += words
            column = array(spec.schema.field("v").type, words)
            await store.commit([Append(pa.record_batch([pa.arange(0, 100), column], schema=spec.schema))], None)
        await store.maintain()
        assert (await table_of(store))["v"].to_pylist() == expected


async def test_nested_columns_follow_their_rows(engine: EngineUnderTest) -> None:
    schema = pa.schema([("id", pa.int64()), ("tags", pa.list_(pa.string()))])
    spec = TableSpec("orders", schema, ("id",), OnConflict.UPSERT)

    def tagged(*numbers: int, tag: str) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([{"id": n, "tags": [tag] * (n % 3)} for n in numbers], schema)

    async with engine.open(spec) as store:
        for start in range(0, 40, 10):
            await store.commit([Append(tagged(*range(start, start + 10), tag="a"))], None)
        await store.commit([Append(tagged(5, 15, 17, tag="b")), Delete(pa.record_batch({"id": [1, 2, 30]}))], None)
        for _ in range(2):
            rows = await rows_of(store)
            assert [(row["id"], row["tags"]) for row in rows][-3:] == [(5, ["b"] * 2), (15, []), (17, ["b"] * 2)]
            assert all(row["tags"] == ["a"] * (row["id"] % 3) for row in rows[:-3])
            even = await table_of(store, columns=["tags"], predicate=Compare("id", "=", Literal(8, "int64")))
            assert even["tags"].to_pylist() == [["a", "a"]]
            await store.maintain()
