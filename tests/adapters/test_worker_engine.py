"""The engine inside the worker: names, pushdown, snapshots, attacks; in this process, without sockets."""

import asyncio
import datetime as dt
import shutil
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caraway.core.predicate import And, Compare, In, Like, Literal, Not, Or
from caraway.errors import QueryError, QueryFailure
from caraway.model import ParquetFiles, Pinned, ScanRequest, ViewInfo
from caraway.query.settings import WorkerSettings
from caraway.query.worker.engine import IDLE, Engine, Running, is_still
from caraway.query.worker.failures import is_fatal, query_error
from caraway.query.worker.planning import Statement
from support.query_tables import FileTables, arrow_files, parquet_files, snapshot

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("price", pa.decimal128(10, 2)),
        ("ok", pa.bool_()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
    ]
)
VIEWS = (
    ViewInfo("cheap", "select id, price from orders where price < 5"),
    ViewInfo("cheapest", "select min(price) as price from cheap"),
    ViewInfo("broken", "select nothing from nowhere"),
)


def rows(count):
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    return pa.Table.from_pylist(
        [
            {"id": n, "name": f"n{n % 3}", "at": noon, "price": n, "ok": n % 2 == 0, "kind": "ab"[n % 2]}
            for n in range(count)
        ],
        SCHEMA,
    )


class Worker:
    """An engine with a catalog; answers as the daemon would."""

    def __init__(self, tables: FileTables, directory: Path) -> None:
        self.tables = tables
        self.engine = Engine(WorkerSettings(directory, 100_000_000, 0, 2))
        self.load()

    def load(self):
        session = self.engine.take()
        self.engine.adopt(session.load(self.tables.catalog.value))
        self.engine.give_back(session)

    def plan(self, sql, parameters=()):
        session = self.engine.take()
        try:
            return session.plan(Statement(sql, parameters))
        finally:
            self.engine.give_back(session)

    def scans(self, sql, parameters=()):
        return self.plan(sql, parameters).requests

    def rows(self, sql, parameters=()):
        session, running = self.engine.take(), Running()
        try:
            planned = session.begin(Statement(sql, parameters), running)
            if planned.requests:
                again = session.bring(planned, self.answers(planned.requests), running)
                if again:
                    session.replace(again, self.answers(again), running)
                session.start(planned, running)
            answer = [row for batch in running.stream for row in batch.to_pyarrow().to_pylist()]
            running.stream = None
            assert is_still(running)
            return answer
        finally:
            self.engine.give_back(session)

    def answers(self, requests):
        self.tables.scans.extend(requests)
        data = (self.tables.sources if request.from_source else self.tables.data for request in requests)
        return tuple(
            Pinned(snapshot(held[request.table]), self.tables.only.get(request.table))
            for held, request in zip(data, requests, strict=True)
        )


@pytest.fixture
def worker(tmp_path):
    tables = FileTables(*VIEWS)
    tables.add("orders", SCHEMA, arrow_files(tmp_path, rows(100), "orders", files=3))
    tables.add(
        "sales.items", SCHEMA, parquet_files(tmp_path, rows(50), parts=3, tail=11, hidden=(0, 7, 45), name="items")
    )
    tables.add(
        "Odd",
        pa.schema([("Mixed Case", pa.int64()), ('q"uote', pa.int64())]),
        arrow_files(tmp_path, pa.table({"Mixed Case": [1], 'q"uote': [2]}), "odd"),
    )
    return Worker(tables, tmp_path)


def lit(value, kind="int64"):
    return Literal(value, kind)


ID1 = Compare("id", "=", lit(1))
CHEAP = Compare("price", "<", lit(Decimal("5.00"), "decimal128(10, 2)"))
NOON = Compare("at", ">", lit(1767225600000000, "timestamp[us, tz=UTC]"))


