"""What is particular to the SQLite engine: shared files, its SQL, what it can't hold, what is in the way."""

import ast
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
import trio

import caraway.accelerators.sqlite
from caraway.accelerators.open import open_accelerator
from caraway.accelerators.sqlite.database import Database, writer_limiter
from caraway.accelerators.sqlite.layout import Layout
from caraway.accelerators.sqlite.read import request_of, rows_from, select
from caraway.accelerators.sqlite.sql import Condition, condition
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or, RawSql
from caraway.errors import ConfigError, StoreError
from caraway.model import Append, Cursor, Delete, DeleteWhere, Index, OnConflict, SqliteTable, TimeColumn, TimeFormat
from caraway.ports import Accelerator
from support.engines import rows_of

SCHEMA = pa.schema([("id", pa.int64()), ("word", pa.string()), ("x", pa.float64()), ("tags", pa.list_(pa.int64()))])


def batch(*ids: int) -> pa.RecordBatch:
    rows = [{"id": i, "word": f"w{i}", "x": float(i), "tags": [i]} for i in ids]
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def spec(directory: Path, name: str = "orders", **more) -> StorageSpec:
    mode = more.pop("mode", StorageMode.FILE)
    return StorageSpec(name, directory, Engine.SQLITE, mode, **more)


async def opened(storage: StorageSpec, schema: pa.Schema | None = SCHEMA) -> Accelerator:
    store = await open_accelerator(storage, schema)
    assert store is not None
    return store


def test_python_s_own_sqlite_never_touches_the_files() -> None:
    """Two copies of the library in one process would cancel each other's locks."""
    folder = Path(caraway.accelerators.sqlite.__file__).parent
    imported = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names):
                    imported |= {name.name.partition(".")[0] for name in names}
                case ast.ImportFrom(module):
                    imported.add((module or "").partition(".")[0])
    assert not imported & {"sqlite3", "sqlite_utils"}
    assert "adbc_driver_sqlite" in imported


async def test_datasets_share_a_file_and_its_writer(tmp_path: Path) -> None:
    """Many commits at once to one file never meet a lock (reference/pain.md 7)."""
    shared = {"sqlite_file": str(tmp_path / "shared.db")}
    names = [f"d{number}" for number in range(6)]
    stores = [await opened(spec(tmp_path / name, name, params=shared, primary_key=("id",))) for name in names]

    async def work(store: Accelerator, number: int) -> None:
        for step in range(5):
            await store.commit([Append(batch(10 * number + step))], Cursor(str(step)))
            async with store.stage(replace=step == 2) as staging:
                await staging.append(batch(100 + 10 * number + step))
                await staging.commit(Cursor(str(step)))
            await store.maintain()

    async with trio.open_nursery() as nursery:
        for number, store in enumerate(stores):
            nursery.start_soon(work, store, number)
    for number, store in enumerate(stores):
        expected = [100 + 10 * number + 2, *(base + 10 * number + step for step in (3, 4) for base in (0, 100))]
        assert [row["id"] for row in await rows_of(store)] == expected
        await store.aclose()
    assert sorted(tmp_path.glob("*.db")) == [tmp_path / "shared.db"]  # noqa: ASYNC240  a test may wait
    again = await opened(spec(tmp_path / "d3", "d3", params=shared, primary_key=("id",)))
    assert len(await rows_of(again)) == 5
    await again.aclose()


async def test_a_dataset_that_starts_anew_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    shared = {"sqlite_file": str(tmp_path / "shared.db")}
    one, two = (spec(tmp_path / name, name, params=shared) for name in ("d", "d_2"))
    for storage in (one, two):
        store = await opened(storage)
        await store.commit([Append(batch(1))], None)
        await store.aclose()
    store = await opened(spec(tmp_path / "d", "d", params=shared, mode=StorageMode.FILE_CREATE))
    assert store.snapshot.value is None
    await store.aclose()
    store = await opened(two)
    assert len(await rows_of(store)) == 1
    await store.aclose()


async def test_one_limiter_a_file_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert writer_limiter(tmp_path / "a.db") is writer_limiter(tmp_path / "link" / "a.db")
    assert writer_limiter(tmp_path / "a.db") is not writer_limiter(tmp_path / "b.db")


