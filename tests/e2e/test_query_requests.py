"""A real worker over an API: which requests a query sends, by conditions, by subqueries, and what it answers."""

import itertools
from contextlib import asynccontextmanager

import orjson
import pyarrow as pa
import pytest
import trio

from caraway.config.model import QueryLimits
from caraway.core.http_requests import requests_of
from caraway.errors import QueryError, QueryFailure
from caraway.model import CacheReading, Pinned, Query, ReadingStatus, ViewInfo
from caraway.query.actor import QueryActor
from support.query_tables import FileTables, arrow_files, snapshot

API = pa.schema([("request_path", pa.string()), ("request_query", pa.string()), ("content", pa.string())])
VIEWS = (
    ViewInfo("cheap", "select path from ids where n < 2"),
    ViewInfo("wanted", "select * from api where request_path in (select path from cheap)"),
    ViewInfo("longest", "select max(content) as content from wanted"),
)
IDS = pa.table({"path": ["/a", "/b", "/c", None, "/a"], "n": [0, 1, 2, 3, 4]})


class Api(FileTables):
    """Each request gives one row that says which it was; `sent` are the requests of each resolution."""

    def __init__(self, directory):
        super().__init__(*VIEWS)
        self._directory = directory
        self.sent: list[str] = []
        self._answers = itertools.count()
        self.add("ids", IDS.schema, arrow_files(directory, IDS, "ids"))
        self.add("api", API, arrow_files(directory, API.empty_table(), "api"), request_columns=API.names[:2])

    @asynccontextmanager
    async def resolve(self, scans):
        for scan in scans:
            if scan.unclear:
                raise QueryError(f"unclear: {' '.join(scan.unclear)}")
        async with super().resolve(scans) as pins:
            yield [self._answered(scan) if scan.table == "api" else pin for scan, pin in zip(scans, pins, strict=True)]

    def _answered(self, scan):
        requests = requests_of(scan.each, API.names[:2]) or ()
        self.sent.append(" ".join(request.path + request.query for request in requests) if requests else "/")
        rows = [{"request_path": r.path, "request_query": r.query, "content": f"{r.path}!"} for r in requests]
        name = f"answer-{next(self._answers)}"
        data = arrow_files(self._directory, pa.Table.from_pylist(rows, API), name)
        return Pinned(snapshot(data), None, CacheReading("api", ReadingStatus.MISS, 0.0, len(requests)))


@asynccontextmanager
async def running(tmp_path):
    tables = Api(tmp_path)
    actor = QueryActor(tables, QueryLimits(memory_limit=2**31), lambda _: None, cores=2)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: actor.run(task_status=task_status))
            yield actor, tables
            nursery.cancel_scope.cancel()
    assert tables.pins == 0


async def rows(actor, sql, **more):
    async with actor.execute(Query(sql, **more)) as result:
        return orjson.loads(b"".join([chunk async for chunk in result]))


A, B, C = ({"content": f"/{letter}!"} for letter in "abc")
ASKED = "select content from api where request_path"
IDS_OF = "select path from ids where n"
ANSWERS = [
    (f"{ASKED} = '/a'", ["/a"], [A]),
    (f"{ASKED} in ('/b', '/a') order by 1", ["/a /b"], [A, B]),
    (f"{ASKED} in (select path from ids) order by 1", ["/a /b /c"], [A, B, C]),
    (f"{ASKED} IN ({IDS_OF} = :n)", ["/b"], [B]),
    (f"{ASKED} in ({IDS_OF} > 9)", [], []),
    (f"{ASKED} in ({IDS_OF} = 3)", [], []),
    (f"{ASKED} in ({IDS_OF} > 9) or request_path = '/c'", ["/c"], [C]),
    (f"{ASKED} in (select path from ids) and request_path like '%b'", ["/a /b /c"], [B]),
    (f"with x as ({IDS_OF} = 2) {ASKED} in (select path from x)", ["/c"], [C]),
    (f"{ASKED} in (select substr(content, 1, 2) from api where request_path in ({IDS_OF} = 0))", ["/a", "/a"], [A]),
    (f"{ASKED} in (select substr(content, 1, 2) from longest)", ["/a /b", "/b"], [B]),
    (f"{ASKED} = '/a' union all {ASKED} in ({IDS_OF} = 1) order by 1", ["/a /b"], [A, B]),
    ("select content from wanted order by 1", ["/a /b"], [A, B]),
    ("select content from longest", ["/a /b"], [B]),
    (
        (
            f"select content from api x join api y using (content) where x.request_path in ({IDS_OF} < 2)"
            " and y.request_path = '/b'"
        ),
        ["/a /b"],
        [B],
    ),
    (
        "select path || '!' as content from ids where path in (select request_path from api where request_path = '/c')",
        ["/c"],
        [C],
    ),
    ("select count(*) as n from api where false", [], [{"n": 0}]),
]
REFUSED = [
    f"{ASKED} like '/a%'",
    "select content from api join ids on request_path = path",
    f"{ASKED} not in (select path from ids)",
    f"{ASKED} in (select path from ids where ids.path = api.content)",
]


async def test_requests_and_answers(tmp_path):
    async with running(tmp_path) as (actor, tables):
        for sql, sent, expected in ANSWERS:
            tables.sent.clear()
            assert await rows(actor, sql, parameters={"n": 1} if ":n" in sql else ()) == expected, sql
            assert tables.sent == sent, sql
        for sql in REFUSED:
            with pytest.raises(QueryError, match="unclear: request_path"):
                await rows(actor, sql)


async def test_facts_are_those_of_the_query_as_it_was_asked(tmp_path):
    async with running(tmp_path) as (actor, tables):
        heard = []

        def planned(facts):
            heard.append((facts.key, set(facts.tables), facts.cacheable, tables.scans[:]))

        for n in (0, 1, 1):
            tables.scans.clear()
            sql = f"select content from api where request_path in (select path from ids where n = {n})"
            async with actor.execute(Query(sql), planned) as result:
                assert [reading.entries for reading in result.readings] == [1]
        assert [rest for _, *rest in heard] == [[{"api", "ids"}, True, []]] * 3
        assert heard[0][0] != heard[1][0] == heard[2][0]


async def test_more_values_than_may_be_asked_for(tmp_path):
    async with running(tmp_path) as (actor, tables):
        with pytest.raises(QueryError, match="more than 20000 values") as caught:
            await rows(actor, f"{ASKED} in (select '/' || value from generate_series(1, 30000))")
        assert caught.value.failure is QueryFailure.INVALID
        assert tables.sent == []


async def test_a_failing_or_endless_subquery_ends_with_its_query(tmp_path):
    async with running(tmp_path) as (actor, _):
        with pytest.raises(QueryError, match="Divide by zero"):
            await rows(actor, "select * from api where request_path in (select 1 / (n - n) from ids)")
        with trio.move_on_after(0.3) as waiting:
            await rows(
                actor,
                "select * from api where request_path in (select x.path from ids x, generate_series(1, 99999999) a,"
                " generate_series(1, 99999999) b where a.value + b.value < 0)",
            )
        assert waiting.cancelled_caught
        assert await rows(actor, "select 1 as n") == [{"n": 1}]
