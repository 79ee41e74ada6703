"""The worker process over snapshots that the real accelerators pinned: one set of questions, one set of answers."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime

import orjson
import pyarrow as pa
import pytest
import trio

from caraway.config.model import QueryLimits
from caraway.latest import Latest
from caraway.model import Append, Catalog, Delete, Pinned, Query, TableInfo, TableSpec
from caraway.query.actor import QueryActor
from support.engines import PERSISTENT, EngineUnderTest

ROWS = 20_000
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DATA = pa.table(
    {
        "id": pa.array(range(ROWS)),
        "name": pa.array([f"n{n % 7}" if n % 5 else None for n in range(ROWS)]),
        "at": pa.array([NOON] * ROWS, pa.timestamp("us", "UTC")),
        "price": pa.array(range(ROWS), pa.int64()).cast(pa.decimal128(20, 0)).cast(pa.decimal128(20, 2)),
    }
)
SPEC = TableSpec("t", DATA.schema, primary_key=("id",))
QUESTIONS = [
    ("select count(*) as n from t", [{"n": ROWS - 2}]),
    (
        "select id, name from t where id in (3, 10, 12) order by id",
        [{"id": 10, "name": None}, {"id": 12, "name": "n5"}],
    ),
    ("select count(*) as n from t where name is null", [{"n": ROWS // 5}]),
    ("select count(*) as n from t where name like 'n1%' and price < 70.5", [{"n": 8}]),
    ("select count(*) as n from t where at < '2026-01-01T13:00:00Z' and not id < 100", [{"n": ROWS - 100}]),
    ("select count(*) as n from t x join t y on x.id = y.id + 1 where x.id < 10 or y.id = 500", [{"n": 6}]),
    ("select name, count(*) as n from t where id < 40 group by name order by n desc limit 1", [{"name": None, "n": 8}]),
    ("select id from t where id > 5 order by id limit 1", [{"id": 6}]),
]


class Stored:
    """ports.Tables over one accelerator."""

    def __init__(self, store):
        self._store = store
        self.catalog = Latest(Catalog(1, (TableInfo("t", DATA.schema.serialize().to_pybytes()),)))

    @asynccontextmanager
    async def resolve(self, scans):
        with self._store.pin() as snapshot:
            yield [Pinned(snapshot) for _ in scans]


@pytest.mark.parametrize("engine", ["arrow", *PERSISTENT])
async def test_the_same_answers_from_every_engine(tmp_path, engine):
    async with EngineUnderTest(engine, tmp_path).open(SPEC) as store, trio.open_nursery() as nursery:
        await store.commit([Append(batch) for batch in DATA.to_batches(max_chunksize=6_000)], None)
        gone = pa.record_batch({"id": pa.array([3, 7])})
        await store.commit([Delete(gone)], None)
        actor = QueryActor(Stored(store), QueryLimits(memory_limit=2**31), lambda _: None, cores=2)
        await nursery.start(lambda task_status: actor.run(task_status=task_status))
        with trio.fail_after(60):
            for sql, expected in QUESTIONS:
                async with actor.execute(Query(sql)) as result:
                    answer = orjson.loads(b"".join([chunk async for chunk in result]))
                assert [{key: row.get(key) for key in expected[0]} for row in answer] == expected, sql
        nursery.cancel_scope.cancel()
