"""Placeholders and parameter values."""

from decimal import Decimal

import pyarrow as pa
import pytest

from caraway.errors import QueryError
from caraway.query.worker.parameters import bind, named_placeholders, scalar_of


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select :a", "select $a"),
        ("select * from t where a=:a and b = :b_2", "select * from t where a=$a and b = $b_2"),
        ("select (:a)", "select ($a)"),
        ("select ':a'", "select ':a'"),
        ("select 'it''s :a'", "select 'it''s :a'"),
        ('select ":a"', 'select ":a"'),
        ("select x::int", "select x::int"),
        ("select :a::int", "select $a::int"),
        ("select 1 -- :a\n, :b", "select 1 -- :a\n, $b"),
        ("select /* :a */ :b", "select /* :a */ $b"),
        ("select $$ :a $$, $t$ :b $t$, :c", "select $$ :a $$, $t$ :b $t$, $c"),
        ("select x[1:n]", "select x[1:n]"),
        ("select time '10:20:30'", "select time '10:20:30'"),
        ("select 'open :a", "select 'open $a"),
    ],
)
def test_named_placeholders(sql, expected):
    assert named_placeholders(sql) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, pa.scalar(1, pa.int64())),
        (True, pa.scalar(True)),
        (1.5, pa.scalar(1.5)),
        ("x", pa.scalar("x")),
        (None, pa.scalar(None)),
        (2**63, pa.scalar(Decimal(2**63))),
        ((1, 2), pa.scalar([1, 2])),
    ],
)
def test_scalar_of(value, expected):
    assert scalar_of("x", value).equals(expected)
    assert scalar_of("x", value).type == expected.type


@pytest.mark.parametrize("value", [{"a": 1}, (1, "x"), 10**90])
def test_a_value_without_a_type_is_the_callers_mistake(value):
    with pytest.raises(QueryError, match="p1"):
        scalar_of("p1", value)


def test_bind_positional_and_named():
    assert bind("select $1, ':x'", (5,)) == ("select $1, ':x'", {"1": pa.scalar(5)})
    assert bind("select :a", {":a": 5}) == ("select $a", {"a": pa.scalar(5)})
