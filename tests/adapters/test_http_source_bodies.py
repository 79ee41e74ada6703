"""Any body becomes rows or an error, and JSON comes through as it was."""

import json
from contextlib import suppress

import orjson
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.model import ColumnDecl
from caraway.connectors.http.bodies import BodyError, read_body
from caraway.connectors.http.decompose import read_layout
from caraway.connectors.http.rows import Exchange, make_batches
from caraway.core.pagination import Paging
from caraway.model import HttpResponse, Request
from support.http_api import AT

PLAIN = read_layout((), "api")
OWN = read_layout(
    (ColumnDecl("a", "bigint"), ColumnDecl("b"), ColumnDecl("rest", metadata={"json_object": "*"})), "api"
)
KEYS = st.sampled_from(["a", "b", "content", "é", ""]) | st.text(max_size=3)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
KINDS = st.sampled_from(["", "application/json", "text/csv; charset=latin-1", "text/plain; charset=utf-16", "a/b+json"])


def rows_of(layout, body: bytes, *, kind: str = "application/json", status: int = 200, paging: Paging = Paging()):  # noqa: B008
    response = HttpResponse(status, (("content-type", kind),), body)
    read = read_body(response)
    rows = read.rows(paging, structured=layout.rest is not None) if status < 400 else read.one()
    batches = make_batches(rows, Exchange(Request(), status, response.headers, AT), layout, layout.schema.names)
    for batch in batches:
        batch.validate(full=True)
        assert batch.schema.equals(layout.schema)
    return [row for batch in batches for row in batch.to_pylist()]


@given(body=st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()[:-1]), kind=KINDS)
def test_no_body_makes_anything_but_rows_or_an_error(body, kind):
    for layout in (PLAIN, OWN):
        for status in (200, 404):
            with suppress(BodyError):
                rows_of(layout, body, kind=kind, status=status)


@given(VALUES)
def test_json_comes_through_as_it_was(value):
    rows = rows_of(PLAIN, json.dumps(value).encode())
    wanted = value if isinstance(value, list) else [value]
    assert [json.loads(row["content"]) for row in rows] == wanted


@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_the_rest_is_what_no_column_took(values):
    for value in values:
        value.pop("a", None)
    rows = rows_of(OWN, json.dumps(values).encode())
    assert len(rows) == len(values)
    for row, value in zip(rows, values, strict=True):
        taken = value.get("b")
        if taken is not None and not isinstance(taken, str):
            assert json.loads(row["b"]) == taken
        else:
            assert row["b"] == taken
        assert json.loads(row["rest"]) == {key: inner for key, inner in value.items() if key not in ("b", "content")}


def test_a_body_without_long_numbers_goes_the_fast_way():
    assert read_body(HttpResponse(200, (), b'[1, 0.1428571428571428, "123456789 123456789 1"]')).dumps is orjson.dumps
    assert read_body(HttpResponse(200, (), b"[1234567890123456789]")).dumps is not orjson.dumps
