"""What ports.Source promises, asked of every connector without a network and of the fake."""

import os
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import trio
import trio.testing

from caraway.config.model import ColumnDecl, Dataset, FromUri
from caraway.config.params import ConnectorParams
from caraway.connectors.file.source import open_file_source
from caraway.connectors.memory import open_memory_source
from caraway.connectors.synthetic import Growth, SyntheticSource, open_synthetic_source
from caraway.connectors.synthetic_rows import TABLES, Rows
from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or, RawSql
from caraway.errors import SourceError
from caraway.kernels import filter_batch
from caraway.model import ReadRequest
from caraway.ports import Source
from caraway.secrets import Secrets
from support.fake_source import FakeSource

AT = datetime(2025, 6, 1, tzinfo=UTC)
ROWS = 90_000
LARGEST_BATCH = 200_000


@cache
def orders(rows: int = ROWS) -> pa.Table:
    """The rows that every source of the suite but memory serves."""
    table = TABLES["orders"]
    return pa.Table.from_batches([table.rows(Rows(0, rows, 7, int(AT.timestamp() * 1e6), 1e6), table.schema.names)])


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The rows as Parquet, CSV and JSON lines, in two files each."""
    made = tmp_path_factory.mktemp("orders")
    for name, part in (("a", orders().slice(0, 70_000)), ("b", orders().slice(70_000))):
        pa.parquet.write_table(part, made / f"{name}.parquet", row_group_size=30_000)
        pa.csv.write_csv(part, made / f"{name}.csv")
        rows = (orjson.dumps(row, default=float) for row in part.to_pylist())
        (made / f"{name}.jsonl").write_bytes(b"\n".join(rows))
    return made


def dataset(uri: str, **options: object) -> Dataset:
    connector, _, path = uri.partition(":")
    return Dataset("orders", FromUri(connector, path, uri), **options)


def params(**given: str) -> ConnectorParams:
    return ConnectorParams(given, Secrets({}), "orders")


async def fake(folder: Path) -> Source:
    return await FakeSource(orders(), batch_rows=40_000, token="1").connect()


async def synthetic(folder: Path) -> Source:
    return await open_synthetic_source(
        dataset("synthetic:orders"), params(rows=str(ROWS), seed="7", start=AT.isoformat())
    )


DECLARED = (ColumnDecl("time", "timestamptz"), ColumnDecl("amount", "decimal(12, 2)"))


async def parquet(folder: Path) -> Source:
    return await open_file_source(dataset("file:."), params(file_format="parquet"), directory=folder)


async def csv(folder: Path) -> Source:
    return await open_file_source(dataset("file:*.csv", columns=DECLARED), params(), directory=folder)


async def json(folder: Path) -> Source:
    return await open_file_source(dataset("file:?.jsonl", columns=DECLARED), params(), directory=folder)


async def memory(folder: Path) -> Source:
    columns = (
        ColumnDecl("id", "bigint"),
        DECLARED[0],
        ColumnDecl("region", "text"),
        DECLARED[1],
        ColumnDecl("note", "text"),
    )
    return await open_memory_source(dataset("memory:orders", columns=columns))


MAKERS: list[Callable] = [fake, synthetic, parquet, csv, json, memory]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
async def source(request, folder):
    made = await request.param(folder)
    yield made
    await made.aclose()


@pytest.fixture
def expected(request) -> pa.Table:
    maker = request.node.callspec.params["source"]
    return orders(0) if maker is memory else orders()


async def rows_of(source: Source, **request: object) -> pa.Table:
    batches = []
    wanted = ReadRequest(**request)
    async with source.read(wanted) as rows:
        async for batch in rows:
            assert 0 < batch.num_rows <= LARGEST_BATCH
            batches.append(batch)
    schema = await source.schema()
    names = schema.names if wanted.columns is None else wanted.columns
    return pa.Table.from_batches(batches, pa.schema([schema.field(name) for name in names]))


def us(moment: datetime) -> Literal:
    return Literal(int(moment.timestamp() * 1e6), "timestamp[us, tz=UTC]")


PREDICATES = {
    "equal": Compare("id", "=", Literal(70_000, "int64")),
    "range": And((Compare("id", ">=", Literal(65_530, "int64")), Compare("id", "<", Literal(65_540, "int64")))),
    "after all": Compare("id", ">", Literal(10**12, "int64")),
    "before all": Compare("id", "<", Literal(-5, "int64")),
    "time": Compare("time", ">", us(datetime(2025, 6, 2, 10, 0, 0, tzinfo=UTC))),
    "time equal": Compare("time", "=", us(datetime(2025, 6, 2, 10, 0, 0, tzinfo=UTC))),
    "time in ns": Compare("time", "<=", Literal(1_748_736_005_000_000_001, "timestamp[ns, tz=UTC]")),
    "text": Compare("region", "=", Literal("north", "utf8")),
    "not equal": Compare("region", "!=", Literal("north", "utf8")),
    "in": In("region", (Literal("north", "utf8"), Literal("east", "utf8"))),
    "null": IsNull("note"),
    "not null": Not(IsNull("note")),
    "like": Like("note", "gift%"),
    "money": Compare("amount", "<", Literal(Decimal("1.50"), "decimal128(12, 2)")),
    "either": Or((Compare("id", "<", Literal(3, "int64")), Compare("id", ">=", Literal(149_999, "int64")))),
    "contradiction": And((Compare("id", "<", Literal(3, "int64")), Compare("id", ">", Literal(5, "int64")))),
    "not a range": Not(Compare("id", "<", Literal(149_000, "int64"))),
}


async def test_all_rows_come_in_order_with_the_schema(source, expected):
    assert (await source.schema()).equals(expected.schema)
    assert (await rows_of(source)).equals(expected.combine_chunks())


@pytest.mark.parametrize("name", PREDICATES)
async def test_a_predicate_is_applied_exactly(source, expected, name):
    [whole] = expected.combine_chunks().to_batches(max_chunksize=ROWS) or [orders(1).to_batches()[0].slice(0, 0)]
    wanted = pa.Table.from_batches([filter_batch(whole, PREDICATES[name])])
    assert (await rows_of(source, predicate=PREDICATES[name])).equals(wanted)


@pytest.mark.parametrize("columns", [("id",), ("amount", "id"), ("note", "time", "region"), ()], ids=str)
async def test_a_projection_keeps_its_order(source, expected, columns):
    found = await rows_of(source, columns=columns, predicate=PREDICATES["range"])
    assert found.schema.names == list(columns)
    if columns:
        wanted = expected.filter((pa.compute.field("id") >= 65_530) & (pa.compute.field("id") < 65_540))
        assert found.equals(wanted.select(list(columns)))


async def test_no_column_still_counts_rows(source, expected):
    count = 0
    async with source.read(ReadRequest(columns=())) as rows:
        async for batch in rows:
            count += batch.num_rows
            assert batch.num_columns == 0
    assert count == expected.num_rows


@pytest.mark.parametrize("limit", [0, 1, 70_000, 10**9])
async def test_a_limit_is_kept(source, expected, limit):
    assert (await rows_of(source, limit=limit)).equals(expected.slice(0, limit).combine_chunks())


async def test_a_limit_counts_rows_that_the_predicate_holds_for(source, expected):
    found = await rows_of(source, limit=3, predicate=PREDICATES["null"], columns=("id",))
    assert found.column("id").to_pylist() == expected.filter(pa.compute.field("note").is_null())["id"].to_pylist()[:3]


@pytest.mark.parametrize(
    "request_", [ReadRequest(columns=("nope",)), ReadRequest(predicate=IsNull("nope"))], ids=["column", "predicate"]
)
async def test_a_column_that_is_not_there_is_named(source, request_):
    with pytest.raises(SourceError, match="nope") as caught:
        await source.read(request_).__aenter__()
    assert not caught.value.transient


async def test_a_condition_that_only_sql_understands_is_refused(source):
    with pytest.raises(SourceError) as caught:
        await source.read(ReadRequest(predicate=RawSql("id % 2 = 0"))).__aenter__()
    assert caught.value.remedy


async def test_the_version_stays_while_nothing_changes(source):
    first = await source.version()
    await rows_of(source, limit=1)
    assert first is not None
    assert await source.version() == first


async def test_reads_side_by_side_do_not_mix(source, expected):
    found = {}

    async def read(low: int) -> None:
        found[low] = await rows_of(source, predicate=Compare("id", ">=", Literal(low, "int64")), columns=("id",))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for low in (0, 75_000, 149_990):
                nursery.start_soon(read, low)
    for low, table in found.items():
        assert table.num_rows == max(0, expected.num_rows - low)


def open_files(folder: Path) -> list[str]:
    links = (os.path.realpath(link) for link in Path("/proc/self/fd").iterdir())
    return [path for path in links if path.startswith(str(folder))]


async def test_a_read_that_is_left_early_frees_what_it_held(source, folder):
    async with source.read(ReadRequest()) as rows:
        async for _ in rows:
            break
    assert open_files(folder) == []


async def test_a_cancelled_read_frees_what_it_held(source, folder):
    reading = trio.Event()

    async def read() -> None:
        async with source.read(ReadRequest()) as rows:
            async with aclosing(rows):
                async for _ in rows:
                    reading.set()
            reading.set()
            await trio.sleep_forever()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await reading.wait()
            nursery.cancel_scope.cancel()
    assert open_files(folder) == []


async def test_the_suite_can_tell_a_source_that_lies():
    growth = Growth(ROWS, 0.0, 8, AT)
    other = SyntheticSource(TABLES["orders"], growth, now=lambda: AT, dataset="orders")
    assert not (await rows_of(other)).equals(orders().combine_chunks())