@pytest.mark.parametrize(
    ("condition", "predicate"),
    [
        ("id = 1", ID1),
        ("1 = id", ID1),
        ("id <> 1", Compare("id", "!=", lit(1))),
        ("id in (1, 2, 3, 4, 5)", In("id", tuple(lit(n) for n in range(1, 6)))),
        ("id not in (1, 2, 3, 4, 5)", Not(In("id", tuple(lit(n) for n in range(1, 6))))),
        ("id between 1 and 2", And((Compare("id", ">=", lit(1)), Compare("id", "<=", lit(2))))),
        ("at > '2026-01-01'", NOON),
        ("price < 1.5", Compare("price", "<", lit(Decimal("1.50"), "decimal128(10, 2)"))),
        ("name like 'n%'", Like("name", "n%")),
        ("name ilike 'N%'", Like("name", "N%", True)),
        ("name not like 'n_1'", Not(Like("name", "n_1"))),
        ("name like 'x!%' escape '!'", None),
        ("kind = 'a'", Compare("kind", "=", lit("a", "string"))),
        ("ok", Compare("ok", "=", lit(True, "bool"))),
        ("not ok", Not(Compare("ok", "=", lit(True, "bool")))),
        ("id = 1 and length(name) = 2", ID1),
        ("id = 1 or length(name) = 2", None),
        ("id = 1 or name = 'x'", Or((ID1, Compare("name", "=", lit("x", "string"))))),
        ("id + 1 = 2 and name is not null", "not null"),
        ("id = null", None),
    ],
)
def test_filters_become_predicates(worker, condition, predicate):
    (request,) = worker.scans(f"select id from orders where {condition}")
    if predicate == "not null":
        assert "IsNull" in repr(request.predicate)
    else:
        assert request.predicate == predicate


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", ()),
        ("select name from orders", (ScanRequest("orders", ("name",)),)),
        ("select name from spice.public.orders limit 3", (ScanRequest("orders", ("name",), None, 3),)),
        ("select count(*) from orders", (ScanRequest("orders", ("id",)),)),
        ("with x as (select * from orders) select id from x where id = 1", (ScanRequest("orders", ("id",), ID1),)),
        (
            "select id from orders where id = 1 union all select price from sales.items",
            (ScanRequest("orders", ("id",), ID1), ScanRequest("sales.items", ("price",))),
        ),
        ("select price from cheap where id = 1", (ScanRequest("orders", ("id", "price"), And((CHEAP, ID1))),)),
        (
            "select (select max(id) from orders where name = 'x')",
            (ScanRequest("orders", ("id", "name"), Compare("name", "=", lit("x", "string"))),),
        ),
        (
            "select id from orders where id in (select id from sales.items where id = 1)",
            (ScanRequest("orders", ("id",)), ScanRequest("sales.items", ("id",), ID1)),
        ),
        (
            "select x.name from orders x join orders y on x.id = y.id where y.id = 1",
            (ScanRequest("orders", ("id", "name"), ID1),),
        ),
        ("describe orders", ()),
        ("show columns from orders", ()),
        ("select * from information_schema.tables", ()),
        ("explain select id from orders where id = 1", (ScanRequest("orders", ("id",), ID1),)),
        ('select "Mixed Case" from "Odd"', (ScanRequest("Odd", ("Mixed Case",)),)),
    ],
)
def test_scans_of_a_plan(worker, sql, expected):
    scans = worker.scans(sql)
    assert scans == expected


def test_an_eliminated_table_is_still_resolved(worker):
    assert [scan.table for scan in worker.scans("select id from orders where false")] == ["orders"]


def test_an_unseen_subquery_takes_all_hints_away(worker):
    sql = "select id, exists(select 1 from sales.items where id = 2) from orders where id = 1"
    assert worker.scans(sql) == (ScanRequest("orders"), ScanRequest("sales.items"))


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("select count(*) as n from orders", (), [{"n": 100}]),
        ("select id from orders where id < 2 order by id", (), [{"id": 0}, {"id": 1}]),
        ("select count(*) as n, min(id) as a, max(id) as z from sales.items", (), [{"n": 47, "a": 1, "z": 49}]),
        ("select id from sales.items where id in (0, 7, 45, 46, 3) order by id", (), [{"id": 3}, {"id": 46}]),
        ("select count(*) as n from orders x join sales.items y on x.id = y.id", (), [{"n": 47}]),
        ("select count(*) as n from cheap", (), [{"n": 5}]),
        ("select price as p from cheapest", (), [{"p": 0}]),
        ("select count(*) as n from orders where id = (select max(id) from sales.items)", (), [{"n": 1}]),
        ('select "Mixed Case" as a, "q""uote" as b from "Odd"', (), [{"a": 1, "b": 2}]),
        ("select id from orders where id = $1", (7,), [{"id": 7}]),
        ("select id from orders where id = :x and name = :y", {"x": 7, "y": "n1"}, [{"id": 7}]),
        ("select count(*) as n from orders where at < $1", ("2026-06-01T00:00:00Z",), [{"n": 100}]),
        ("select $1 is null as n", (None,), [{"n": True}]),
        ("select sum(v) as s from (values (1), (2)) t(v)", (), [{"s": 3}]),
        ("select v from unnest([1, 2]) t(v)", (), [{"v": 1}, {"v": 2}]),
        (
            "with recursive r(n) as (select 1 union all select n+1 from r where n<3) select max(n) as m from r",
            (),
            [{"m": 3}],
        ),
        ("select row_number() over (order by id) as r from orders where id = 5", (), [{"r": 1}]),
        ("select distinct name from orders where id = 5", (), [{"name": "n2"}]),
        ("select id from orders intersect select id from orders where id = 3", (), [{"id": 3}]),
        ("select id from orders where id < 2 except select 0", (), [{"id": 1}]),
        ("select name, kind from orders where kind = 'b' and id = 1", (), [{"name": "n1", "kind": "b"}]),
        ("select value as v from generate_series(1, 1)", (), [{"v": 1}]),
        ("select upper(name) from orders where id = 1", (), [{"upper(orders.name)": "N1"}]),
    ],
)
def test_answers(worker, sql, parameters, expected):
    assert worker.rows(sql, parameters) == expected


