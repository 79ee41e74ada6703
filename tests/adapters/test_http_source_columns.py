"""Columns that a dataset declares, out of the bodies of an API's answers."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest

from caraway.config.model import ColumnDecl
from caraway.core.predicate import And, Compare, Literal
from caraway.errors import ConfigError, QueryError, SourceError
from caraway.model import Request
from support.http_api import AT, Api

REST = ColumnDecl("rest", metadata={"json_object": "*"})


def column(name: str, kind: str | None = None) -> ColumnDecl:
    return ColumnDecl(name, kind)


async def typed(kind: str, *values: object) -> list[object]:
    """The values as a column of a SQL type."""
    api = Api(columns=(column("v", kind), REST))
    api.origin.put("/", json=[{"v": value} for value in values])
    return [row["v"] for row in await api.rows(columns=("v",))]


SHOWS = [
    {"id": 1, "name": "Ä", "rating": {"average": 8.5}, "genres": ["a"], "content": "c", "_fetched_at": "x"},
    {"id": 2, "name": None, "premiered": "2024-01-01", "request_path": "/evil"},
    17,
]


async def test_declared_columns_come_out_of_the_body_and_the_rest_goes_to_one():
    columns = (column("request_path"), column("response_status", "text"), column("name"), column("id", "bigint"), REST)
    api = Api(columns=columns)
    schema = await api.source.schema()
    assert [(field.name, field.type, field.nullable) for field in schema] == [
        ("request_path", pa.utf8(), False),
        ("response_status", pa.uint16(), False),
        ("name", pa.utf8(), True),
        ("id", pa.int64(), True),
        ("rest", pa.utf8(), True),
        ("_fetched_at", pa.timestamp("ns"), True),
    ]
    api.origin.put("/shows", json=SHOWS)
    rows = await api.fetched(Request("/shows"))
    at = AT.replace(tzinfo=None)
    assert [tuple(row.values()) for row in rows] == [
        ("/shows", 200, "Ä", 1, '{"rating":{"average":8.5},"genres":["a"]}', at),
        ("/shows", 200, None, 2, '{"premiered":"2024-01-01"}', at),
        ("/shows", 200, None, None, "17", at),
    ]


async def test_only_declared_request_columns_name_requests():
    api = Api(columns=(column("request_query"), column("id"), REST))
    assert api.source.request_columns == ("request_query",)
    with pytest.raises(QueryError, match="request_query"):
        api.source.requests([Compare("request_query", "<", Literal("a", "utf8"))])
    assert api.source.requests([Compare("request_path", "=", Literal("/a", "utf8"))]) is None


async def test_all_of_the_exchange_can_be_declared_beside_the_body():
    names = ("content", "response_headers", "request_body", "_fetched_at")
    api = Api(columns=(*map(column, names), column("a"), REST))
    assert (await api.source.schema()).names == [*names, "a", "rest"]
    api.origin.put("/", json=[{"a": 1, "b": 2}])
    [row] = await api.rows()
    assert row["content"] == '{"a":1,"b":2}'
    assert row["response_headers"]["content-type"] == "application/json"
    assert (row["a"], row["rest"], row["request_body"]) == ("1", '{"b":2}', "")


async def test_conditions_on_columns_of_the_body_are_exact():
    api = Api(columns=(column("request_path"), column("id", "int"), REST))
    api.origin.put("/a", json=[{"id": number} for number in range(10)])
    wanted = And((Compare("request_path", "=", Literal("/a", "utf8")), Compare("id", ">", Literal(7, "int64"))))
    assert await api.rows(columns=("id",), predicate=wanted) == [{"id": 8}, {"id": 9}]


async def test_descriptions_of_the_usual_columns_change_nothing_else():
    api = Api(columns=(ColumnDecl("content", "text", description="what came"), column("request_path")))
    schema = await api.source.schema()
    assert schema.equals(await Api().source.schema())
    assert schema.field("content").metadata == {b"comment": b"what came"}


async def test_big_integers_keep_their_digits():
    api = Api(columns=(column("id"), column("n", "decimal(38, 0)"), REST))
    api.origin.put("/", body='[{"id": 123456789012345678901, "n": 123456789012345678901234, "x": 1e2}]')
    [row] = await api.rows(columns=("id", "n", "rest"))
    assert tuple(row.values()) == ("123456789012345678901", Decimal(123456789012345678901234), '{"x":100.0}')


TYPED = [
    ("text", ["a", 1, 1.5, True, None, [1], {"é": "x"}], ["a", "1", "1.5", "true", None, "[1]", '{"é":"x"}']),
    ("json", ["a", {"b": 1}], ["a", '{"b":1}']),
    ("bigint", [1, -(2**63), None], [1, -(2**63), None]),
    ("bigint", ["17", 2], [17, 2]),
    ("bigint", [1.0, 2], [1, 2]),
    ("bigint", [None, None], [None, None]),
    ("int", ["-5"], [-5]),
    ("bigint unsigned", [2**64 - 1, "3"], [2**64 - 1, 3]),
    ("double", [1, 2.5, None], [1.0, 2.5, None]),
    ("double", [1, "2.5", 2**60 + 1], [1.0, 2.5, float(2**60 + 1)]),
    ("double", [2**60 + 1], [float(2**60 + 1)]),
    ("boolean", [True, False, None], [True, False, None]),
    ("boolean", ["true", False], [True, False]),
    ("decimal(12, 2)", [1.1, "2.25", 3], [Decimal("1.10"), Decimal("2.25"), Decimal("3.00")]),
    ("date", ["2024-02-29", None], [date(2024, 2, 29), None]),
    ("time", ["12:30:00.25", None], [time(12, 30, 0, 250_000), None]),
    ("timestamp", ["2024-01-01 10:00:00", "2024-01-01"], [datetime(2024, 1, 1, 10), datetime(2024, 1, 1)]),  # noqa: DTZ001
    ("timestamp", ["2024-01-01T10:00:00+02:00"], [datetime(2024, 1, 1, 8)]),  # noqa: DTZ001
    ("timestamptz", ["2024-01-01T10:00:00.5+02:00"], [datetime(2024, 1, 1, 8, 0, 0, 500_000, UTC)]),
    ("timestamptz", ["2024-01-01T10:00:00"], [datetime(2024, 1, 1, 10, tzinfo=UTC)]),
    ("binary", ["ü"], ["ü".encode()]),
]


@pytest.mark.parametrize(("kind", "values", "wanted"), TYPED, ids=range(len(TYPED)))
async def test_values_become_the_declared_type(kind, values, wanted):
    assert await typed(kind, *values) == wanted


MISFITS = [
    ("bigint", [1, "x"], "has \"x\" in the column 'v', which is declared as int64"),
    ("bigint", [1, 1.5], "has 1.5 in the column 'v'"),
    ("bigint", [2**63], "has 9223372036854775808 in"),
    ("bigint", [2**70], "has 1180591620717411303424 in"),
    ("bigint", [True], "has true in"),
    ("bigint", [""], 'has "" in'),
    ("int unsigned", [-1], "has -1 in"),
    ("double", [{"a": "b" * 100}], 'has {"a":"bbbbb.*\\.\\.\\. in'),
    ("boolean", [2], "has 2 in"),
    ("decimal(4, 2)", [1.234], "has 1.234 in"),
    ("date", ["yesterday"], 'has "yesterday" in'),
    ("timestamp", [1700000000], "has 1700000000 in"),
    ("time", ["25:00"], 'has "25:00" in'),
    ("timestamptz", ["2024-01-01", "2024-01-01T00:00:00Z"], "do not go together as timestamp"),
    ("bigint not null", [1, None], "no value for the column 'v' in 1 rows, which is NOT NULL"),
    ("text not null", [None], "NOT NULL"),
]


@pytest.mark.parametrize(("kind", "values", "why"), MISFITS, ids=range(len(MISFITS)))
async def test_a_value_that_does_not_fit_is_named(kind, values, why):
    with pytest.raises(SourceError, match=why) as caught:
        await typed(kind, *values)
    assert "the answer of GET" in caught.value.message


async def test_an_answer_that_is_no_json_has_no_columns():
    api = Api(columns=(column("id"), REST))
    api.origin.put("/", body="hello")
    with pytest.raises(SourceError, match="is not JSON"):
        await api.rows()
    api.origin.put("/", body="", status=204)
    assert await api.rows() == []


@pytest.mark.parametrize(("body", "wanted"), [("no <such>", '"no <such>"'), ('{"id": 1, "e": 2}', '{"e":2}')])
async def test_a_refusal_is_a_row_all_the_same(body, wanted):
    api = Api(columns=(column("response_status"), column("id"), REST), pagination_data_pointer="/items")
    api.origin.put("/", status=404, body=body)
    [row] = await api.rows(columns=("response_status", "rest"))
    assert row == {"response_status": 404, "rest": wanted}


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ((column("id"),), r"columns\[id\]: columns of the body need one that takes the rest"),
        ((REST, ColumnDecl("more", metadata={"json_object": "*"})), r"columns\[more\]: only one column .* 'rest' does"),
        ((ColumnDecl("rest", metadata={"json_object": "a.*"}),), r"'a\.\*'; allowed: '\*'"),
        ((ColumnDecl("content", metadata={"json_object": "*"}),), "'content' tells of the exchange"),
        ((ColumnDecl("rest", "bigint", metadata={"json_object": "*"}),), "JSON in a text"),
        ((column("id", "bigxint"), REST), r"columns\[id\]: 'bigxint'"),
    ],
    ids=range(6),
)
def test_columns_that_can_not_be_are_named(columns, why):
    with pytest.raises(ConfigError, match=why):
        Api(columns=columns)
