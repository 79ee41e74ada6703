"""What is particular to the parquet engine: its files, its tail, its tombstones, and how they are tidied."""

import pyarrow as pa
import pytest
import trio

from caraway.accelerators.parquet.engine import open_parquet
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.core.predicate import Compare, Literal
from caraway.errors import ConfigError, StoreError
from caraway.model import Append, Cursor, Delete, DeleteWhere, OnConflict, TimeColumn

SCHEMA = pa.schema(
    [pa.field("id", pa.int64()), pa.field("note", pa.string()), pa.field("at", pa.timestamp("us", "UTC"))]
)


def rows(first: int, count: int, note: str = "n") -> pa.RecordBatch:
    ids = pa.arange(first, first + count)
    notes = pa.repeat(pa.scalar(note), count)
    return pa.record_batch([ids, notes, ids.cast(pa.timestamp("us", "UTC"))], schema=SCHEMA)


def storage(folder, **options) -> StorageSpec:
    options = {"mode": StorageMode.FILE, **options}
    return StorageSpec("orders", folder, Engine.PARQUET, time=TimeColumn("at"), **options)


async def opened(folder, schema=SCHEMA, **options):
    return await open_parquet(storage(folder, **options), schema)


async def contents(store, columns=None, predicate=None) -> pa.Table:
    with store.pin() as snapshot:
        async with store.scan(snapshot, columns, predicate) as batches:
            found = [batch async for batch in batches]
    names = columns or store.spec.schema.names
    return pa.Table.from_batches(found, pa.schema([store.spec.schema.field(name) for name in names]))


async def ids(store, predicate=None) -> list[int]:
    return (await contents(store, ["id"], predicate)).column("id").to_pylist()


def files(folder, kind: str) -> list[str]:
    return sorted(path.name for path in (folder / kind).iterdir())


async def test_small_commits_stay_in_one_tail_until_it_is_due(tmp_path):
    store = await opened(tmp_path, params={"parquet_tail_rows": "100"})
    for start in range(0, 90, 10):
        await store.commit([Append(rows(start, 10))], Cursor(str(start)))
    await store.maintain()
    assert len(files(tmp_path, "tail")) == 1
    assert files(tmp_path, "parts") == []
    before = await store.commit([Append(rows(90, 10))], Cursor("90"))
    await store.maintain()
    after = store.snapshot.value
    assert files(tmp_path, "tail") == []
    assert len(files(tmp_path, "parts")) == 1
    assert (after.generation, after.rows, after.cursor) == (before.generation, 100, "90")
    assert await ids(store) == list(range(100))
    await store.aclose()


async def test_a_tail_becomes_a_part_by_age(tmp_path, autojump_clock):
    store = await opened(tmp_path, params={"parquet_tail_age": "60"})
    await trio.sleep(1000)
    await store.commit([Append(rows(0, 1))], None)
    await trio.sleep(59)
    await store.maintain()
    assert files(tmp_path, "parts") == []
    await trio.sleep(1)
    await store.maintain()
    assert len(files(tmp_path, "parts")) == 1
    await store.aclose()


async def test_a_large_commit_takes_the_tail_along(tmp_path):
    store = await opened(tmp_path, params={"parquet_tail_rows": "65536"})
    await store.commit([Append(rows(0, 10))], None)
    await store.commit([Append(rows(10, 70_000))], Cursor("big"))
    assert files(tmp_path, "tail") == []
    assert await ids(store) == list(range(70_010))
    await store.aclose()
    again = await opened(tmp_path)
    assert again.snapshot.value.cursor == "big"
    assert await ids(again) == list(range(70_010))
    await again.aclose()


async def test_reopening_goes_on_in_the_same_tail(tmp_path):
    for start in range(5):
        store = await opened(tmp_path)
        await store.commit([Append(rows(start, 1))], Cursor(str(start)))
        assert await ids(store) == list(range(start + 1))
        await store.aclose()
    assert len(files(tmp_path, "tail")) == 1


async def test_small_parts_merge_and_keep_offsets(tmp_path):
    store = await opened(tmp_path, params={"parquet_tail_rows": "10"})
    for start in range(0, 200, 10):
        await store.commit([Append(rows(start, 10))], None)
        await store.maintain()
    assert len(files(tmp_path, "parts")) < 8
    async with store.tail(store.snapshot.value.epoch, 57) as batches:
        found = [(end, batch.column("id").to_pylist()) async for end, batch in batches]
    assert [number for _, numbers in found for number in numbers] == list(range(57, 200))
    assert all(end == numbers[-1] + 1 for end, numbers in found)
    await store.aclose()