@pytest.mark.parametrize(
    ("schema", "more", "message"),
    [
        (pa.schema([("a", pa.int8()), ("A", pa.int8())]), {}, "column 'A' differs from column 'a' in case only"),
        (pa.schema([("__caraway_gone", pa.int8())]), {}, "'__caraway_gone'"),
        (SCHEMA, {"primary_key": ("tags",)}, r"column 'tags' of type list<.*> can't be a key"),
        (SCHEMA, {"indexes": (Index(("id", "tags")),)}, r"column 'tags' of type list<.*> can't be a key or indexed"),
        (pa.schema([(f"c{n}", pa.int8()) for n in range(2000)]), {}, "2000 columns are more than"),
    ],
)
async def test_what_can_not_be_held_is_named(tmp_path: Path, schema: pa.Schema, more: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        await open_accelerator(spec(tmp_path, **more), schema)


async def test_rows_with_nested_columns_are_not_deleted_by_value(tmp_path: Path) -> None:
    store = await opened(spec(tmp_path))
    await store.commit([Append(batch(1))], None)
    with pytest.raises(StoreError, match=r"'tags' is not comparable.*primary_key"):
        await store.commit([Delete(batch(1))], None)
    await store.aclose()


async def test_a_file_that_is_no_database_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "orders.db").write_bytes(b"not a database, though it is long enough to look like one" * 100)
    with pytest.raises(StoreError, match=r"orders\.db is damaged.*remove it") as caught:
        await open_accelerator(spec(tmp_path), SCHEMA)
    assert not caught.value.transient


async def test_commits_are_synced_and_the_log_is_bounded(tmp_path: Path) -> None:
    store = await opened(spec(tmp_path))
    database = store._store._database
    async with store.stage(replace=True) as staging:
        await staging.append(batch(1))
        await staging.commit(None)
    assert database.number("PRAGMA synchronous") == 2
    assert database.execute("PRAGMA journal_mode") == [("wal",)]
    assert 0 < database.number("PRAGMA journal_size_limit") <= 64 * 1024**2
    await store.aclose()


async def test_a_slow_reader_does_not_hold_the_log_up(tmp_path: Path) -> None:
    store = await opened(spec(tmp_path))
    ids = pa.arange(0, 150_000)
    columns = [ids, ids.cast(pa.string()), ids.cast(pa.float64()), pa.nulls(len(ids), SCHEMA.field("tags").type)]
    snapshot = await store.commit([Append(pa.record_batch(columns, schema=SCHEMA))], None)
    async with store.tail(snapshot.epoch, 0) as batches:
        assert batches is not None
        seen = (await anext(aiter(batches)))[1].num_rows
        await store.commit([DeleteWhere(Compare("id", ">=", Literal(0, "int64")))], None)
        assert store._store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)") == [(0, 0, 0)]
        seen += sum([rows.num_rows async for _, rows in batches])
    assert seen == 150_000
    await store.aclose()


async def test_an_index_is_used_by_a_pushed_predicate(tmp_path: Path) -> None:
    store = await opened(spec(tmp_path, primary_key=("id",), indexes=(Index(("word",)),)))
    snapshot = await store.commit([Append(batch(*range(500)))], None)
    assert isinstance(snapshot.data, SqliteTable)
    database = store._store._database
    for name, value, index in (("id", Literal(7, "int64"), "/id"), ("word", Literal("w7", "string"), "/word")):
        request = request_of(snapshot, SCHEMA, ["id"], Compare(name, "=", value))
        layout = Layout(SCHEMA)
        sql, values = select(request, layout, condition(request.predicate, layout.types), later=False, limit=None)
        plan = " ".join(str(row[3]) for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values))
        assert index in plan
        assert [part.num_rows for part in rows_from(database, request)] == [1]
    await store.aclose()


async def test_other_keys_are_taken_up_when_they_can_be(tmp_path: Path) -> None:
    store = await opened(spec(tmp_path))
    await store.commit([Append(batch(1, 1, 2))], Cursor("1"))
    await store.aclose()
    with pytest.raises(StoreError, match=r"uniqueness constraint on column\(s\): id"):
        await open_accelerator(spec(tmp_path, primary_key=("id",)), SCHEMA)
    store = await opened(spec(tmp_path, indexes=(Index(("word",)),)))
    await store.commit([DeleteWhere(Compare("id", "=", Literal(1, "int64")))], Cursor("2"))
    await store.aclose()
    timed = TimeColumn("id", TimeFormat.UNIX_SECONDS)
    keyed = spec(tmp_path, primary_key=("id",), on_conflict=OnConflict.UPSERT, time=timed)
    store = await opened(keyed)
    assert store.snapshot.value is not None
    assert (store.snapshot.value.max_time, store.snapshot.value.cursor) == (2 * 10**9, "2")
    assert (await store.commit([Append(batch(2, 3))], None)).rows == 2
    await store.aclose()


