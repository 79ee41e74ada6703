"""Rows over HTTP: what each format takes, how what is wrong is named, that nothing of a refused request is written."""

from decimal import Decimal

import orjson
import pyarrow as pa
import pytest

from caraway.errors import QueryError, QueryFailure, StoreError, ViolationError
from caraway.model import Append, Delete
from support.rows_world import (
    ARROW,
    BARE,
    CSV,
    FULL,
    JSON,
    NDJSON,
    ROWS,
    SCHEMA,
    SPELLED,
    World,
    as_csv,
    as_json,
    as_stream,
)


async def test_rows_are_taken_once_they_are_durable():
    world = World()
    status, answer, _ = await world.post(b'[{"id":1},{"id":2,"word":"x"}]')
    assert (status, answer) == (201, {"rows": 2, "epoch": "fake", "end_offset": 1})
    [change] = world.written
    assert isinstance(change, Append)
    assert change.rows.select(["id", "word"]).to_pylist() == [{"id": 1, "word": None}, {"id": 2, "word": "x"}]


NULLS = {"id": 1} | dict.fromkeys(SCHEMA.names[1:])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, f'[{as_json(SPELLED)},{{"id":1}}]'.encode()),
        (JSON, f' [ {as_json(SPELLED)} ,\n\t{{"id" : 1, "word": null}} ]\r\n'.encode()),
        (JSON, f"[{as_json(SPELLED, BARE - {'price', 'wide'})},{{\"id\":1}}]".encode()),
        (NDJSON, f'{as_json(SPELLED)}\n\n{{"id":1}}\r\n'.encode()),
        ("application/jsonl; charset=UTF-8", f'{as_json(SPELLED)}\n{{"id":1}}'.encode()),
        (CSV, as_csv([SPELLED, {"id": "1"}])),
        (CSV + ';charset="utf-8"; header=present', as_csv([SPELLED, {"id": "1"}]).replace(b"\r", b"\r\n")),
        (ARROW, as_stream(pa.Table.from_pylist([FULL, {"id": 1}], schema=SCHEMA))),
    ],
)  # fmt: skip
async def test_every_format_says_the_same(kind, body):
    found = await World().rows(body, kind)
    assert found == [FULL, NULLS]


async def test_one_object_is_a_row():
    assert (await World().rows(b' {"id":7} '))[0]["id"] == 7


@pytest.mark.parametrize(
    ("kind", "body"),
    [(JSON, b"[]"), (JSON, b" [ ] "), (NDJSON, b""), (NDJSON, b"\n \n"), (CSV, b"word,id"), (CSV, b"id\n\n")],
)
async def test_no_rows_are_no_mistake(kind, body):
    assert await World().rows(body, kind) == []


