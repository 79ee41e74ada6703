"""The files of a parquet store as other readers see them, and what they cost in memory."""

import os
import random
import resource
from pathlib import Path

import datafusion
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from caraway.accelerators.parquet.engine import ParquetAccelerator, open_parquet
from caraway.accelerators.parquet.schema import physical_schema
from caraway.accelerators.read import read_snapshot
from caraway.accelerators.runs import Hidden, KeyIndex
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.core.predicate import Compare, Literal
from caraway.errors import ConfigError, StoreError
from caraway.model import OFFSET_COLUMN, Append, Cursor, Delete, OnConflict

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("word", pa.dictionary(pa.int32(), pa.string())),
        pa.field("text", pa.string_view()),
        pa.field("at", pa.timestamp("s", "UTC")),
        pa.field("day", pa.date64()),
        pa.field("tags", pa.list_(pa.string())),
    ]
)


def rows(first: int, count: int) -> pa.RecordBatch:
    ids = pa.arange(first, first + count)
    texts = pc.cast(ids, pa.string())
    tags = pa.ListArray.from_arrays(pa.arange(0, count + 1).cast(pa.int32()), texts)
    days = pc.multiply(ids, 86_400_000).cast(pa.date64())
    columns = [
        ids,
        texts.dictionary_encode(),
        texts.cast(pa.string_view()),
        ids.cast(pa.timestamp("s", "UTC")),
        days,
        tags,
    ]
    return pa.record_batch(columns, schema=SCHEMA)


async def opened(folder: Path, schema: pa.Schema = SCHEMA, **options) -> ParquetAccelerator:
    store = await open_parquet(StorageSpec("t", folder, Engine.PARQUET, StorageMode.FILE, **options), schema)
    assert store is not None
    return store


async def filled(folder: Path) -> ParquetAccelerator:
    """200,000 rows in parts of two makings, a tail of 30, and 7 rows hidden in all of them."""
    params = {"parquet_part_rows": "65536"}
    store = await opened(folder, primary_key=("id",), on_conflict=OnConflict.UPSERT, params=params)
    async with store.stage(replace=True) as staging:
        for first in range(0, 120_000, 40_000):
            await staging.append(rows(first, 40_000))
        await staging.commit(None)
    await store.commit([Append(rows(120_000, 80_000))], None)
    await store.commit([Append(rows(200_000, 30))], None)
    gone = pa.record_batch({"id": [0, 1, 65_000, 119_999, 120_000, 199_999, 200_010]})
    await store.commit([Delete(gone)], Cursor("c"))
    return store


