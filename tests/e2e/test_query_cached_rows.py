"""The worker shows of a snapshot only what a query may see of it, whichever engine stored it."""

from contextlib import asynccontextmanager

import orjson
import pyarrow as pa
import pytest
import trio

from caraway.config.model import QueryLimits
from caraway.core.predicate import Compare, In, Literal, Or
from caraway.latest import Latest
from caraway.model import Append, CacheReading, Catalog, Delete, Pinned, Query, ReadingStatus, TableInfo, TableSpec
from caraway.query.actor import QueryActor
from support.engines import PERSISTENT, EngineUnderTest

ROWS = 6_000
DATA = pa.table(
    {
        "request_path": [f"/items/{n // 10}" for n in range(ROWS)],
        "n": pa.array(range(ROWS)),
        "__caraway_entry": [f"{n // 10:032x}" for n in range(ROWS)],
        "__spice_cache_namespace": ["public" if n // 10 % 2 else "apikey:1" for n in range(ROWS)],
    }
)
SPEC = TableSpec("t", DATA.schema, primary_key=("n",))
SHOWN = DATA.select(["request_path", "n"]).schema


def entries(*numbers):
    return In("__caraway_entry", tuple(Literal(f"{number:032x}", "string") for number in numbers))


def of_namespace(name):
    return Compare("__spice_cache_namespace", "=", Literal(name, "string"))


class Cached:
    """ports.Tables over one accelerator, of whose rows `only` admits some."""

    def __init__(self, store):
        self._store = store
        self.only = None
        self.catalog = Latest(Catalog(1, (TableInfo("t", SHOWN.serialize().to_pybytes()),)))

    def generation(self, table):
        return None

    @asynccontextmanager
    async def resolve(self, scans):
        with self._store.pin() as snapshot:
            yield [Pinned(snapshot, self.only, CacheReading("t", ReadingStatus.HIT)) for _ in scans]


QUESTIONS = [
    (None, "select count(*) as n from t", [{"n": ROWS - 2}]),
    (entries(), "select count(*) as n from t", [{"n": 0}]),
    (entries(3), "select count(*) as n from t", [{"n": 10}]),
    (entries(3), "select * from t where n = 31", [{"request_path": "/items/3", "n": 31}]),
    (entries(3), "select * from t where request_path = '/items/3' and n > 38", [{"request_path": "/items/3", "n": 39}]),
    (entries(3), "select * from t where request_path = '/items/4'", []),
    (entries(3, 4), "select sum(n) as n from t where request_path in ('/items/3', '/items/5')", [{"n": 345}]),
    (entries(0), "select n from t order by n limit 2", [{"n": 0}, {"n": 1}]),
    (entries(1), "select n from t limit 1", [{"n": 10}]),
    (entries(599), "select max(n) as n from t", [{"n": ROWS - 1}]),
    (entries(7), "select n from t where n between 68 and 71 order by n", [{"n": 70}, {"n": 71}]),
    (of_namespace("public"), "select count(*) as n from t", [{"n": ROWS // 2}]),
    (of_namespace("nobody"), "select count(*) as n from t where n > 5 or request_path like '%1'", [{"n": 0}]),
    (Or((entries(1), of_namespace("nobody"))), "select count(*) as n from t x join t y using (n)", [{"n": 10}]),
    (entries(3), "select count(*) as n from (select * from t where n < 35 union all select * from t)", [{"n": 15}]),
]


@asynccontextmanager
async def asking(store):
    """What the worker answers to SQL over a store, of which `only` admits some rows."""
    tables = Cached(store)
    actor = QueryActor(tables, QueryLimits(memory_limit=2**31), lambda _: None, cores=2)

    async def ask(sql, only):
        tables.only = only
        async with actor.execute(Query(sql)) as result:
            answer = orjson.loads(b"".join([chunk async for chunk in result]))
            assert [reading.dataset for reading in result.readings] == ["t"]
        return answer

    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: actor.run(task_status=task_status))
        with trio.fail_after(60):
            yield ask
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("engine", ["arrow", *PERSISTENT])
async def test_only_admitted_rows_are_shown(tmp_path, engine):
    async with EngineUnderTest(engine, tmp_path).open(SPEC) as store:
        for batch in DATA.to_batches(max_chunksize=2_500):
            await store.commit([Append(batch)], None)
        await store.commit([Delete(pa.record_batch({"n": pa.array([65, 66])}))], None)
        async with asking(store) as ask:
            for only, sql, expected in QUESTIONS:
                assert await ask(sql, only) == expected, (sql, only)


@pytest.mark.parametrize("engine", ["arrow", *PERSISTENT])
async def test_a_store_without_rows_shows_none(tmp_path, engine):
    async with EngineUnderTest(engine, tmp_path).open(SPEC) as store:
        await store.commit([], None)
        async with asking(store) as ask:
            for only in (None, entries(3), of_namespace("public")):
                assert await ask("select count(*) as n from t", only) == [{"n": 0}], only
                assert await ask("select * from t where n > 5", only) == [], only