async def test_the_tail_of_the_log_starts_at_any_offset(tmp_path):
    store = await opened(tmp_path)
    for start in range(0, 50, 5):
        await store.commit([Append(rows(start, 5))], None)
    for first in range(51):
        async with store.tail(store.snapshot.value.epoch, first) as batches:
            numbers = [number async for _, batch in batches for number in batch.column("id").to_pylist()]
        assert numbers == list(range(first, 50))
    async with store.tail(store.snapshot.value.epoch, 51) as batches:
        assert batches is None
    async with store.tail("another", 0) as batches:
        assert batches is None
    await store.aclose()


async def test_the_log_ends_at_its_end_even_where_its_last_rows_are_hidden(tmp_path):
    store = await opened(tmp_path, primary_key=("id",))
    await store.commit([Append(rows(0, 5))], None)
    await store.commit([Delete(rows(3, 2).select(["id"]))], None)
    async with store.tail(store.snapshot.value.epoch, 1) as batches:
        found = [(end, batch.num_rows) async for end, batch in batches]
    assert found == [(3, 2), (6, 0)]
    await store.aclose()


@pytest.mark.parametrize("reopen", [False, True])
async def test_tombstones_hide_rows_of_parts_and_of_tails(tmp_path, reopen):
    store = await opened(tmp_path, primary_key=("id",), on_conflict=OnConflict.UPSERT)
    await store.commit([Append(rows(0, 70_000))], None)
    await store.commit([Append(rows(70_000, 10))], None)
    await store.commit([Append(rows(69_995, 10, "new"))], None)
    await store.commit([Delete(rows(10, 5).select(["id"]))], Cursor("end"))
    if reopen:
        await store.aclose()
        store = await opened(tmp_path, primary_key=("id",), on_conflict=OnConflict.UPSERT)
    snapshot = store.snapshot.value
    assert (snapshot.rows, snapshot.end_offset, snapshot.cursor) == (70_005, 70_021, "end")
    table = await contents(store)
    assert sorted(table.column("id").to_pylist()) == [n for n in range(70_010) if not 10 <= n < 15]
    assert table.filter(pa.compute.equal(table.column("note"), "new")).column("id").to_pylist() == list(
        range(69_995, 70_005)
    )
    with store.pin() as pinned, pa.memory_map(str(pinned.data.hidden)) as source:
        hidden = pa.ipc.open_file(source).read_all().column(0).to_pylist()
    assert hidden == [*range(10, 15), *range(69_995, 70_005)]
    await store.aclose()


async def test_retention_drops_whole_parts_and_worn_ones_are_rewritten(tmp_path):
    store = await opened(tmp_path, params={"parquet_tail_rows": "65536"})
    for start in range(4):
        await store.commit([Append(rows(start * 100_000, 100_000))], None)
    parts = files(tmp_path, "parts")
    old = Compare("at", "<", Literal(250_000, "timestamp[us, tz=UTC]"))
    await store.commit([DeleteWhere(old)], Cursor("kept"))
    assert files(tmp_path, "parts") == parts[2:]
    assert store.snapshot.value.rows == 150_000
    before = sum(path.stat().st_size for path in (tmp_path / "parts").iterdir())
    await store.maintain()
    assert store.snapshot.value.data.hidden is None
    assert sum(path.stat().st_size for path in (tmp_path / "parts").iterdir()) < before
    assert await ids(store) == list(range(250_000, 400_000))
    assert files(tmp_path, "hidden") == []
    await store.aclose()


async def test_files_of_a_pinned_snapshot_stay_until_the_last_pin_is_gone(tmp_path):
    store = await opened(tmp_path, params={"parquet_tail_rows": "65536"})
    await store.commit([Append(rows(0, 70_000))], None)
    with store.pin() as first, store.pin() as second:
        async with store.stage(replace=True) as staging:
            await staging.append(rows(0, 10))
            await staging.commit(None)
        assert first == second
        assert len(files(tmp_path, "parts")) == 2
        async with store.scan(first, ["id"]) as batches:
            assert sum([batch.num_rows async for batch in batches]) == 70_000
    assert len(files(tmp_path, "parts")) == 1
    assert await ids(store) == list(range(10))
    await store.aclose()


async def test_a_job_that_is_left_leaves_no_file(tmp_path):
    store = await opened(tmp_path, params={"parquet_part_rows": "65536"})
    await store.commit([Append(rows(0, 10))], None)
    with trio.CancelScope() as scope:
        async with store.stage(replace=True) as staging:
            for start in range(0, 300_000, 50_000):
                await staging.append(rows(start, 50_000))
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert files(tmp_path, "parts") == []
    assert await ids(store) == list(range(10))
    await store.aclose()