def test_a_union_of_filters_is_right_for_a_self_join(worker):
    sql = "select x.id as a, y.id as b from orders x join orders y on x.id = y.id + 1 where x.id = 3 and y.name = 'n2'"
    assert worker.rows(sql) == [{"a": 3, "b": 2}]


def test_now_moves_from_query_to_query(worker):
    first, second = (worker.rows("select cast(now() as timestamp(6)) as t")[0]["t"] for _ in range(2))
    assert second > first


def test_explain_and_analyze_run(worker):
    assert "orders" in str(worker.rows("explain select id from orders"))
    assert "output_rows" in str(worker.rows("explain analyze select sum(id) from orders"))


def test_show_tables_lists_tables_and_views(worker):
    listed = {(row["table_schema"], row["table_name"], row["table_type"]) for row in worker.rows("show tables")}
    assert {("public", "orders", "BASE TABLE"), ("sales", "items", "BASE TABLE"), ("public", "cheap", "VIEW")} <= listed
    assert not any(name == "broken" for _, name, _ in listed)


def test_describe_needs_no_data(worker):
    worker.tables.data.clear()
    assert worker.rows("describe orders")[0]["column_name"] == "id"


def failure(worker, sql):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - DataFusion raises bare exceptions, mapped below
        worker.rows(sql)
    return query_error(caught.value)


@pytest.mark.parametrize(
    ("sql", "kind", "text"),
    [
        ("selec 1", QueryFailure.INVALID, "SQL syntax error: Expected: an SQL statement, found: selec"),
        ("select zz from orders", QueryFailure.INVALID, "No field named zz"),
        ("select * from nope", QueryFailure.NOT_FOUND, "Table 'nope' not found"),
        ("select * from broken", QueryFailure.INVALID, "View 'public.broken' can't be planned"),
        ("select 1/(id-id) from orders", QueryFailure.INVALID, "Divide by zero"),
        ("select cast(name as int) from orders", QueryFailure.INVALID, "Cannot cast string"),
        ("", QueryFailure.INVALID, "No SQL statements"),
        ("select $1", QueryFailure.INVALID, "Placeholder '$1' was not provided"),
        ("begin", QueryFailure.INVALID, "Unsupported Query."),
    ],
)
def test_failures_are_mapped_and_cleaned(worker, sql, kind, text):
    error = failure(worker, sql)
    assert (error.failure, text in error.message) == (kind, True), error.message
    assert "DataFusion" not in error.message


def test_a_dataset_without_columns_is_told_from_a_name_that_nobody_knows(worker):
    catalog = worker.tables.catalog.value
    worker.tables.catalog.publish(
        replace(catalog, version=catalog.version + 1, pending=("slow", "sales.Late", "far.off"))
    )
    worker.load()
    for sql, name in (
        ("select * from slow", "slow"),
        ("select 1 from orders where id in (select id from spice.public.slow)", "slow"),
        ('select * from sales."Late"', "sales.Late"),
        ("describe slow", "slow"),
        ("select * from far.off", "far.off"),
    ):
        error = failure(worker, sql)
        assert error.failure is QueryFailure.NOT_READY, error.message
        assert error.message.startswith(f"Dataset {name!r} has no columns yet: it is being loaded, or")
    with pytest.raises(QueryError, match="'slow' has no columns yet"):
        worker.engine.take().table_schema("slow")
    assert failure(worker, "select * from late").failure is QueryFailure.NOT_FOUND
    assert {row["table_name"] for row in worker.rows("show tables")}.isdisjoint({"slow", "Late"})


