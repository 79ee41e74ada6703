"""Predicates as values: flattening, columns, raw conditions."""

import pytest

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
    RawSql,
    all_of,
    bind_now,
    columns_of,
    has_raw,
    relative_columns,
)

ONE = Literal(1, "int64")
A = Compare("a", "=", ONE)
B = In("b", (ONE,))
C = IsNull("c")


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ((), None),
        ((None, None), None),
        ((A,), A),
        ((A, None, B), And((A, B))),
        ((And((A, B)), C), And((A, B, C))),
        ((And((And((A, B)), C)),), And((A, B, C))),
    ],
)
def test_all_of_flattens(terms, expected):
    assert all_of(*terms) == expected


def test_columns_of_sees_every_branch():
    assert columns_of(Or((And((A, Not(B))), C, Like("d", "x%")))) == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("predicate", "raw"), [(A, False), (None, False), (Not(RawSql("x")), True), (Or((A, RawSql("x"))), True)]
)
def test_has_raw(predicate, raw):
    assert has_raw(predicate) is raw


DAY = 86_400 * 10**9
NOON = 20_000 * DAY + DAY // 2 + 1_999_999
MOMENTS = [
    (Literal(0, NOW), Literal(20_000 * 86_400_000 + 43_200_001, "timestamp[ms, tz=UTC]")),
    (Literal(-DAY, NOW), Literal(19_999 * 86_400_000 + 43_200_001, "timestamp[ms, tz=UTC]")),
    (Literal(1, NOW), Literal(20_000 * 86_400_000 + 43_200_002, "timestamp[ms, tz=UTC]")),
    (Literal(0, TODAY), Literal(20_000, "date32[day]")),
    (Literal(DAY // 2, TODAY), Literal(20_001, "date32[day]")),
    (Literal(-20_001 * DAY, TODAY), Literal(-1, "date32[day]")),
    (ONE, ONE),
    (Literal("now", "utf8"), Literal("now", "utf8")),
]


@pytest.mark.parametrize(("relative", "bound"), MOMENTS)
def test_a_moment_is_bound_wherever_it_stands(relative, bound):
    def around(value):
        return Or((And((Compare("a", "<", value), C)), Not(In("b", (value, ONE))), Like("d", "x%"), RawSql("x")))

    assert bind_now(around(relative), NOON) == around(bound)


@pytest.mark.parametrize(
    ("predicate", "columns"),
    [
        (None, set()),
        (A, set()),
        (Compare("a", "=", Literal("now", "utf8")), set()),
        (Compare("a", "<", Literal(0, NOW)), {"a"}),
        (Or((Not(In("b", (ONE, Literal(0, TODAY)))), And((A, Compare("c", "<", Literal(0, NOW)))))), {"b", "c"}),
    ],
)
def test_relative_columns(predicate, columns):
    assert relative_columns(predicate) == columns
