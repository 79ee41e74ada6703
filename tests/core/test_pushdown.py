"""Filters of a plan become predicates that are never stronger than they were."""

import functools
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
        (Membership(A, (ONE, Literal(None, "int64"))), In("a", (ONE,))),
        (Membership(A, (Literal(None, "int64"),)), None),
        (Negation(Membership(A, (ONE, Literal(None, "int64")))), None),
        (Binary("OR", A1, Literal(None, "bool")), PA1),
        (Binary("OR", Literal(False, "bool"), A1), PA1),
        (Binary("OR", A1, Literal(True, "bool")), None),
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


P, Q = Column("path"), Column("query")
VA, VB = Literal("/a", "string"), Literal("/b", "string")
PATH_A, PATH_B, QUERY_A = Binary("=", P, VA), Binary("=", P, VB), Binary("=", Q, VA)
PPATH_A, PPATH_B, PQUERY_A = Compare("path", "=", VA), Compare("path", "=", VB), Compare("query", "=", VA)
NOT_B, PREFIX = Binary("!=", P, VB), Match(P, X)
OPAQUE_PATH = Opaque(frozenset({"lower", "t", "path"}))


def both(*terms):
    return functools.reduce(lambda left, right: Binary("AND", left, right), terms)


def either(*terms):
    return functools.reduce(lambda left, right: Binary("OR", left, right), terms)


@pytest.mark.parametrize(
    ("condition", "each", "unclear"),
    [
        (None, None, ()),
        (A1, PA1, ()),
        (PATH_A, PPATH_A, ()),
        (Membership(P, (VA, VB)), In("path", (VA, VB)), ()),
        (Membership(P, (VA, Literal(None, "string"))), In("path", (VA,)), ()),
        (either(PATH_A, PATH_B), Or((PPATH_A, PPATH_B)), ()),
        (either(PATH_A, Literal(None, "bool")), PPATH_A, ()),
        (both(PATH_A, QUERY_A, A1), And((PPATH_A, PQUERY_A, PA1)), ()),
        (
            either(both(PATH_A, QUERY_A), both(PATH_B, QUERY_A)),
            Or((And((PPATH_A, PQUERY_A)), And((PPATH_B, PQUERY_A)))),
            (),
        ),
        (both(PATH_A, NOT_B), PPATH_A, ()),
        (both(PREFIX, PATH_A, A1), And((PPATH_A, PA1)), ()),
        (both(PATH_A, OPAQUE_PATH), PPATH_A, ()),
        (NullTest(P), IsNull("path"), ()),
        (Negation(NullTest(P)), Not(IsNull("path")), ()),
        (NOT_B, Compare("path", "!=", VB), ("path",)),
        (PREFIX, Like("path", "x%"), ("path",)),
        (Binary("<", P, VB), Compare("path", "<", VB), ("path",)),
        (Negation(Membership(P, (VA, VB))), Not(In("path", (VA, VB))), ("path",)),
        (Negation(PATH_A), Not(PPATH_A), ("path",)),
        (OPAQUE_PATH, None, ("path",)),
        (Binary("=", P, A), None, ("path",)),
        (Binary("=", Opaque(frozenset({"path"})), VA), None, ("path",)),
        (Match(A, P), None, ("path",)),
        (NullTest(OPAQUE_PATH), None, ("path",)),
        (either(PATH_A, A1), Or((PPATH_A, PA1)), ("path",)),
        (either(PATH_A, QUERY_A), Or((PPATH_A, PQUERY_A)), ("path", "query")),
        (either(PATH_A, both(PATH_B, QUERY_A)), Or((PPATH_A, And((PPATH_B, PQUERY_A)))), ("query",)),
        (both(QUERY_A, PREFIX), And((PQUERY_A, Like("path", "x%"))), ("path",)),
        (Opaque(frozenset({"content"})), None, ()),
    ],
)
def test_what_a_condition_says_of_the_requests(condition, each, unclear):
    (request,) = requests(["t"], [Scan("t", ("a",), condition)], {"t": ("path", "query")})
    assert (request.each, request.unclear) == ((each,), unclear)


@pytest.mark.parametrize(
    ("scans", "elsewhere", "expected"),
    [
        ([PATH_A, PATH_B], (), ScanRequest("t", None, Or((PPATH_A, PPATH_B)), None, False, (PPATH_A, PPATH_B))),
        ([PATH_A, None], (), ScanRequest("t", each=(PPATH_A, None))),
        (
            [PATH_A, PREFIX],
            (),
            ScanRequest(
                "t", None, Or((PPATH_A, Like("path", "x%"))), None, False, (PPATH_A, Like("path", "x%")), ("path",)
            ),
        ),
        ([PATH_A], ("path", "n"), ScanRequest("t", None, PPATH_A, None, False, (PPATH_A,))),
        ([None], ("path", "n"), ScanRequest("t", each=(None,), unclear=("path",))),
        ([PATH_A, None], ("path",), ScanRequest("t", each=(PPATH_A, None), unclear=("path",))),
        ([], ("query", "n", "path"), ScanRequest("t", unclear=("path", "query"))),
        ([], (), ScanRequest("t")),
    ],
)
def test_readings_of_a_table_with_request_columns_stay_apart(scans, elsewhere, expected):
    found = requests(["t"], [Scan("t", None, scan) for scan in scans], {"t": ("path", "query")}, elsewhere)
    assert found == (expected,)


def test_other_tables_keep_their_hints():
    scans = [Scan("t", ("a",), PATH_A), Scan("u", ("a",), PATH_A)]
    assert requests(["u"], scans, {"t": ("path",)}, {"path"}) == (ScanRequest("u", ("a",), PPATH_A),)


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
