"""A condition means to us what it means to DataFusion, whether it became a predicate or stayed text."""

import pyarrow as pa
import pytest
from datafusion import SessionContext
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.sql import parse_refresh_sql
from caraway.core.predicate import And, Predicate, RawSql, all_of, bind_now
from caraway.kernels.predicates import filter_batch
from support.fuzz import fuzz

ROWS = pa.record_batch(
    {
        "row": pa.array(range(12), pa.int64()),
        "a": pa.array([1, 2, 3, None, -1, 0, 5, 5, None, 2, 7, 1], pa.int64()),
        "b": pa.array([1.5, None, 2.0, 3.0, -1.0, 0.0, 5.0, 4.5, None, 2.5, 7.0, 0.5], pa.float64()),
        "S": pa.array(["x", "xy", "Xy", None, "", "it's", "y%", "a_b", None, "x", "z", "Y"], pa.utf8()),
        "f": pa.array([True, False, None, True, False, None, True, False, True, None, True, False], pa.bool_()),
        "t": pa.array([0, 10**15, 86400 * 10**6, None, *range(1, 9)], pa.timestamp("us")),
        "d": pa.array([0, 1, 10, None, 365, -1, 7, 9, 2, 4, 20000, 5], pa.date32()),
    }
)

LEAVES = st.sampled_from(
    [
        "a = 1", "2 <= a", "A <> 5", "a != -1", "-1 < a", "t.a > 1", "b > 2", "b <= 2.5", "1e0 >= b", '"S" = \'x\'',
        "'it''s' = \"S\"", '"S" LIKE \'x%\'', '"S" NOT LIKE \'_y\'', '"S" ILIKE \'x%\'', '"S" NOT ILIKE \'%Y\'', "f",
        "f = true", "f <> true", "false = f", "a IN (1, 2, 5)", "a NOT IN (1, -1)", '"S" IN (\'x\', \'z\')',
        "a IS NULL",
        "b IS NOT NULL", "a BETWEEN 1 AND 3", "b NOT BETWEEN 0.5 AND 2.5", "d > DATE '1970-01-08'",
        "d = CAST('1970-01-02' AS DATE)", "a > b", "a + 1 = 3", "a % 2 = 1", "lower(\"S\") = 'xy'",
        "(a IS DISTINCT FROM 1)",
        "f IS TRUE", "f IS NOT FALSE", "a IN (1, NULL)", "CASE WHEN a > 1 THEN f ELSE b > 1 END", "coalesce(a, 9) = 9",
        "a BETWEEN b AND 5", "true", "1 = 1", "a = NULL", "a * -1 < 0", '"S" || \'!\' = \'x!\'', "NOT f IS NULL",
    ]
)  # fmt: skip
FUNCTIONS = """
date_trunc('day', t) = t
extract(year from t) = 2001
date_part('year', t) > 1970
t + interval '1 month' > timestamp '2001-09-01'
t > timestamp '2020-01-01' - interval '2 hours'
t > to_timestamp('2020-01-01T00:00:00')
date_bin(interval '1 day', t) < t
to_char(d, '%Y') = '1970'
d > date '1970-01-20' - interval '5' day
make_date(1970, 1, 5) > d
t at time zone 'UTC' is null
regexp_like("S", 'x')
"S" ~ 'x'
"S" !~ 'x'
"S" ~* 'X'
"S" similar to 'x%'
starts_with("S", 'x')
strpos("S", 'y') > 0
position('y' in "S") > 0
substr("S", 1, 1) = 'x'
substring("S" from 1 for 1) = 'x'
trim("S") = 'x'
left("S", 1) = 'x'
split_part("S", '_', 1) = 'a'
"S" = E'x'
"S" in ('x', upper('xy'))
ifnull(a, 1) = 1
nvl(a, 1) = 1
nullif(a, 1) = 2
greatest(a, 2) = 2
a::int = 1
try_cast("S" as int) is null
arrow_cast(a, 'Int32') = 1
a / 2 > 0
a & 1 = 1
a | 1 = 1
a ^ 1 = 0
a << 1 = 2
power(a, 2) > 3
round(b) = 2
case a when 1 then true else false end
array_has(make_array(1, 2), a)
a is not distinct from 1
"""
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("{} AND {}".format, inner, inner),
        st.builds("{} OR {}".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def context() -> SessionContext:
    found = SessionContext()
    found.register_record_batches("t", [[ROWS]])
    return found


def rows_by_engine(context: SessionContext, condition: str) -> set[int]:
    return {row["row"] for row in context.sql(f"SELECT row FROM t WHERE {condition}").to_pylist()}


def rows_by_predicate(context: SessionContext, predicate: Predicate) -> set[int]:
    terms = predicate.terms if isinstance(predicate, And) else (predicate,)
    texts = [term.text for term in terms if isinstance(term, RawSql)]
    local = all_of(*(term for term in terms if not isinstance(term, RawSql)))
    kept = set(filter_batch(ROWS, local).column("row").to_pylist())
    return kept & rows_by_engine(context, " AND ".join(f"({text})" for text in texts) or "true")


@fuzz(70)
@given(condition=CONDITIONS)
def test_the_same_rows_come_either_way(context: SessionContext, condition: str) -> None:
    predicate = parse_refresh_sql(f"SELECT * FROM t WHERE {condition}", "t").predicate
    assert predicate is not None
    assert rows_by_predicate(context, predicate) == rows_by_engine(context, condition)


@pytest.mark.parametrize("condition", FUNCTIONS.strip().split("\n"))
def test_what_stays_text_means_what_was_written(context: SessionContext, condition: str) -> None:
    found = parse_refresh_sql(f"SELECT * FROM t WHERE {condition}", "t").predicate
    assert isinstance(found, RawSql)
    assert rows_by_engine(context, found.text) == rows_by_engine(context, condition)


STEP = 9 * 3600 * 10**9 + 1
MOMENTS = """
now() - interval '1 day'
current_timestamp - interval '36 hours' + interval '2 min'
now() - interval '-1.5 hours'
now() - interval '1 day 2 hours 30 sec'
now() + interval '0.5 weeks'
now() - interval '3' day
current_date
current_date - interval '2 days'
today() + interval '24 hours'
cast(now() - interval '36 hours' as date)
now()::date - interval '1 week'
"""


def around(now: int) -> pa.RecordBatch:
    """Rows every few hours for two weeks around a moment, as every type that tells time."""
    moments = pa.array([now + step * STEP for step in range(-24, 25)], pa.int64())
    columns: dict[str, pa.Array] = {"row": pa.array(range(len(moments)), pa.int64())}
    # Seconds it compares with whole seconds; its now() has no zone, which it takes for the column's where that has one.
    for unit in ("ms", "us", "ns"):
        for zone in (None, "UTC"):
            nanos = moments.cast(pa.timestamp("ns", zone))
            columns[f"{unit}_{zone}"] = nanos.cast(pa.timestamp(unit, zone), safe=False)
    columns["d"] = columns["ns_None"].cast(pa.date32(), safe=False)
    columns["d64"] = columns["d"].cast(pa.date64())
    return pa.record_batch(columns)


@pytest.mark.parametrize("moment", MOMENTS.strip().split("\n"))
def test_a_moment_relative_to_now_means_what_it_means_to_the_engine(moment: str) -> None:
    context = SessionContext()
    began = context.sql("SELECT arrow_cast(now(), 'Int64') AS now").to_pylist()[0]["now"]
    rows = around(began)
    context.register_record_batches("t", [[rows]])
    for name in rows.schema.names[1:]:
        condition = f'"{name}" < {moment}'
        found = context.sql(f"SELECT row, arrow_cast(now(), 'Int64') AS now FROM t WHERE {condition}").to_pylist()
        predicate = parse_refresh_sql(f"SELECT * FROM t WHERE {condition}", "t").predicate
        kept = filter_batch(rows, bind_now(predicate, found[0]["now"])).column("row").to_pylist()
        assert kept == [row["row"] for row in found], condition