WRITES = [
    "copy orders to '{out}'",
    "copy (select 1) to '{out}' stored as csv",
    "explain copy orders to '{out}'",
    "explain analyze copy orders to '{out}'",
    "create external table x stored as csv location '{secret}'",
    "create table x as select 1",
    "create or replace view orders as select 1",
    "create view x as select 1",
    "create schema x",
    "create database x",
    "create function f() returns int return 1",
    "create index i on orders (id)",
    "select * into x from orders",
    "insert into orders (id) values (1)",
    "insert into orders select * from orders",
    "update orders set id = 1",
    "delete from orders",
    "truncate table orders",
    "merge into orders using sales.items i on orders.id = i.id when matched then delete",
    "drop table orders",
    "drop view cheap",
    "drop schema sales cascade",
    "set datafusion.execution.batch_size = 1",
    "set datafusion.runtime.memory_limit = '100G'",
    "reset datafusion.execution.batch_size",
    "prepare p as select 1",
    "execute p",
    "deallocate p",
    "start transaction",
]
READS_OF_FILES = [
    "select * from '{secret}'",
    "select * from 'file://{secret}'",
    'select * from "{secret}"',
    "select * from read_csv('{secret}')",
    "select * from read_parquet('{secret}')",
    "select * from read_json('{secret}')",
    "select * from parquet_metadata('{secret}')",
    "select pg_read_file('{secret}')",
    "select load_extension('{secret}')",
    "select 1; copy orders to '{out}'",
    "select 1; select 2",
    "with x as (insert into orders (id) values (1) returning id) select * from x",
    "begin",
    "call f()",
    "attach database '{secret}' as x",
    "load '{secret}'",
    "unload (select 1) to '{out}'",
    "use sales",
]


@pytest.mark.parametrize("attack", WRITES)
def test_writes_are_forbidden(worker, tmp_path, attack):
    error = failure(worker, attack.format(out=tmp_path / "out.csv", secret=tmp_path / "secret.csv"))
    assert error.failure is QueryFailure.FORBIDDEN
    assert "read-only SQL context" in error.message
    assert not (tmp_path / "out.csv").exists()
    assert worker.rows("select count(*) as n from orders") == [{"n": 100}]


@pytest.mark.parametrize("attack", READS_OF_FILES)
def test_files_are_out_of_reach(worker, tmp_path, attack):
    (tmp_path / "secret.csv").write_text("a,b\n1,classified\n")
    error = failure(worker, attack.format(out=tmp_path / "out.csv", secret=tmp_path / "secret.csv"))
    assert error.failure in {QueryFailure.INVALID, QueryFailure.NOT_FOUND}
    assert "classified" not in error.message
    assert not (tmp_path / "out.csv").exists()


def test_an_empty_local_answer_is_asked_of_the_source(worker, tmp_path):
    worker.tables.add("hot", SCHEMA, arrow_files(tmp_path, rows(3), "hot"), use_source_on_zero=True)
    worker.tables.sources["hot"] = arrow_files(tmp_path, rows(9), "source")
    worker.load()
    assert worker.rows("select count(*) as n from hot where id < 5") == [{"n": 3}]
    assert not any(scan.from_source for scan in worker.tables.scans)
    assert worker.rows("select id from hot where id = 7") == [{"id": 7}]
    assert worker.tables.scans[-1] == ScanRequest("hot", ("id",), Compare("id", "=", lit(7)), None, True)


def test_a_new_snapshot_replaces_a_cached_one(worker, tmp_path):
    assert worker.rows("select count(*) as n from orders") == [{"n": 100}]
    worker.tables.data["orders"] = parquet_files(tmp_path, rows(10), name="next")
    assert worker.rows("select count(*) as n from orders") == [{"n": 10}]
    links = list(tmp_path.glob("parts-*"))
    worker.tables.data["orders"] = arrow_files(tmp_path, rows(11), "last")
    assert worker.rows("select count(*) as n from orders") == [{"n": 11}]
    assert len(list(tmp_path.glob("parts-*"))) == len(links) - 1


@pytest.mark.parametrize("write", [arrow_files, parquet_files])
@pytest.mark.parametrize("only", [None, Compare("name", "=", lit("n0", "utf8"))])
def test_hidden_rows_are_not_there(worker, tmp_path, write, only):
    if only is not None:
        worker.tables.only["orders"] = only
    worker.tables.data["orders"] = write(tmp_path, rows(20), name="some", hidden=(0, 7, 19))
    expected = [n for n in range(20) if n not in {0, 7, 19} and (only is None or n % 3 == 0)]
    assert [row["id"] for row in worker.rows("select id from orders order by id")] == expected
    assert worker.rows("select count(*) as n from orders where ok") == [{"n": sum(n % 2 == 0 for n in expected)}]
    assert list(worker.rows("select * from orders limit 1")[0]) == SCHEMA.names