# --- what is wrong is named -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "problem"),
    [
        ('{"id":null}', "id", "there is no value, and it must not be null"),
        ('{"word":"x"}', "id", "there is no value"),
        ('{"id":2,"ID":3}', "ID", "there is no such column. Columns: id, small"),
        ('{"id":2,"id":3}', "id", "it stands there twice"),
        ('{"id":"2"}', "id", '"2" is not a whole number from -9223372036854775808 to 9223372036854775807'),
        ('{"id":2.0}', "id", "'2.0' is not a whole number"),
        ('{"id":9223372036854775808}', "id", "'9223372036854775808' is not a whole number"),
        ('{"id":1e3}', "id", "'1e3' is not a whole number"),
        ('{"id":true}', "id", "true is not a whole number"),
        ('{"id":[1]}', "id", "[1] is not"),
        ('{"id":2,"small":128}', "small", "'128' is not a whole number from -128 to 127"),
        ('{"id":2,"big":-1}', "big", "'-1' is not a whole number from 0 to 18446744073709551615"),
        ('{"id":2,"real":"1"}', "real", '"1" is not a number that fits float'),
        ('{"id":2,"real":1e39}', "real", "'1e39' is not a number that fits float"),
        ('{"id":2,"double":-1e999}', "double", "'-1e999' is not a number that fits double"),
        ('{"id":2,"double":{}}', "double", "{} is not a number"),
        ('{"id":2,"price":1.255}', "price", "'1.255' is not a number with at most 8 digits before the point and 2"),
        ('{"id":2,"price":123456789}', "price", "'123456789' is not a number with at most 8 digits before"),
        ('{"id":2,"price":' + "9" * 41 + "}", "price", "9' is not a number with at most"),
        ('{"id":2,"wide":"' + "9" * 90 + '"}', "wide", "9' is not a number with at most"),
        ('{"id":2,"price":"NaN"}', "price", "'NaN' is not a number"),
        ('{"id":2,"at":"yesterday"}', "at", "'yesterday' is not a moment such as"),
        ('{"id":2,"at":1700000000}', "at", "1700000000 is not a moment"),
        ('{"id":2,"at":"2026-02-30T00:00:00Z"}', "at", "'2026-02-30T00:00:00Z' is not a moment"),
        ('{"id":2,"at":"2026-01-01T00:00:00.1234567Z"}', "at", "with at most 6 digits behind the seconds"),
        ('{"id":2,"zoned":"2026-01-01T00:00:00.1234Z"}', "zoned", "with at most 3 digits behind the seconds"),
        ('{"id":2,"at":"2026-01-01T00:00:00 CET"}', "at", "is not a moment"),
        ('{"id":2,"day":"31.1.2026"}', "day", "'31.1.2026' is not a date such as"),
        ('{"id":2,"day":"2026-01-31T00:00:00Z"}', "day", "is not a date"),
        ('{"id":2,"clock":"24:00:00"}', "clock", "'24:00:00' is not a time such as"),
        ('{"id":2,"clock":"10:00:00Z"}', "clock", "is not a time"),
        ('{"id":2,"tick":"10:00:00.5"}', "tick", "with at most 0 digits"),
        ('{"id":2,"raw":"hi!"}', "raw", "'hi!' is not bytes in base64"),
        ('{"id":2,"raw":"aGk"}', "raw", "'aGk' is not bytes in base64"),
        ('{"id":2,"ok":1}', "ok", "1 is not true or false"),
        ('{"id":2,"ok":"true"}', "ok", '"true" is not true or false'),
        ('{"id":2,"word":3}', "word", "3 is not a text"),
        ('{"id":2,"word":"\\ud800"}', "word", '"\\ud800" is not a text'),
        ('{"id":2,"word":["' + "x" * 500 + '"]}', "word", "(504 characters) is not a text"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [JSON, NDJSON])
async def test_a_wrong_row_is_named_with_column_and_value(kind, row, column, problem):
    good = as_json(SPELLED)
    body = f"[{good},{good},{row},{good}]" if kind == JSON else f"{good}\n{good}\n{row}\n{good}"
    answer = await World().refusal(body.encode(), kind)
    assert (answer["row"], answer["column"]) == (3, column)
    assert answer["message"].startswith(f"Row 3, column {column!r}: ")
    assert problem in answer["message"]
    assert len(answer["message"]) < 500


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("id", "", "there is no value"),
        ("id", "0x10", "'0x10' is not a whole number"),
        ("id", " 2", "' 2' is not a whole number"),
        ("small", "1.0", "'1.0' is not a whole number from -128 to 127"),
        ("small", '""', "'' is not a whole number"),
        ("double", "1e400", "'1e400' is not a number that fits double"),
        ("double", "1,5", None),
        ("price", "9" * 39, "is not a number with at most"),
        ("ok", "yes", "'yes' is not true or false"),
        ("at", "1700000000", "'1700000000' is not a moment"),
        ("raw", "%", "'%' is not bytes in base64"),
        ("day", "2026-1-1", "'2026-1-1' is not a date"),
    ],
)
async def test_a_wrong_csv_field_is_named(column, value, problem):
    body = f"id,{column}\n1,\n\n2,\n3,{value}\n" if column != "id" else f"id,word\n1,\n\n2,\n{value},x\n"
    answer = await World().refusal(body.encode(), CSV)
    if problem is None:
        assert answer["message"] == "Row 3: 3 fields where the header has 2: 3,1,5"
        return
    assert (answer["row"], answer["column"]) == (3, column)
    assert problem in answer["message"]


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        (JSON, b"", "Row 1: the body is not JSON: Expecting value at line 1, column 1."),
        (JSON, b'{"id":1', "Row 1: the body is not JSON: Expecting ',' delimiter at line 1, column 8."),
        (JSON, b'[{"id":1},\n{"id" 2}]', "Row 2: the body is not JSON: Expecting ':' delimiter at line 2, column 7."),
        (JSON, b'[{"id":1},]', "Row 2: the body is not JSON: Expecting value"),
        (JSON, b'[{"id":1}', "Row 1: the body is not JSON: Expecting ',' or ']' at line 1, column 10."),
        (JSON, b'[{"id":1}]x', "The body is not JSON: Extra data at line 1, column 11."),
        (JSON, b'[{"id":1}\n{"id":2}]', "Row 1: the body is not JSON: Expecting ',' or ']' at line 2, column 1."),
        (JSON, b'{"id":1}{"id":2}', "The body is not JSON: Extra data at line 1, column 9."),
        (JSON, b'{"id":1}\n{"id":2}', "The body is not JSON: Extra data at line 2, column 1."),
        (JSON, b'[{"id":1}]} null {"rows":[', "The body is not JSON: Extra data"),
        (JSON, b"null", "The body is a JSON array of objects, or one object."),
        (JSON, b'[{"id":1},null]', "Row 2: null is not an object."),
        (JSON, b'[{"id":1},[2]]', "Row 2: [2] is not an object."),
        (JSON, b'[{"id":1,"word":"\xff"}]', "The body is not UTF-8: invalid start byte at byte 17, in line 1."),
        (JSON, b'[{"id":1,"word":"a\nb"}]', "Row 1: the body is not JSON: Invalid control character"),
        (JSON, b"[" * 200_000, "Row 1: the body is nested too deeply."),
        (JSON, b'[{"id":' + b"[" * 200_000, "Row 1: the body is nested too deeply."),
        (JSON, b"\xef\xbb\xbf[]", "Row 1: the body is not JSON: Expecting value"),
        (NDJSON, b'{"id":1}\n{"id":2', "Row 2: the body is not JSON: Expecting ',' delimiter at line 2, column 8."),
        (NDJSON, b'{"id":1},{"id":2}', "Row 1: the body is not JSON: Extra data at line 1, column 9."),
        (NDJSON, b'{"id":1,\n"small":2}', "Row 1: an object goes over several lines"),
        (NDJSON, b'{"id":1\n"small":2}', "Row 1: the body is not JSON"),
        (NDJSON, b"null", "Row 1: null is not an object."),
        (NDJSON, b'[{"id":1}]', "Row 1: [{'id': 1}] is not an object."),
        (CSV, b"", "The body is empty. CSV begins with a line that names the columns."),
        (CSV, b"\n \n", "The body is empty."),
        (CSV, b"id,nothing\n1,2", "There is no column 'nothing'. Columns: id, small"),
        (CSV, b"id,word,word\n1,2,3", "The column 'word' stands twice in the header line."),
        (CSV, b"id,word\n1,2\n3", "Row 2: 1 fields where the header has 2: 3"),
        (CSV, b'id,word\n1,"2', "A quotation mark of the CSV text is not closed."),
        (CSV, b"id,word\n1,\xff", "The body is not UTF-8: invalid start byte at byte 10, in line 2."),
        (ARROW, b"", "The body is not an Arrow IPC stream: "),
        (ARROW, b"[]", "The body is not an Arrow IPC stream: "),
        (ARROW, as_stream(pa.table({"id": [1]}))[:-20], "The body is not an Arrow IPC stream: "),
        (ARROW, as_stream(pa.table({"id": [1], "x": [1]})), "There is no column 'x'. Columns: id, small"),
        (ARROW, as_stream(pa.table([[1], [1]], names=["id", "id"])), "The column 'id' came twice."),
        (ARROW, as_stream(pa.table({"id": ["1"]})), "Column 'id' came as string, the table has int64."),
        (ARROW, as_stream(pa.table({"id": [1], "at": [1]})), "Column 'at' came as int64, the table has timestamp[us]."),
        (ARROW, as_stream(pa.table({"id": [1], "word": [["x"]]})), "Column 'word' came as list<item: string>, the"),
        (ARROW, as_stream(pa.table({"word": ["x"]})), "Row 1, column 'id': there is no value"),
        (ARROW, as_stream(pa.table({"id": [1, 2], "small": [3, 400]})), "Row 2, column 'small': 400 does not fit"),
        (ARROW, as_stream(pa.table({"id": [1, 2], "real": [3, 1e39]})), "Row 2, column 'real': 1e+39 does not fit"),
    ],
)  # fmt: skip
async def test_what_is_no_table_at_all_is_told(kind, body, problem):
    answer = await World().refusal(body, kind)
    assert answer["message"].startswith(problem)
    assert len(answer["message"]) < 400


