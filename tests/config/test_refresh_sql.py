"""refresh_sql and retention_sql: what is understood, what stays text, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.sql import parse_refresh_sql, retention_sql_of
from caraway.core.predicate import (
    NOW,
    TODAY,
    And,
    Compare,
    In,
    IsNull,
    Like,
    Literal,
    Not,
    Or,
    Predicate,
    RawSql,
    has_raw,
)
from caraway.errors import ConfigError
from support.fuzz import fuzz


def number(value: int) -> Literal:
    return Literal(value, "int64")


def text(value: str) -> Literal:
    return Literal(value, "utf8")


CONDITIONS: list[tuple[str, Predicate]] = [
    ("a = 1", Compare("a", "=", number(1))),
    ("A <> -1", Compare("a", "!=", number(-1))),
    ('"A" != 1', Compare("A", "!=", number(1))),
    ("1 < a", Compare("a", ">", number(1))),
    ("a >= 1.5", Compare("a", ">=", Literal(1.5, "float64"))),
    ("a < 1e3", Compare("a", "<", Literal(1000.0, "float64"))),
    ("a = 'it''s'", Compare("a", "=", text("it's"))),
    ("t.a = 'x'", Compare("a", "=", text("x"))),
    ("a = true", Compare("a", "=", Literal(True, "bool"))),
    ("a", Compare("a", "=", Literal(True, "bool"))),
    ("NOT a", Not(Compare("a", "=", Literal(True, "bool")))),
    ("a IN (1, 2)", In("a", (number(1), number(2)))),
    ("a NOT IN ('x')", Not(In("a", (text("x"),)))),
    ("a IS NULL", IsNull("a")),
    ("a IS NOT NULL", Not(IsNull("a"))),
    ("a LIKE 'x%'", Like("a", "x%")),
    ("a ILIKE 'x_'", Like("a", "x_", case_insensitive=True)),
    ("a NOT LIKE 'x%'", Not(Like("a", "x%"))),
    ("a NOT ILIKE 'x%'", Not(Like("a", "x%", case_insensitive=True))),
    ("NOT (a NOT LIKE 'x%')", Not(Not(Like("a", "x%")))),
    ("a NOT BETWEEN 1 AND 2", Not(And((Compare("a", ">=", number(1)), Compare("a", "<=", number(2)))))),
    ("a BETWEEN 1 AND 2", And((Compare("a", ">=", number(1)), Compare("a", "<=", number(2))))),
    ("a = 1 AND (b = 2 AND c = 3)", And(tuple(Compare(c, "=", number(n)) for c, n in (("a", 1), ("b", 2), ("c", 3))))),
    ("a = 1 OR b = 2", Or((Compare("a", "=", number(1)), Compare("b", "=", number(2))))),
    ("d >= DATE '1970-01-11'", Compare("d", ">=", Literal(10, "date32[day]"))),
    ("d > TIMESTAMP '1970-01-01 00:00:01.5'", Compare("d", ">", Literal(1_500_000, "timestamp[us]"))),
    ("d > TIMESTAMP '1970-01-01 01:00:00+01:00'", Compare("d", ">", Literal(0, "timestamp[us, tz=UTC]"))),
    ("d > CAST('1970-01-02' AS DATE)", Compare("d", ">", Literal(1, "date32[day]"))),
    # What has no value stays text, the whole conjunct of it.
    ("a > b", RawSql('"a" > "b"')),
    ("T.A + 1 = 2", RawSql('"a" + 1 = 2')),
    ("a = NULL", RawSql('"a" = NULL')),
    ("a = 99999999999999999999", RawSql('"a" = 99999999999999999999')),
    ("a IN (1, b)", RawSql('"a" IN (1, "b")')),
    ("a LIKE 'x!%' ESCAPE '!'", RawSql("\"a\" LIKE 'x!%' ESCAPE '!'")),
    ("a BETWEEN SYMMETRIC 2 AND 1", RawSql('"a" BETWEEN SYMMETRIC 2 AND 1')),
    ("a IS NOT DISTINCT FROM 1", RawSql('"a" IS NOT DISTINCT FROM 1')),
    ("a IS TRUE", RawSql('"a" IS TRUE')),
    ("lower(a) = 'x'", RawSql("lower(\"a\") = 'x'")),
    ("at > now() - interval '1 month'", RawSql("\"at\" > now() - INTERVAL '1 month'")),
    ("a = 1 OR b > c", RawSql('"a" = 1 OR "b" > "c"')),
    ("x = 'a' AND b > c", And((Compare("x", "=", text("a")), RawSql('"b" > "c"')))),
    ("d > DATE 'tomorrow'", RawSql("\"d\" > CAST('tomorrow' AS DATE)")),
]


@pytest.mark.parametrize(("condition", "predicate"), CONDITIONS)
def test_a_condition_is_a_predicate(condition: str, predicate: Predicate) -> None:
    assert parse_refresh_sql(f"SELECT * FROM t WHERE {condition}", "t").predicate == predicate
    assert retention_sql_of(f"DELETE FROM t WHERE {condition}", "t") == predicate


SELECTS = [
    ("SELECT * FROM orders", "orders", None),
    ("select id, AT from Orders;", "orders", ("id", "at")),
    ('SELECT "Id", orders.x FROM orders', "orders", ("Id", "x")),
    ("SELECT o.id FROM orders AS o", "orders", ("id",)),
    ("SELECT orders.* FROM orders", "orders", None),
    ("SELECT * FROM public.orders", "orders", None),
    ("SELECT * FROM spice.public.orders", "orders", None),
    ("SELECT * FROM sales.orders", "sales.orders", None),
    ("SELECT * FROM spice.sales.orders", "sales.orders", None),
    ('SELECT * FROM "LINEITEM"', "LINEITEM", None),
    ("SELECT * FROM orders -- all of them", "orders", None),
]


@pytest.mark.parametrize(("sql", "dataset", "columns"), SELECTS)
def test_a_select_names_the_dataset_and_its_columns(sql: str, dataset: str, columns: tuple[str, ...] | None) -> None:
    found = parse_refresh_sql(sql, dataset)
    assert (found.text, found.columns, found.predicate) == (sql, columns, None)


REFUSED = [
    ("", "found 0 statements"),
    ("SELECT", "FROM is missing"),
    ("SELECT 1", "FROM is missing"),
    ("SELEC * FROM t", "this is not"),
    ("SELECT * FROM t WHERE", "this is not SQL"),
    ("SELECT * FROM t; SELECT * FROM t", "found 2 statements"),
    ("DELETE FROM t", "not a SELECT"),
    ("SELECT * FROM t UNION SELECT * FROM t", "not a SELECT"),
    ("SELECT * FROM u", "'u' is not this dataset"),
    ("SELECT * FROM s.t", "'s.t' is not this dataset"),
    ('SELECT * FROM "T"', "'T' is not this dataset"),
    ("SELECT * FROM (SELECT * FROM t)", "something else than the dataset"),
    ("SELECT * FROM read_csv('x')", "something else than the dataset"),
    ("SELECT * FROM t JOIN u ON t.a = u.a", "JOINS is not allowed"),
    ("SELECT * FROM t, u", "JOINS is not allowed"),
    ("SELECT * FROM t ORDER BY a", "ORDER is not allowed"),
    ("SELECT * FROM t LIMIT 5", "LIMIT is not allowed"),
    ("SELECT * FROM t OFFSET 5", "OFFSET is not allowed"),
    ("SELECT a FROM t GROUP BY a", "GROUP is not allowed"),
    ("SELECT * FROM t HAVING a > 1", "HAVING is not allowed"),
    ("SELECT DISTINCT a FROM t", "DISTINCT is not allowed"),
    ("WITH x AS (SELECT 1) SELECT * FROM t", "WITH is not allowed"),
    ("SELECT * FROM t TABLESAMPLE BERNOULLI (5)", "SAMPLE is not allowed"),
    ("SELECT a + 1 FROM t", "is not a column"),
    ("SELECT a AS b FROM t", "is not a column"),
    ("SELECT count(*) FROM t", "is not a column"),
    ("SELECT *, a FROM t", r"both \* and columns"),
    ("SELECT a, A FROM t", "a column twice"),
    ("SELECT u.a FROM t", "belongs to another table"),
    ("SELECT * FROM t WHERE u.a = 1", "belongs to another table"),
    ("SELECT * FROM t WHERE a IN (SELECT a FROM u)", "not allowed in this WHERE"),
    ("SELECT * FROM t WHERE EXISTS (SELECT 1)", "not allowed in this WHERE"),
    ("SELECT * FROM t WHERE count(a) > 1", "not allowed in this WHERE"),
    ("SELECT * FROM t WHERE a = $1", "not allowed in this WHERE"),
    ("SELECT * FROM t WHERE a = ?", "this is not SQL|not allowed in this WHERE"),
    ("SELECT * FROM t WHERE a > row_number() OVER ()", "not allowed in this WHERE"),
    ("SELECT * FROM t WHERE " + "(" * 5000 + "a" + ")" * 5000, "too deeply"),
    ("SELECT * FROM t WHERE a = '" + "x" * 100_000 + "'", "longer than"),
    ("SELECT * FROM t WHERE a = 'x", "this is not SQL"),
]


@pytest.mark.parametrize(("sql", "complaint"), REFUSED)
def test_what_is_more_than_a_filter_is_refused(sql: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_refresh_sql(sql, "t")


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("DELETE FROM t", "removes every row"),
        ("SELECT * FROM t", "not a DELETE"),
        ("DELETE FROM u WHERE a = 1", "not this dataset"),
        ("DELETE FROM t USING u WHERE a = 1", "USING is not allowed"),
        ("DELETE FROM t WHERE a = 1 RETURNING a", "RETURNING is not allowed"),
    ],
)
def test_a_retention_that_is_more_than_a_filter_is_refused(sql: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        retention_sql_of(sql, "t")


def test_many_conjuncts_are_no_deep_nesting() -> None:
    condition = " AND ".join(f"c{number} > {number}" for number in range(300))
    predicate = parse_refresh_sql(f"SELECT * FROM t WHERE {condition}", "t").predicate
    assert isinstance(predicate, And)
    assert len(predicate.terms) == 300


HOUR = 3600 * 10**9
DAY = 24 * HOUR
RELATIVE: list[tuple[str, tuple[int, str] | None]] = [
    ("now()", (0, NOW)),
    ("NOW()", (0, NOW)),
    ("current_timestamp", (0, NOW)),
    ("CURRENT_TIMESTAMP()", (0, NOW)),
    ("now() - INTERVAL '1 day'", (-DAY, NOW)),
    ("(now() - (interval '1 day'))", (-DAY, NOW)),
    ("now() + interval '90 minutes'", (90 * 60 * 10**9, NOW)),
    ("now() - interval '2' weeks", (-14 * DAY, NOW)),
    ("now() - interval 7 day", (-7 * DAY, NOW)),
    ("now() - interval '1 day 2 hours 30 sec'", (-DAY - 2 * HOUR - 30 * 10**9, NOW)),
    ("now() - interval '1 day' + interval '5 mins'", (-DAY + 5 * 60 * 10**9, NOW)),
    ("now() - interval '-1.5 hrs'", (3 * HOUR // 2, NOW)),
    ("now() - interval '0.000000001 seconds'", (-1, NOW)),
    ("now() - interval '36500 days'", (-36500 * DAY, NOW)),
    ("current_date", (0, TODAY)),
    ("current_date()", (0, TODAY)),
    ("today() - interval '1 week'", (-7 * DAY, TODAY)),
    ("current_date - interval '24 hours'", (-DAY, TODAY)),
    ("now()::date", (0, TODAY)),
    ("cast(now() - interval '36 hours' as date) - interval '1 day'", (-60 * HOUR, TODAY)),
    # Not of a fixed length, not a moment, or beyond what a column of nanoseconds could be compared with.
    ("now() - interval '1 month'", None),
    ("now() - interval '1' year", None),
    ("now() - interval '1 year 1 day'", None),
    ("now() - interval '1 day ago'", None),
    ("now() - interval '1 day 2'", None),
    ("now() - interval '1 dayx'", None),
    ("now() - interval '5'", None),
    ("now() - interval '01:00:00'", None),
    ("now() - interval '1' year to month", None),
    ("now() - interval '36501 days'", None),
    ("now() - 5", None),
    ("now() - other", None),
    ("now() * 2", None),
    ("now(3)", None),
    ("now", None),
    ("now()::timestamp", None),
    ("interval '1 day'", None),
    ("'2026-01-01' - interval '1 day'", None),
    ("current_date - interval '1 hour'", None),
    ("localtimestamp", None),
]


@pytest.mark.parametrize(("moment", "literal"), RELATIVE)
def test_a_moment_relative_to_now_has_a_value(moment: str, literal: tuple[int, str] | None) -> None:
    found = retention_sql_of(f"DELETE FROM t WHERE at < {moment}", "t")
    assert has_raw(found) if literal is None else found == Compare("at", "<", Literal(*literal))


def test_now_may_stand_wherever_a_value_may() -> None:
    found = retention_sql_of("DELETE FROM t WHERE now() >= a OR b BETWEEN today() AND now() OR c IN (today(), 1)", "t")
    now, today = Literal(0, NOW), Literal(0, TODAY)
    between = And((Compare("b", ">=", today), Compare("b", "<=", now)))
    assert found == Or((Compare("a", "<=", now), between, In("c", (today, number(1)))))


VOCABULARY = """
    SELECT * FROM t WHERE a b 1 'x' "A" ( ) , . = < > AND OR NOT IN IS NULL LIKE BETWEEN DELETE $1 ? :: CAST AS DATE
    CASE WHEN END now() interval [ ] + - / % || ; -- /* */ LIMIT GROUP BY JOIN ON UNION true 1e5 0x1 u&'x' E'x'
"""
WORDS = st.sampled_from(VOCABULARY.split())


@fuzz(80)
@given(st.lists(WORDS, max_size=25).map(" ".join) | st.text(max_size=40))
def test_any_text_is_a_predicate_or_a_config_error(tail: str) -> None:
    for sql in (tail, f"SELECT * FROM t WHERE {tail}"):
        try:
            found = parse_refresh_sql(sql, "t")
        except ConfigError:
            continue
        assert found.text == sql