async def test_keys_that_the_rows_break_start_anew_in_mode_file_update(tmp_path: Path) -> None:
    store = await opened(spec(tmp_path))
    await store.commit([Append(batch(1, 1))], None)
    await store.aclose()
    store = await opened(spec(tmp_path, primary_key=("id",), mode=StorageMode.FILE_UPDATE))
    assert store.snapshot.value is None
    await store.commit([Append(batch(1))], None)
    await store.aclose()


async def test_removed_rows_are_deleted_once_nobody_reads_them(tmp_path: Path) -> None:
    store = await opened(spec(tmp_path, primary_key=("id",), on_conflict=OnConflict.UPSERT))
    database = store._store._database

    def stored(suffix: str = "") -> int:
        table = f'"orders/{store.snapshot.value.epoch}{suffix}"'
        return database.number(f"SELECT count(*) FROM {table}")

    await store.commit([Append(batch(1, 2, 3))], None)
    with store.pin():
        await store.commit([Append(batch(1, 2, 3))], None)
        await store.maintain()
        assert stored() == 6
    await store.maintain()
    assert (stored(), stored("/nested")) == (3, 1)
    await store.aclose()


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def test_upserts_deletes_and_refreshes_do_not_let_the_file_grow(tmp_path: Path) -> None:
    """Space is used again: at most twice the data, and what a commit needs beside it."""
    rows = pa.record_batch({"id": pa.array(range(20_000)), "text": [f"{n:0100}" for n in range(20_000)]})
    store = await opened(spec(tmp_path, primary_key=("id",), on_conflict=OnConflict.UPSERT), rows.schema)
    sizes = []
    for number in range(12):
        await store.commit([Append(rows)], Cursor(str(number)))
        await store.commit([Delete(rows.slice(number * 1000, 5000))], None)
        await store.maintain()
        async with store.stage(replace=True) as staging:
            await staging.append(rows)
            await staging.commit(None)
        await store.maintain()
        sizes.append(size_of(tmp_path))
    assert store.snapshot.value is not None
    assert store.snapshot.value.rows == 20_000
    assert max(sizes[4:]) <= 1.1 * max(sizes[:4])
    await store.aclose()
    assert size_of(tmp_path) <= 3 * rows.nbytes


@pytest.mark.parametrize("count", [1023, 1024, 1025, 1077, 70_000])
async def test_many_rows_at_once_get_the_offsets_of_their_order(tmp_path: Path, count: int) -> None:
    """Also behind offsets whose rows are gone for good."""
    store = await opened(spec(tmp_path, primary_key=("id",)), pa.schema(list(SCHEMA)[:3]))
    rows = pa.record_batch({"id": pa.arange(0, count), "word": pa.nulls(count, pa.string()), "x": pa.nulls(count)})
    first = await store.commit([Append(rows)], None)
    assert first.end_offset == count
    await store.commit([Delete(rows.slice(count - 500))], None)
    await store.maintain()
    second = await store.commit([Append(rows.slice(count - 500)), Append(rows.slice(0, 0))], None)
    assert second.end_offset == count + 501
    async with store.tail(second.epoch, count + 500) as batches:
        assert batches is not None
        assert [(end, batch.column("id").to_pylist()) async for end, batch in batches] == [(count + 501, [count - 1])]
    third = await store.commit([Append(rows.set_column(0, "id", pa.arange(count, 2 * count)))], None)
    async with store.tail(third.epoch, third.end_offset - 2) as batches:
        assert batches is not None
        assert [batch.column("id").to_pylist() async for _, batch in batches] == [[2 * count - 2, 2 * count - 1]]
    await store.aclose()


async def test_many_rows_of_every_type_come_back_as_they_were(tmp_path: Path) -> None:
    table = {
        "whole": pa.array([-(2**63), 2**63 - 1, None]),
        "unsigned": pa.array([0, 2**64 - 1, None], pa.uint64()),
        "real": pa.array([float("nan"), -0.0, None]),
        "text": pa.array(["", "a\0b", None], pa.large_string()),
        "data": pa.array([b"", b"\xff\0", None]),
        "truth": pa.array([True, False, None]),
        "money": pa.array([Decimal("-0.01"), Decimal("99.99"), None], pa.decimal128(9, 2)),
        "day": pa.array([date(1, 1, 1), date(9999, 12, 31), None]),
        "at": pa.array([-(2**50), 2**50, None], pa.timestamp("us", "UTC")),
        "word": pa.array(["b", "a", None]).dictionary_encode(),
        "tags": pa.array([[], [1, None], None], pa.list_(pa.int8())),
        "nothing": pa.nulls(3),
    }
    rows = pa.record_batch(table).take(pa.array([0, 1, 2] * 700))
    store = await opened(spec(tmp_path), rows.schema)
    await store.commit([Append(rows)], None)
    with store.pin() as snapshot:
        async with store.scan(snapshot) as batches:
            found = pa.Table.from_batches([batch async for batch in batches]).combine_chunks()
    for name in rows.schema.names:
        column, expected = found.column(name).to_pylist(), rows.column(name).to_pylist()
        assert list(map(repr, column)) == list(map(repr, expected)), name
    await store.aclose()