async def test_garbage_is_removed_at_open(tmp_path):
    store = await opened(tmp_path)
    await store.commit([Append(rows(0, 10))], None)
    await store.aclose()
    for kind in ("parts", "tail", "hidden"):
        (tmp_path / kind / "left").write_bytes(b"over")
    store = await opened(tmp_path)
    assert (files(tmp_path, "parts"), len(files(tmp_path, "tail")), files(tmp_path, "hidden")) == ([], 1, [])
    assert await ids(store) == list(range(10))
    await store.aclose()


@pytest.mark.parametrize("cut", [1, 8, 100, 300])
async def test_a_torn_commit_is_cut_off(tmp_path, cut):
    store = await opened(tmp_path)
    await store.commit([Append(rows(0, 10))], Cursor("one"))
    length = store.snapshot.value.data.tails[0].length
    await store.commit([Append(rows(10, 10))], Cursor("two"))
    await store.aclose()
    (path,) = (tmp_path / "tail").iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    store = await opened(tmp_path)
    assert store.snapshot.value.cursor == "one"
    assert path.stat().st_size == length
    await store.commit([Append(rows(10, 5))], Cursor("again"))
    assert await ids(store) == list(range(15))
    await store.aclose()


async def test_a_commit_with_a_flipped_bit_is_cut_off(tmp_path):
    store = await opened(tmp_path)
    await store.commit([Append(rows(0, 10))], Cursor("one"))
    length = store.snapshot.value.data.tails[0].length
    await store.commit([Append(rows(10, 100))], Cursor("two"))
    await store.aclose()
    (path,) = (tmp_path / "tail").iterdir()
    whole = path.read_bytes()
    for place in range(length, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        store = await opened(tmp_path)
        assert store.snapshot.value.cursor in {"one", "two"}
        expected = 10 if store.snapshot.value.cursor == "one" else 110
        assert await ids(store) == list(range(expected))
        await store.aclose()
        path.write_bytes(whole)


async def test_columns_may_be_added(tmp_path):
    store = await opened(tmp_path)
    await store.commit([Append(rows(0, 70_000))], None)
    await store.commit([Append(rows(70_000, 5))], None)
    await store.aclose()
    wider = SCHEMA.insert(1, pa.field("extra", pa.dictionary(pa.int8(), pa.string())))
    store = await opened(tmp_path, wider)
    batch = rows(70_005, 1)
    extra = pa.array(["x"]).dictionary_encode().cast(wider.field("extra").type)
    await store.commit([Append(pa.record_batch([batch.column(0), extra, *batch.columns[1:]], schema=wider))], None)
    table = await contents(store)
    assert table.column("id").to_pylist() == list(range(70_006))
    assert table.column("extra").null_count == 70_005
    await store.maintain()
    await store.aclose()
    store = await opened(tmp_path, wider)
    assert (await contents(store)).equals(table)
    await store.aclose()


async def test_one_process_at_a_time(tmp_path):
    store = await opened(tmp_path)
    with pytest.raises(StoreError, match="Another process has dataset orders open"):
        await opened(tmp_path)
    await store.aclose()
    await (await opened(tmp_path)).aclose()


async def test_without_a_schema_what_an_earlier_run_left(tmp_path):
    assert await opened(tmp_path, None) is None
    store = await opened(tmp_path)
    await store.aclose()
    assert await opened(tmp_path, None) is None
    store = await opened(tmp_path)
    await store.commit([Append(rows(0, 3))], Cursor("c"))
    await store.aclose()
    store = await opened(tmp_path, None)
    assert store.spec.schema.equals(SCHEMA)
    assert await ids(store) == [0, 1, 2]
    await store.aclose()


@pytest.mark.parametrize(
    ("params", "key"),
    [
        ({"parquet_compression": "brotli"}, "parquet_compression"),
        ({"parquet_row_group_rows": "1023"}, "parquet_row_group_rows"),
        ({"parquet_tail_age": "1.5"}, "parquet_tail_age"),
        ({"parquet_tail_rows": "-1"}, "parquet_tail_rows"),
        ({"sqlite_file": "x"}, "sqlite_file"),
    ],
)
async def test_parameters_out_of_bounds_are_refused(tmp_path, params, key):
    with pytest.raises(ConfigError, match=key):
        await opened(tmp_path, params=params)


async def test_two_writers_are_a_bug(tmp_path):
    store = await opened(tmp_path)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="two tasks write")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.commit, [Append(rows(0, 1))], None)
            nursery.start_soon(store.commit, [Append(rows(1, 1))], None)
    await store.aclose()
