"""The results cache before a real query worker."""

from contextlib import asynccontextmanager

import pyarrow as pa
import pytest
import trio

from caraway.caching.results import ResultsCache
from caraway.config.model import QueryLimits, ResultsCacheConfig
from caraway.errors import QueryError, QueryFailure
from caraway.events import QueryFinished
from caraway.model import CacheStatus, Directives, FlightMessage, Generation, ResultFormat, ViewInfo
from caraway.query.actor import QueryActor
from support.cached import get
from support.fake_planner import ask
from support.query_tables import FileTables, arrow_files

HIT, MISS = CacheStatus.HIT, CacheStatus.MISS


class Counted(FileTables):
    """Tables whose changes are told by the test."""

    def __init__(self, *views):
        super().__init__(*views)
        self.parts = {}

    def generation(self, table):
        return Generation("e", (self.parts.get(table, 0),), trio.current_time())


@asynccontextmanager
async def engine(tmp_path, **config):
    tables = Counted(ViewInfo("v", "select a from t where a in (select a from u)"))
    for name in "tu":
        table = pa.table({"a": pa.array(range(1000))})
        tables.add(name, table.schema, arrow_files(tmp_path, table, name))
    events = []
    actor = QueryActor(tables, QueryLimits(memory_limit=2**31, temp_directory=tmp_path), events.append, cores=2)
    cache = ResultsCache(actor, tables, ResultsCacheConfig(item_ttl=60.0, **config), events.append)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: actor.run(task_status=task_status))
            await nursery.start(lambda task_status: cache.run(task_status=task_status))
            yield cache, tables, events
            nursery.cancel_scope.cancel()
    assert tables.pins == 0


async def test_what_the_worker_tells_is_enough(tmp_path):
    """Equal plans share, tables in views and subqueries count, what is volatile or of the system is not kept."""
    async with engine(tmp_path) as (cache, tables, _):
        body = b'[{"n":1000}]'
        assert await get(cache, ask("select count(*) as n from t")) == (MISS, body)
        assert await get(cache, ask("SELECT  count(*)  AS n FROM t")) == (HIT, body)
        assert await get(cache, ask("select count(*) as n from v")) == (MISS, body)
        assert cache.peek(ask("select count(*) as n from v"))
        tables.parts["u"] = 1
        assert (await get(cache, ask("select count(*) as n from t")))[0] is HIT
        assert (await get(cache, ask("select count(*) as n from v")))[0] is MISS
        for sql in (
            "select now() as x",
            "select random() as x",
            "explain select 1",
            "select * from information_schema.tables",
        ):
            assert [(await get(cache, ask(sql)))[0] for _ in range(2)] == [None, None], sql
        assert (await get(cache, ask("select a from t where a = $1", parameters=(1,))))[1] == b'[{"a":1}]'
        assert (await get(cache, ask("select a from t where a = $1", parameters=(2,))))[1] == b'[{"a":2}]'
        with pytest.raises(QueryError) as error:
            await get(cache, ask("select a + 1 from t", directives=Directives(only_if_cached=True)))
        assert error.value.failure is QueryFailure.NOT_CACHED


async def test_equal_queries_at_once_are_one_execution(tmp_path):
    async with engine(tmp_path) as (cache, _, events):
        found = []

        async def one(number):
            sql = "select sum(a) as s from t" + " " * (number % 3)
            found.append(await get(cache, ask(sql, protocol="http")))

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(one, number)
        assert set(found) <= {(MISS, b'[{"s":499500}]'), (HIT, b'[{"s":499500}]')}
        assert cache.statistics().coalesced >= 100
        told = [event for event in events if isinstance(event, QueryFinished)]
        assert len(told) == 200
        assert {event.failure for event in told} == {""}


@pytest.mark.parametrize("encoding", ["none", "zstd"])
async def test_messages_are_kept_as_they_came(tmp_path, encoding):
    async with engine(tmp_path, encoding=encoding) as (cache, _, _):
        query = ask("select a from t order by a", format=ResultFormat.IPC)
        answers = []
        for _ in range(2):
            async with cache.execute(query) as result:
                messages = [message async for message in result]
                answers.append([result.schema, *messages])
        for schema, *messages in answers:
            stream = b"".join(map(framed, [schema, *messages]))
            assert pa.ipc.open_stream(stream).read_all() == pa.table({"a": pa.array(range(1000))})
        assert cache.statistics().hits == 1


def framed(message: FlightMessage) -> bytes:
    padding = -len(message.header) % 8
    size = (len(message.header) + padding).to_bytes(4, "little")
    return b"\xff\xff\xff\xff" + size + message.header + bytes(padding) + bytes(message.body)
