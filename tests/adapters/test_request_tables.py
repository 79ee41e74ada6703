"""What the worker tells of conditions on request columns, wherever a real plan puts them."""

import pyarrow as pa
import pytest

from caraway.core.predicate import Compare, In, Literal, Or
from caraway.model import ViewInfo
from caraway.query.settings import WorkerSettings
from caraway.query.worker.engine import Engine
from caraway.query.worker.planning import Statement
from support.query_tables import FileTables, arrow_files

API = pa.schema(
    [
        *((name, pa.string()) for name in ("request_path", "request_query", "content")),
        ("headers", pa.map_(pa.string(), pa.string())),
        ("shape", pa.struct([("sides", pa.int64())])),
    ]
)
IDS = pa.schema([("path", pa.string()), ("n", pa.int64())])
VIEWS = (
    ViewInfo("first", "select * from api where request_path = '/first'"),
    ViewInfo("renamed", "select request_path as p, content from api"),
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    directory = tmp_path_factory.mktemp("requests")
    tables = FileTables(*VIEWS)
    tables.add("api", API, arrow_files(directory, API.empty_table(), "api"), request_columns=API.names[:2])
    tables.add("ids", IDS, arrow_files(directory, IDS.empty_table(), "ids"))
    session = Engine(WorkerSettings(directory, 100_000_000, 0, 2)).take()
    session.names = session.load(tables.catalog.value)
    return lambda sql, parameters=(): session.plan(Statement(sql, parameters))


def lit(text):
    return Literal(text, "string")


A, B = (Compare("request_path", "=", lit(path)) for path in ("/a", "/b"))
FIRST = Compare("request_path", "=", lit("/first"))
CLEAR = [
    ("select * from api where request_path = '/a'", [A]),
    ("select * from api where '/a' = request_path and content like '%x%'", None),
    ("select * from api where request_path = $1", [A]),
    ("select * from api where request_path = '/a' or request_path = '/b'", [Or((A, B))]),
    ("select * from api where request_path in ('/a', null)", [A]),
    (
        "select * from api where request_path in ('/a', '/b', '/c', '/d', '/e')",
        [In("request_path", tuple(lit(f"/{letter}") for letter in "abcde"))],
    ),
    ("select * from api where request_path = '/a' and request_path not like '%x'", [A]),
    ("select * from api where request_path = '/a' and upper(request_path) = '/A'", [A]),
    ("select content from api", [None]),
    ("select content from api where content like '/x%'", None),
    ("select * from first", [FIRST]),
    ("select * from renamed where p = '/a'", [A]),
    ("select * from api x join api y using (content) where x.request_path = '/a' and y.request_path = '/b'", [A, B]),
    ("select * from api x join api y on x.request_path = y.request_path where x.request_path = '/a'", [A, A]),
    ("select * from api where request_path = '/a' union all select * from api where request_path = '/b'", [A, B]),
    ("select * from api x join ids on x.request_path = ids.path where ids.path = '/a'", [A]),
    ("select count(*) from api where request_path = '/a' group by content having count(*) > 1", [A]),
    ("select * from api where request_path = '/a' order by content limit 3", [A]),
    ("select * from ids where path in (select content from api where request_path = '/a')", [A]),
    ("select headers['content-type'] from api where request_path = '/a'", [A]),
    ("select shape['sides'] from api where request_path = '/a' and shape['sides'] > 2 and headers['x'] = 'y'", None),
    ("select * from ids where exists (select 1 from api where request_path = '/a' and content = ids.path)", [A]),
    ("select * from ids where n = (select count(*) from api where request_path = '/a')", [A]),
    ("with x as (select * from api where request_path = '/a') select * from x a join x b using (content)", [A, A]),
    ("select request_path from api where request_path = '/a' limit 5", [A]),
    ("select case when request_path = '/b' then 1 end from api where request_path = '/a'", [A]),
]  # fmt: skip
UNCLEAR = [
    ("select * from api where request_path like '/a%'", "request_path"),
    ("select * from api where request_path <> '/a'", "request_path"),
    ("select * from api where request_path between '/a' and '/b'", "request_path"),
    ("select * from api where not request_path = '/a'", "request_path"),
    ("select * from api where lower(request_path) = '/a'", "request_path"),
    ("select * from api where request_path || '' = '/a'", "request_path"),
    ("select * from api where request_path = content", "request_path"),
    ("select * from api where request_path = '/a' or content = 'x'", "request_path"),
    ("select * from api where request_path = '/a' or request_query = 'q'", "request_path request_query"),
    ("select * from api where request_path = '/a' and request_query > 'q'", "request_query"),
    ("select * from api where case when content = 'x' then request_path = '/a' else true end", "request_path"),
    ("select * from api join ids on api.request_path = ids.path", "request_path"),
    ("select * from ids left join api on api.request_path = ids.path", "request_path"),
    ("select * from api, ids where api.request_path = '/' || ids.n", "request_path"),
    ("select * from renamed join ids on p = path", "request_path"),
    ("select * from (select p as q from renamed) x join ids on q = path", "request_path"),
    ("select * from renamed where p like '/a%'", "request_path"),
    ("select * from api where request_path not in (select path from ids)", "request_path"),
    ("select * from api where exists (select 1 from ids where path = api.request_path)", "request_path"),
    ("select * from api where request_path = (select max(path) from ids)", "request_path"),
    ("select * from (select * from api limit 5) x where request_path = '/a'", "request_path"),
    ("select * from first x join api y on y.request_path = x.content", "request_path"),
    ("select n, exists (select 1 from api where request_path = '/a') as e from ids", "request_path"),
]


@pytest.mark.parametrize(("sql", "each"), CLEAR)
def test_the_values_of_each_reading_are_told(plan, sql, each):
    (request,) = (request for request in plan(sql, ("/a",) * sql.count("$")).requests if request.table == "api")
    assert request.unclear == ()
    if each is not None:
        assert list(request.each) == each


@pytest.mark.parametrize(("sql", "unclear"), UNCLEAR)
def test_what_does_not_tell_values_is_unclear(plan, sql, unclear):
    (request,) = (request for request in plan(sql).requests if request.table == "api")
    assert " ".join(request.unclear) == unclear


@pytest.mark.parametrize("sql", ["select * from api where false", "select * from api where request_path in (null)"])
def test_what_the_optimiser_leaves_out_is_not_asked_for(plan, sql):
    planned = plan(sql)
    assert (planned.tables, planned.requests, planned.facts.tables) == ((), (), ("api",))


def test_a_limit_goes_along_as_for_any_table(plan):
    assert plan("select content from api limit 3").requests[0].limit == 3
    assert plan("select content from api where request_path = '/a' limit 3").requests[0].limit is None