@pytest.mark.parametrize(
    ("text", "fatal"),
    [
        ("OS can't spawn worker thread: Resource temporarily unavailable (os error 11)", True),
        ("called `Result::unwrap()` on an `Err` value: PoisonError { .. }", True),
        ("index out of bounds", False),
    ],
)
def test_a_panic_that_leaves_the_engine_unusable(text, fatal):
    panic = type("PanicException", (BaseException,), {})
    assert is_fatal(panic(text)) is fatal
    assert not is_fatal(ValueError(text))


def test_what_no_query_used_for_a_while_is_closed(worker, tmp_path):
    worker.rows("select count(*) from sales.items")
    assert list(tmp_path.glob("parts-*"))
    worker.engine.tidy(now=time.monotonic())
    assert list(tmp_path.glob("parts-*"))
    worker.engine.tidy(now=time.monotonic() + 2 * IDLE)
    assert not list(tmp_path.glob("parts-*"))
    assert worker.rows("select count(*) as n from sales.items") == [{"n": 47}]


def test_spilling_and_cached_footers_are_bounded(worker, tmp_path):
    sql = "select value from information_schema.df_settings where name = 'datafusion.runtime.{}'"
    [limit] = worker.rows(sql.format("max_temp_directory_size"))
    number, unit = float(limit["value"][:-1]), limit["value"][-1]
    assert 0 < number * 1024 ** " KMG".index(unit) <= shutil.disk_usage(tmp_path).total / 2
    assert worker.rows(sql.format("metadata_cache_limit")) == [{"value": "8M"}]


def test_a_column_that_a_partial_answer_lacks_is_null(worker, tmp_path):
    worker.tables.data["orders"] = arrow_files(tmp_path, rows(2).select(["id"]), "narrow")
    assert worker.rows("select id, name from orders order by id") == [{"id": 0, "name": None}, {"id": 1, "name": None}]


@pytest.mark.parametrize("write", [arrow_files, parquet_files])
def test_no_rows_at_all(worker, tmp_path, write):
    worker.tables.data["orders"] = write(tmp_path, rows(0), name="none")
    assert worker.rows("select count(*) as n from orders") == [{"n": 0}]


def test_a_join_is_seen_to_run_on_after_its_stream_was_dropped(worker):
    """Dropping only asks it to stop; what `is_still` says agrees with the CPU time that the process uses."""
    session, running = worker.engine.take(), Running()
    sql = "select count(*) from orders a, orders b, orders c, orders d where a.id + b.id + c.id + d.id = -1"

    async def drop():
        planned = session.plan(Statement(sql))
        session.bring(planned, worker.answers(planned.requests), running)
        session.start(planned, running)
        task = asyncio.ensure_future(anext(running.stream))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task])
        running.stream = None
        assert not is_still(running)
        while not is_still(running):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        used = time.process_time()
        await asyncio.sleep(0.2)
        return time.process_time() - used

    assert asyncio.run(asyncio.wait_for(drop(), 60)) < 0.1


def test_concurrent_sessions_share_one_catalog(worker):
    first, second = worker.engine.take(), worker.engine.take()
    assert first is not second
    assert first.names is second.names
    with pytest.raises(QueryError, match="not found"):
        first.table_schema("nope")
    assert first.table_schema("spice.public.orders") == second.table_schema("orders")


@pytest.mark.parametrize(("old", "new"), [({"parts": 2}, {"parts": 2}), ({"tail": 4}, {"tail": 4}), ({}, {"tail": 2})])
def test_files_that_were_written_before_a_column_was_added_have_null_there(tmp_path, old, new):
    before = parquet_files(tmp_path, pa.table({"id": [1, 2, 3, 4]}), **old, name="before")
    after = parquet_files(tmp_path, pa.table({"id": [5, 6, 7, 8], "w": [5.5, 6.5, None, 8.5]}), **new, name="after")
    kept = ParquetFiles(_filled(before.parts) + _filled(after.parts), before.tails + after.tails)
    tables = FileTables()
    tables.add("grown", pa.schema([("id", pa.int64()), ("w", pa.float64())]), kept)
    worker = Worker(tables, tmp_path)
    found = worker.rows("select id, w from grown order by id")
    assert [row.get("w") for row in found] == [None, None, None, None, 5.5, 6.5, None, 8.5]
    assert worker.rows("select id from grown where w > 6 order by id") == [{"id": 6}, {"id": 8}]
    assert worker.rows("select id from grown where w is null and id > 2 order by id") == [
        {"id": 3},
        {"id": 4},
        {"id": 7},
    ]


def _filled(parts):
    return tuple(path for path in parts if pq.read_metadata(path).num_rows)