async def test_parts_have_bounded_row_groups_statistics_indexes_and_bloom_filters(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    for path in store.snapshot.value.data.parts:
        with pq.ParquetFile(path) as file:
            assert file.schema_arrow.remove_metadata().equals(physical_schema(SCHEMA))
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                assert group.num_rows <= 65_536
                first, last = group.column(0), group.column(group.num_columns - 1)
                assert last.path_in_schema == OFFSET_COLUMN
                assert "DELTA_BINARY_PACKED" in last.encodings
                assert last.statistics.min <= last.statistics.max
                assert last.has_offset_index
                assert last.has_column_index
                assert first.compression == "ZSTD"
                assert first.bloom_filter_length
                assert not last.bloom_filter_length
    await store.aclose()


async def test_an_engine_reads_a_folder_of_links_and_the_tail_less_what_is_hidden(tmp_path: Path) -> None:
    store = await filled(tmp_path / "store")
    links = tmp_path / "links"
    links.mkdir()
    with store.pin() as snapshot:
        data = snapshot.data
        for path in data.parts:
            os.link(path, links / path.name)
        context = datafusion.SessionContext()
        context.register_parquet("parts", f"{links}/")
        with pa.memory_map(str(data.tails[0].path)) as source:
            tail = pa.ipc.open_stream(pa.BufferReader(source.read_buffer(data.tails[0].length))).read_all()
        context.register_record_batches("tail", [tail.to_batches()])
        with pa.memory_map(str(data.hidden)) as source:
            context.register_record_batches("hidden", [pa.ipc.open_file(source).read_all().to_batches()])
        columns = f"id, word, text, at, day, tags, {OFFSET_COLUMN}"
        both = f"(select {columns} from parts union all select {columns} from tail)"
        found = context.sql(
            f"select * from {both} r where not exists "
            f"(select 1 from hidden h where h.{OFFSET_COLUMN} = r.{OFFSET_COLUMN}) order by id"
        ).to_arrow_table()
        ours = read_snapshot(snapshot, SCHEMA).read_all()
    assert found.num_rows == ours.num_rows == snapshot.rows == 200_023
    sample = pa.array(range(0, found.num_rows, 1009))
    for name, theirs in zip(SCHEMA.names, found.columns, strict=False):
        kind = physical_schema(SCHEMA).field(name).type
        assert theirs.cast(kind).take(sample).equals(ours.column(name).cast(kind).take(sample))
    await store.aclose()


async def test_a_snapshot_is_read_with_columns_predicate_and_limit(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    recent = Compare("id", ">=", Literal(119_998, "int64"))
    with store.pin() as snapshot:
        table = read_snapshot(snapshot, SCHEMA, ["text", "id"], recent, 5).read_all()
        assert table.schema.names == ["text", "id"]
        assert table.column("id").to_pylist() == [119_998, 120_001, 120_002, 120_003, 120_004]
        assert read_snapshot(snapshot, SCHEMA, [], recent).read_all().num_rows == 200_030 - 119_998 - 4
    (tmp_path / "parts" / snapshot.data.parts[0].name).unlink()
    with pytest.raises(StoreError, match=snapshot.data.parts[0].name):
        read_snapshot(snapshot, SCHEMA).read_all()
    await store.aclose()


@pytest.mark.parametrize(
    "kind",
    [
        pa.month_day_nano_interval(),
        pa.struct([]),
        pa.dense_union([pa.field("a", pa.int8())]),
        pa.run_end_encoded(pa.int32(), pa.string()),
        pa.list_(pa.month_day_nano_interval()),
    ],
    ids=str,
)
async def test_what_parquet_cannot_hold_is_named(tmp_path: Path, kind: pa.DataType) -> None:
    with pytest.raises(ConfigError, match=r"column 'odd' of type .* can't be kept in Parquet"):
        await opened(tmp_path, pa.schema([("id", pa.int64()), ("odd", kind)]))


@pytest.mark.parametrize("seed", range(5))
def test_an_index_finds_the_newest_offset_of_each_key(seed: int) -> None:
    rng = random.Random(seed)
    index, newest, offset = KeyIndex(), {}, 0
    for _ in range(60):
        keys = [rng.choice([None, rng.randrange(500)]) for _ in range(rng.randint(0, 40))]
        offsets = range(offset, offset := offset + len(keys))
        newest |= {key: place for key, place in zip(keys, offsets, strict=True) if key is not None}
        index = index.plus(pa.array(keys, pa.int64()), pa.array(offsets, pa.int64()))
        asked = [rng.choice([None, rng.randrange(-10, 510)]) for _ in range(50)]
        assert index.newest(pa.array(asked, pa.int64())).to_pylist() == [newest.get(key) for key in asked]
    assert len(index.runs) < 12


def test_hidden_offsets_by_range() -> None:
    hidden = Hidden().plus(pa.array([5, 1, 9], pa.int64())).plus(pa.array([3, 100], pa.int64()))
    assert (len(hidden), hidden.sorted().to_pylist()) == (5, [1, 3, 5, 9, 100])
    assert hidden.between(3, 9).to_pylist() == [3, 5]
    assert hidden.contains(pa.array([1, 2, None, 100], pa.int64())).to_pylist() == [True, False, False, True]
    assert hidden.without(3, 10).sorted().to_pylist() == [1, 100]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_rows_with_keys_pass_in_bounded_memory(tmp_path: Path) -> None:
    """An index of integer keys costs 16 bytes a row besides."""
    rows = 4_000_000
    schema = pa.schema([("id", pa.int64()), ("amount", pa.float64()), ("note", pa.string())])
    store = await opened(tmp_path, schema, primary_key=("id",))
    note = pc.binary_join_element_wise("note ", pa.arange(0, 100_000).cast(pa.string()), "")
    amount = pa.arange(0, 100_000).cast(pa.float64())
    before = peak = resident()
    async with store.stage(replace=True) as staging:
        for first in range(0, rows, 100_000):
            await staging.append(pa.record_batch([pa.arange(first, first + 100_000), amount, note], schema=schema))
            peak = max(peak, resident())
        snapshot = await staging.commit(None)
    assert snapshot.rows == rows
    assert peak - before < 100e6 + 16 * rows
    await store.aclose()
