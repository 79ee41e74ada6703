"""What a plan tells: keys that no two different queries share, tables wherever they stand, functions of time."""

import pyarrow as pa
import pytest

from caraway.model import ViewInfo
from caraway.query.settings import WorkerSettings
from caraway.query.worker.engine import Engine
from caraway.query.worker.facts import VOLATILE
from caraway.query.worker.planning import Statement
from support.query_tables import FileTables, arrow_files

SCHEMA = pa.schema(
    [("a", pa.int64()), ("b", pa.string()), ("c", pa.int64()), ("uuid", pa.string()), ("l", pa.list_(pa.string()))]
)
VIEWS = (
    ViewInfo("small", "select a, b from t where a < 5"),
    ViewInfo("smaller", "select a from small where exists (select 1 from u where u.a = small.a)"),
    ViewInfo("recent", "select a, now() as at from t"),
)


class Planner:
    """The planning half of a worker."""

    def __init__(self, directory):
        tables = FileTables(*VIEWS)
        for name in ("t", "u", "sales.items"):
            tables.add(name, SCHEMA, arrow_files(directory, SCHEMA.empty_table(), name))
        self.engine = Engine(WorkerSettings(directory, 100_000_000, 0, 2))
        self.catalog = tables.catalog.value
        self.session = self.engine.take()
        self.session.names = self.session.load(self.catalog)

    def facts(self, sql, parameters=()):
        return self.session.plan(Statement(sql, parameters)).facts


@pytest.fixture(scope="module")
def planner(tmp_path_factory):
    return Planner(tmp_path_factory.mktemp("facts"))


def both(left, right):
    """Each side is SQL, or SQL and its parameters."""
    return [side if isinstance(side, tuple) else (side, ()) for side in (left, right)]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("select a from t", "SELECT\n  a  FROM\tt ;"),
        ("select a from t", "/* which */ select a -- it's this\nfrom t"),
        ("select A from T where B = 'x'", "select a from t where b='x'"),
        ("select count(*) from t", "select COUNT( * ) from t"),
        ("select a from t where a = 5", ("select a from t where a = $1", (5,))),
        ("select a from t where b = 'it''s'", ("select a from t where b = :b", {"b": "it's"})),
        ("select a from t where a > 1.5", ("select a from t where a > $x", {"x": 1.5})),
        ("select a from t where (a = 1) = true", ("select a from t where (a = 1) = $1", (True,))),
        (("select a from t where b = $1", ("x",)), ("select a from t where b = :name", {"name": "x"})),
        (("select a from t where array_has(l, $1)", ("x",)), "select a from t where array_has(l,  'x')"),
    ],
)
def test_queries_that_only_look_different_have_one_key(planner, left, right):
    first, second = (planner.facts(*side).key for side in both(left, right))
    assert first == second


DIFFERENT = [
    ("select a from t", "select b from t"),
    ("select a from t", "select a from u"),
    ("select a from t where b = 'x'", "select a from t where b = 'X'"),
    ("select a from t where b = 'x y'", "select a from t where b = 'x  y'"),
    ('select a as "B" from t', "select a as b from t"),
    ("select a from t where a - (a - 2) = 1", "select a from t where a - a - 2 = 1"),
    ("select a from t where not (a = 1 and b = 'x')", "select a from t where not a = 1 and b = 'x'"),
    ("select a from t where a % 2 * 2 = 1", "select a from t where a % (2 * 2) = 1"),
    ("select a from t where b = 'x\") OR t.b = Utf8(\"y'", "select a from t where b = 'x' or b = 'y'"),
    (
        "select * from (values (1), (2), (3), (4), (5), (6)) x(v)",
        "select * from (values (1), (2), (3), (4), (5), (7)) x(v)",
    ),
    ("select * from generate_series(1, 5)", "select * from generate_series(1, 6)"),
    ("select * from generate_series(1, 5)", "select * from range(1, 5)"),
    ("select 5", ("select $1", (5,))),
    (("select a from t where a = $1", (5,)), ("select a from t where a = $1", (6,))),
    (("select a from t where a = $1", (5,)), ("select a from t where a = $1", ("5",))),
    (("select a from t where a = $1", (5,)), ("select a from t where a = $1", (5.0,))),
    (("select a from t where a > $1", (2**63,)), ("select a from t where a > $1", (2.0**63,))),
    (("select $1 is null as n", (None,)), ("select $1 is null as n", ("null",))),
    (("select a from t where b = $1", ("$2",)), ("select a from t where b = $1 and b = $2", ("$2", "$2"))),
    (("select $1 as l", (("a", "b"),)), ("select $1 as l", (("a, b",),))),
    (("select a from t where l = $1", (("a", "b"),)), ("select a from t where l = $1", (("a, b",),))),
    (
        ("select a from t where a = $1 and c = $2", (1, 2)),
        ("select a from t where a = $1 and c = $2", (2, 1)),
    ),
    (("select a from t where a = :x", {"x": 1}), ("select a from t where a = :x", {"x": 2})),
    ("select a from t where b = 'a--b'", "select a from t where b = 'a--c'"),
    ("select a from t where b = e'a\\' -- b'", "select a from t where b = e'a\\' -- c'"),
    ("select a from t where b = 'a/*b*/'", "select a from t where b = 'a/*c*/'"),
    (
        "select a from t /* /* */ ' */ where b = 'A B'",
        "select a from t /* /* */ ' */ where b = 'a  b'",
    ),
    ("select a from t order by a", "select a from t order by a desc"),
    ("select a from t limit 1", "select a from t limit 2"),
    ("select distinct a from t intersect select a from u", "select distinct a from t except select a from u"),
    ("explain select a from t", "select a from t"),
    ("select a from small", "select a from t where a < 5"),
]


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_queries_that_differ_never_share_a_key(planner, left, right):
    first, second = (planner.facts(*side).key for side in both(left, right))
    assert first != second
    assert {len(first), len(second)} == {32}


