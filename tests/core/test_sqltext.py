"""Predicates as SQL text: spellings, what stays here, and the same answer from DataFusion as from the kernels."""

from decimal import Decimal

import pytest

from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or, RawSql
from caraway.core.sqltext import Statement, condition, literal, select

ONE = Literal(1, "int64")
A1 = Compare("a", "=", ONE)
LOCAL = Like("b", "50\\%")


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        (Literal(None, "whatever"), "NULL"),
        (Literal(True, "bool"), "TRUE"),
        (Literal(-(2**63), "int64"), "-9223372036854775808"),
        (Literal(2**64 - 1, "uint64"), "18446744073709551615"),
        (Literal("it's", "string"), "'it''s'"),
        (Literal("it's", "string_view"), "'it''s'"),
        (Literal(0.1, "double"), "arrow_cast('0.1', 'Float64')"),
        (Literal(float("nan"), "double"), "arrow_cast('nan', 'Float64')"),
        (Literal(float("-inf"), "float"), "arrow_cast('-inf', 'Float32')"),
        (Literal(Decimal("1E+2"), "decimal128(38, 2)"), "arrow_cast('100', 'Decimal128(38, 2)')"),
        (Literal(19000, "date32[day]"), "arrow_cast(19000, 'Date32')"),
        (Literal(1, "time32[s]"), "arrow_cast(arrow_cast(1, 'Int32'), 'Time32(Second)')"),
        (Literal(5, "timestamp[us]"), "arrow_cast(5, 'Timestamp(Microsecond, None)')"),
        (Literal(5, "timestamp[ns, tz=+02:00]"), "arrow_cast(5, 'Timestamp(Nanosecond, Some(\"+02:00\"))')"),
        (Literal(b"\x00\xff", "binary"), "X'00ff'"),
        (Literal(1, "list<item: int64>"), None),
        (Literal(1, "timestamp[us, tz='); DROP TABLE t; --]"), None),
    ],
)
def test_literals(value, sql):
    assert literal(value) == sql


@pytest.mark.parametrize(
    ("predicate", "sql"),
    [
        (Compare('we"ird', "!=", ONE), '"we""ird" <> 1'),
        (In("a", (ONE, Literal("x", "utf8"))), "\"a\" IN (1, 'x')"),
        (In("a", ()), "FALSE"),
        (IsNull("a"), '"a" IS NULL'),
        (Like("a", "x'%"), "\"a\" LIKE 'x''%'"),
        (Like("a", "x%", case_insensitive=True), "\"a\" ILIKE 'x%'"),
        (RawSql('"a" = 1 OR "b" = 2'), '("a" = 1 OR "b" = 2)'),
        (Not(Or((A1, IsNull("b")))), 'NOT (("a" = 1 OR "b" IS NULL))'),
        (Or((A1, And((A1, IsNull("b"))))), '("a" = 1 OR ("a" = 1 AND "b" IS NULL))'),
        (Or((A1, LOCAL)), None),
        (Not(LOCAL), None),
        (In("a", (ONE, Literal(1, "struct<>"))), None),
    ],
)
def test_conditions(predicate, sql):
    assert condition(predicate) == sql


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, Statement('SELECT * FROM "s"."t"')),
        ({"columns": ("a", "b"), "limit": 5}, Statement('SELECT "a", "b" FROM "s"."t" LIMIT 5')),
        ({"columns": ()}, Statement('SELECT 1 FROM "s"."t"')),
        ({"predicate": A1, "limit": 0}, Statement('SELECT * FROM "s"."t" WHERE "a" = 1 LIMIT 0')),
        ({"predicate": LOCAL, "limit": 5}, Statement('SELECT * FROM "s"."t"', LOCAL)),
        (
            {"columns": ("a",), "predicate": And((A1, LOCAL)), "limit": 5},
            Statement('SELECT "a", "b" FROM "s"."t" WHERE "a" = 1', LOCAL),
        ),
    ],
)
def test_select_says_what_it_can_and_keeps_the_rest(arguments, expected):
    assert select(("s", "t"), **arguments) == expected