async def test_the_first_of_many_wrong_rows_is_named_in_whatever_columns_they_are():
    body = b"id,small,word\n1,1,x\n2,999,x\nx,1,x\n"
    assert (await World().refusal(body, CSV))["message"].startswith("Row 2, column 'small'")
    objects = [{"id": number} for number in range(30_000)]
    objects[20_001] |= {"word": 5}
    objects[20_000] |= {"small": 500}
    answer = await World().refusal(orjson.dumps(objects))
    assert (answer["row"], answer["column"]) == (20_001, "small")


@pytest.mark.parametrize(
    ("value", "found"), [("NaN", "nan"), ('"NaN"', "nan"), ("Infinity", "inf"), ("-Infinity", "-inf")]
)
async def test_floats_have_what_json_has_no_number_for(value, found):
    [row] = await World().rows(f'[{{"id":1,"double":{value},"real":{value}}}]'.encode())
    assert (str(row["double"]), str(row["real"])) == (found, found)


async def test_csv_tells_an_empty_text_from_none():
    found = await World().rows(b'id,word\n1,\n2,""\n3,"a, ""b""\n"\n', CSV)
    assert [row["word"] for row in found] == [None, "", 'a, "b"\n']


async def test_arrow_columns_come_in_any_order_layout_and_width_that_holds_the_values():
    utc = pa.timestamp("ns", "UTC")
    table = pa.table(
        {
            "word": pa.array(["a", None, "a"]).dictionary_encode(),
            "raw": pa.array([b"x", None, b"y" * 20], pa.binary_view()),
            "id": pa.array([1, 2, 3], pa.int16()),
            "double": pa.array([1, None, 3], pa.int32()),
            "at": pa.array([10**9, None, 3 * 10**9], utc),
            "zoned": pa.array([10**3, None, 3], pa.timestamp("ms")),
            "price": pa.array([Decimal("1.5"), None, Decimal(2)], pa.decimal128(20, 1)),
            "ok": pa.nulls(3),
        }
    )
    found = await World().rows(as_stream(table), ARROW)
    assert [row["word"] for row in found] == ["a", None, "a"]
    assert [row["raw"] for row in found] == [b"x", None, b"y" * 20]
    assert [row["double"] for row in found] == [1.0, None, 3.0]
    assert [row["at"] and row["at"].second for row in found] == [1, None, 3]
    assert [row["price"] for row in found] == [Decimal("1.50"), None, Decimal("2.00")]