def test_a_new_catalog_gives_new_keys(planner):
    before = planner.facts("select a from small").key
    known = planner.session.names
    try:
        planner.session.names = type(known)(
            known.version + 1, known.infos, known.schemas, known.empty, known.views, known.broken
        )
        assert planner.facts("select a from small").key != before
    finally:
        planner.session.names = known


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("select 1", set()),
        ("select a from t", {"t"}),
        ("select a from spice.public.t", {"t"}),
        ("select a from sales.items", {"sales.items"}),
        ("select a from t where a in (select a from u)", {"t", "u"}),
        ("select a from t where exists (select 1 from u where u.a = t.a)", {"t", "u"}),
        ("select a, exists (select 1 from u where u.a = t.a) from t", {"t", "u"}),
        ("select (select max(a) from u)", {"u"}),
        ("select a from t where a = (select max(a) from u where c in (select c from sales.items))", None),
        ("with x as (select a from t), y as (select a from u) select * from x join y using (a)", {"t", "u"}),
        ("with t as (select a from u) select * from t", {"u"}),
        ("with recursive r(n) as (select a from t union all select n + 1 from r where n < 3) select * from r", {"t"}),
        ("select a from t union all select a from u", {"t", "u"}),
        ("select a from t order by (select max(a) from u)", {"t", "u"}),
        ("select a from t group by a having count(*) > (select min(a) from u)", {"t", "u"}),
        ("select case when a > (select max(a) from u) then 1 end from t", {"t", "u"}),
        ("select a from t join lateral (select b from u where u.a = t.a) x on true", {"t", "u"}),
        ("select a from smaller", {"t", "u"}),
        ("select a from t where false", {"t"}),
        ("describe t", set()),
        ("show columns from t", set()),
        ("explain select a from t", {"t"}),
    ],
)
def test_tables_are_found_wherever_they_stand(planner, sql, tables):
    assert set(planner.facts(sql).tables) == ({"t", "u", "sales.items"} if tables is None else tables)


@pytest.mark.parametrize(
    ("sql", "cacheable"),
    [
        ("select 1", True),
        ("select a from t", True),
        ("select 'TableScan: runtime' from smaller", True),
        ("explain select a from t", False),
        ("explain analyze select a from t", False),
        ("describe t", False),
        ("show tables", False),
        ("show columns from t", False),
        ("select * from information_schema.tables", False),
        ("select a from t where b in (select table_name from information_schema.tables)", False),
        ("select a, (select count(*) from information_schema.views) from t", False),
    ],
)
def test_what_may_be_kept(planner, sql, cacheable):
    assert planner.facts(sql).cacheable is cacheable


@pytest.mark.parametrize(
    ("sql", "volatile"),
    [
        ("select uuid from t", False),
        ("select a as random from t", False),
        ("select a from t where b = 'now'", False),
        ("select now()", True),
        ("select current_timestamp", True),
        ("select current_date", True),
        ("select current_time", True),
        ("select today()", True),
        ("select rand()", True),
        ("select UUID() from t", True),
        ("select a from t where a > random()", True),
        ("select a from t where exists (select 1 from u where u.a < random() * t.a)", True),
        ("select a from t order by random()", True),
        ("select a, at from recent", True),
        ("select a from recent", True),
        ("select value from generate_series(1, 9)", False),
        ("select a from t where b = 'x' -- now()", False),
    ],
)
def test_what_gives_other_rows_each_time(planner, sql, volatile):
    assert planner.facts(sql).volatile is volatile


def test_all_functions_that_are_not_deterministic_are_known(planner):
    frame = planner.session._planning.sql(
        "select distinct routine_name from information_schema.routines"
        " where not is_deterministic and function_type <> 'TABLE'"
    )
    assert {row["routine_name"] for row in frame.to_pylist()} <= VOLATILE