async def test_a_violation_among_many_rows_is_told_and_undone(tmp_path: Path) -> None:
    index = Index(("word",), unique=True)
    store = await opened(spec(tmp_path, indexes=(index,)))
    before = await store.commit([Append(batch(1))], None)
    with pytest.raises(StoreError, match=r"uniqueness constraint on column\(s\): word"):
        await store.commit([Append(batch(*range(5000, 1, -1), 1))], None)
    assert store.snapshot.value == before
    assert len(await rows_of(store)) == 1
    await store.aclose()


async def test_leftovers_of_a_crash_are_dropped(tmp_path: Path) -> None:
    store = await opened(spec(tmp_path))
    await store.commit([Append(batch(1))], None)
    database = store._store._database
    database.execute('CREATE TABLE "orders/dead" (a)')
    database.execute('CREATE TABLE "orders/dead/nested" (a)')
    database.execute('CREATE TABLE "orders_2/alive" (a)')
    await store.aclose()
    store = await opened(spec(tmp_path))
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'orders%'"
    names = [str(name) for (name,) in store._store._database.execute(sql)]
    assert sorted(name.partition("/")[0] for name in names) == ["orders", "orders", "orders_2"]
    assert len(await rows_of(store)) == 1
    await store.aclose()


TYPES = {field.name: field.type for field in SCHEMA} | {"u": pa.uint64(), "none": pa.null()}
ONE, TWO = Literal(1, "int64"), Literal(2, "int64")
CONDITIONS = [
    (Compare("id", "<=", ONE), Condition('"id" <= ?', (1,))),
    (Compare("id", "<", Literal(1.5, "double")), None),
    (Compare("id", "=", Literal(None, "int64")), Condition("NULL")),
    (Compare("u", ">", Literal(0, "uint64")), Condition('"u" > ?', (-(2**63),))),
    (Compare("x", "=", Literal(0.0, "double")), Condition('"x" IN (-1, 0)')),
    (Compare("x", "<", Literal(-0.0, "double")), Condition('"x" < -1')),
    (Compare("tags", "=", ONE), None),
    (In("id", (ONE, Literal(None, "int64"))), Condition('"id" IN (?, ?)', (1, None))),
    (In("id", ()), None),
    (IsNull("none"), Condition("1")),
    (IsNull("tags"), None),
    (Like("word", "a%_*"), Condition('("word" GLOB ? OR instr("word", char(0)))', ("a*?[*]",), exact=False)),
    (Like("word", "a%", case_insensitive=True), None),
    (Not(Compare("id", "=", ONE)), Condition('NOT ("id" = ?)', (1,))),
    (Not(Like("word", "a%")), None),
    (
        And((Compare("id", ">", ONE), RawSql("f(x)"), Compare("id", "<", TWO))),
        Condition('("id" > ?) AND ("id" < ?)', (1, 2), exact=False),
    ),
    (Not(And((Compare("id", ">", ONE), RawSql("f(x)")))), None),
    (Or((Compare("id", ">", ONE), IsNull("id"))), Condition('("id" > ?) OR ("id" IS NULL)', (1,))),
    (Or((Compare("id", ">", ONE), RawSql("f(x)"))), None),
    (And(()), Condition("1")),
    (Or(()), Condition("0")),
]


@pytest.mark.parametrize(("predicate", "expected"), CONDITIONS)
def test_predicates_become_sql_with_bound_values(predicate, expected: Condition | None) -> None:
    assert condition(predicate, TYPES) == expected


def test_names_and_values_can_not_escape_their_place(tmp_path: Path) -> None:
    evil = 'a" OR 1=1 --'
    found = condition(Compare(evil, "=", Literal("'; DROP TABLE x; --", "string")), {evil: pa.string()})
    assert found == Condition('"a"" OR 1=1 --" = ?', ("'; DROP TABLE x; --",))
    database = Database(tmp_path / "a.db")
    assert found is not None
    layout = Layout(pa.schema([(evil, pa.string())]))
    database.execute(f"CREATE TABLE t ({layout.definition()})")
    assert database.execute(f"SELECT 1 FROM t WHERE {found.sql}", found.values) == []
    database.close()