# --- statuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_who_may_not_write_is_told_why(method):
    body = b'[{"id":1}]'
    assert (await World().post(body, method=method, name="nothing"))[:2] == (
        404,
        {"message": "Dataset nothing not found"},
    )
    status, answer, _ = await World().post(body, method=method, name="orders")
    assert status == 403
    assert "access: read_write" in answer["message"]
    world = World(key=("id",), keys=("reader", "writer:rw"))
    status, answer, _ = await world.post(body, method=method, **{"x-api-key": "reader"})
    assert (status, answer) == (403, {"message": "API key does not allow write access"})
    assert not world.dataset.writes
    status, _, _ = await world.post(body, method=method, **{"x-api-key": "writer"})
    assert status in {200, 201}


async def test_before_its_store_is_open_a_dataset_says_so():
    world = World()
    world.dataset.log.publish(None)
    status, answer, headers = await world.post(b"[]")
    assert (status, headers["retry-after"]) == (503, "1")
    assert "not open yet" in answer["message"]


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [("", None), ("application/x-www-form-urlencoded", None), ("text/csv; charset=latin-1", None), (JSON, "gzip")],
)
async def test_other_media_are_415_with_those_that_are_taken(kind, encoding):
    world = World()
    headers = {"content-encoding": encoding} if encoding else {}
    status, answer, _ = await world.post(b"[]", kind, **headers)
    assert status == 415
    assert encoding or ARROW in answer["message"]


