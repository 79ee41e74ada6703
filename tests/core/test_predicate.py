"""Predicates as values: flattening, columns, raw conditions."""

import pytest

from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or, RawSql, all_of, columns_of, has_raw

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
