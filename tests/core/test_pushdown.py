"""Filters of a plan become predicates that are never stronger than they were."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or
from caraway.core.pushdown import (
    Binary,
    Column,
    Match,
    Membership,
    Negation,
    NullTest,
    Opaque,
    Scan,
    requests,
    translate,
)
from caraway.model import ScanRequest

A, B, ONE, TWO = Column("a"), Column("b"), Literal(1, "int64"), Literal(2, "int64")
A1, B2 = Binary("=", A, ONE), Binary(">", B, TWO)
PA1, PB2 = Compare("a", "=", ONE), Compare("b", ">", TWO)
X = Literal("x%", "string")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (A1, PA1),
        (Binary("<", ONE, A), Compare("a", ">", ONE)),
        (Binary("<>", A, ONE), Compare("a", "!=", ONE)),
        (Binary("=", A, B), None),
        (Binary("+", A, ONE), None),
        (Binary("=", A, Literal(None, "int64")), None),
        (Binary("<", A, Literal(float("nan"), "double")), None),
        (A, Compare("a", "=", Literal(True, "bool"))),
        (Negation(A1), Not(PA1)),
        (Negation(Opaque()), None),
        (Negation(Binary("AND", A1, Opaque())), None),
        (Negation(Binary("OR", A1, B2)), Not(Or((PA1, PB2)))),
        (Binary("AND", A1, B2), And((PA1, PB2))),
        (Binary("AND", A1, Opaque()), PA1),
        (Binary("AND", Opaque(), Opaque()), None),
        (Binary("OR", A1, Opaque()), None),
        (Binary("OR", A1, Binary("AND", B2, Opaque())), Or((PA1, PB2))),
        (Binary("OR", A1, Binary("OR", B2, A1)), Or((PA1, PB2, PA1))),
        (NullTest(A), IsNull("a")),
        (NullTest(A1), None),
        (Membership(A, (ONE, TWO)), In("a", (ONE, TWO))),
        (Membership(A, (ONE, B)), None),
        (Membership(A, (ONE, Literal(None, "int64"))), None),
        (Match(A, X), Like("a", "x%")),
        (Match(A, X, None, True), Like("a", "x%", True)),
        (Match(A, X, "!"), None),
        (Match(A, Literal("a\\%", "string")), None),
        (Match(A, B), None),
    ],
)
def test_translate(expression, expected):
    assert translate(expression) == expected


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        ([], ScanRequest("t")),
        ([Scan("t", ("a",), A1)], ScanRequest("t", ("a",), PA1)),
        ([Scan("t", ("a",), limit=3)], ScanRequest("t", ("a",), None, 3)),
        ([Scan("t", ("a",), A1, 3)], ScanRequest("t", ("a",), PA1)),
        ([Scan("t", ("a",), A1), Scan("t", ("b", "a"), B2)], ScanRequest("t", ("a", "b"), Or((PA1, PB2)))),
        ([Scan("t", ("a",), A1), Scan("t", ("a",), A1)], ScanRequest("t", ("a",), PA1)),
        ([Scan("t", ("a",), A1), Scan("t", ("b",))], ScanRequest("t", ("a", "b"))),
        ([Scan("t", ("a",), A1), Scan("t", None, Opaque())], ScanRequest("t")),
        ([Scan("t", ("a",), limit=3), Scan("t", ("a",), limit=9)], ScanRequest("t", ("a",))),
        ([Scan("u", ("z",))], ScanRequest("t")),
    ],
)
def test_requests_are_wide_enough_for_every_scan(scans, expected):
    assert requests(["t"], scans) == (expected,)


LEAVES = st.sampled_from([A1, B2, Binary("<=", A, TWO), Opaque(), NullTest(A), Membership(B, (ONE, TWO))])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(Binary, st.sampled_from(["AND", "OR"]), inner, inner) | st.builds(Negation, inner),
    max_leaves=12,
)


def truth(expression, row, opaque):  # noqa: C901 - one case a node
    """SQL's three-valued truth of an expression or a predicate over one row."""
    match expression:
        case Opaque():
            return opaque
        case Binary("AND", left, right):
            return every(truth(left, row, opaque), truth(right, row, opaque))
        case Binary("OR", left, right):
            return inverse(every(inverse(truth(left, row, opaque)), inverse(truth(right, row, opaque))))
        case And(terms):
            return every(*(truth(term, row, opaque) for term in terms))
        case Or(terms):
            return inverse(every(*(inverse(truth(term, row, opaque)) for term in terms)))
        case Negation(term) | Not(term):
            return inverse(truth(term, row, opaque))
        case NullTest(Column(name)) | IsNull(name):
            return row[name] is None
        case Membership(Column(name), values) | In(name, values):
            return None if row[name] is None else row[name] in [value.value for value in values]
        case Binary(op, Column(name), Literal(value)) | Compare(name, op, Literal(value)):
            if row[name] is None:
                return None
            return {"=": row[name] == value, ">": row[name] > value, "<=": row[name] <= value}[op]


def every(*values):
    return False if False in values else None if None in values else True


def inverse(value):
    return None if value is None else not value


@given(TREES)
def test_no_row_is_lost_by_a_translated_filter(expression):
    predicate = translate(expression)
    if predicate is None:
        return
    for a, b, opaque in itertools.product([None, 1, 2, 3], [None, 1, 2, 3], [None, False, True]):
        row = {"a": a, "b": b}
        if truth(expression, row, opaque) is True:
            assert truth(predicate, row, opaque) is True