@pytest.mark.parametrize(
    ("error", "expected", "retry"),
    [
        (ViolationError("violates column(s): id", remedy="Set on_conflict.", transient=False), 409, False),
        (StoreError("The disk is full."), 503, True),
        (StoreError("The file is damaged.", transient=False), 500, False),
        (QueryError("Too many writes.", QueryFailure.OVERLOADED), 503, True),
        (QueryError("Not yet.", QueryFailure.NOT_READY), 503, True),
        (QueryError("Stopping.", QueryFailure.UNAVAILABLE), 503, True),
        (QueryError("Read-only.", QueryFailure.FORBIDDEN), 403, False),
    ],
)
async def test_what_the_dataset_refuses(error, expected, retry):
    world = World()
    world.dataset.fails = error
    status, answer, headers = await world.post(b'[{"id":1}]')
    assert (status, answer) == (expected, {"message": str(error)})
    assert ("retry-after" in headers) is retry


async def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one():
    world = World()
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": ROWS.format("t"),
        "raw_path": b"", "query_string": b"", "root_path": "", "client": None, "server": None,
        "headers": [(b"content-type", NDJSON.encode())],
    }  # fmt: skip
    events = [{"type": "http.request", "body": b'{"id":1}\n', "more_body": True}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return events.pop(0)

    async def send(event):
        sent.append(event)

    await world.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert not world.dataset.writes


# --- deletes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b'[{"word":"x","id":1,"small":3},{"id":2,"word":""}]'),
        (NDJSON, b'{"id":1,"word":"x"}\n{"id":2,"word":""}'),
        (CSV, b'word,id\nx,1\n"",2\n'),
        (ARROW, as_stream(pa.table({"id": pa.array([1, 2], pa.int8()), "word": ["x", ""]}))),
    ],
)
async def test_rows_are_deleted_by_primary_key(kind, body):
    world = World(key=("word", "id"))
    status, answer, _ = await world.post(body, kind, method="DELETE")
    assert (status, answer["rows"]) == (200, 0), "the fake knows no rows"
    [change] = world.written
    assert isinstance(change, Delete)
    assert change.keys.to_pylist() == [{"word": "x", "id": 1}, {"word": "", "id": 2}]


async def test_deletes_need_the_whole_key():
    status, answer, _ = await World().post(b'[{"id":1}]', method="DELETE")
    assert (status, answer) == (400, {"message": "Dataset t has no primary_key, by which rows could be deleted."})
    world = World(key=("id", "word"))
    status, answer, _ = await world.post(b'[{"id":1}]', method="DELETE")
    assert (status, answer["column"]) == (400, "word")
    strict = pa.schema([("id", pa.int64()), pa.field("word", pa.string(), nullable=False)])
    world = World(strict, key=("id",))
    status, _, _ = await world.post(b'[{"id":1}]', method="DELETE")
    assert status == 200, "other columns need not come"
