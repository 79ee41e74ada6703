"""An API as a table: what is sent for a query, what becomes of the answers, and which of them are errors."""

from contextlib import aclosing
from datetime import timedelta

import pyarrow as pa
import pytest
import trio

from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, RawSql
from caraway.errors import QueryError, QueryFailure, SourceError
from caraway.model import HttpRequest, HttpResponse, Principal, ReadRequest, Request
from support.http_api import AT, Api


def text(value: str) -> Literal:
    return Literal(value, "utf8")


def eq(column: str, value: str) -> Compare:
    return Compare(column, "=", text(value))


def paths(*values: str) -> In:
    return In("request_path", tuple(map(text, values)))


async def contents(api: Api, **request: object) -> list[str]:
    return [row["content"] for row in await api.rows(columns=("content",), **request)]


# --- the table -------------------------------------------------------------------------------------------------------


async def test_the_schema_is_that_of_the_reference():
    schema = await Api().source.schema()
    assert schema.equals(
        pa.schema(
            [
                pa.field("request_path", pa.utf8(), nullable=False),
                pa.field("request_query", pa.utf8()),
                pa.field("request_body", pa.utf8()),
                pa.field("request_headers", pa.utf8()),
                pa.field("content", pa.utf8(), nullable=False),
                pa.field("response_status", pa.uint16(), nullable=False),
                pa.field("response_headers", pa.map_(pa.utf8(), pa.utf8())),
                pa.field("_fetched_at", pa.timestamp("ns")),
            ]
        )
    )


async def test_without_a_condition_the_address_is_asked_once():
    api = Api("/v1/items?page=all")
    api.origin.put("/v1/items?page=all", json={"a": 1}, headers={"x-n": ["1", "2"]})
    assert await api.rows() == [
        {
            "request_path": "",
            "request_query": "",
            "request_body": "",
            "request_headers": "",
            "content": '{"a": 1}',
            "response_status": 200,
            "response_headers": {
                "date": "Sun, 01 Mar 2026 12:00:00 GMT",
                "content-type": "application/json",
                "x-n": "1, 2",
            },
            "_fetched_at": AT.replace(tzinfo=None),
        }
    ]
    assert api.sent == [HttpRequest("GET", "http://origin.test/v1/items?page=all")]


async def test_a_request_is_the_values_that_its_rows_say():
    api = Api("/v1/", headers=("x-key",))
    api.origin.put("POST /v1/search", json=[1, 2])
    request = Request("/search", "?q=a b&é", '{"n":"ü"}', '{"X-Page": "2"}')
    rows = await api.fetched(request)
    assert [row["content"] for row in rows] == ["1", "2"]
    for row in rows:
        assert (row["request_path"], row["request_query"]) == ("/search", "?q=a b&é")
        assert (row["request_body"], row["request_headers"]) == ('{"n":"ü"}', '{"X-Page": "2"}')
    [sent] = api.sent
    assert sent.url == "http://origin.test/v1/search?q=a%20b&%C3%A9"
    assert sent.method == "POST"
    assert sent.headers == (("x-page", "2"), ("content-type", "application/json"))
    assert sent.body == '{"n":"ü"}'.encode()


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (Request(), "http://origin.test/v1?fixed=1"),
        (Request("/a"), "http://origin.test/v1/a?fixed=1"),
        (Request("/a b/%20c/é"), "http://origin.test/v1/a%20b/%20c/%C3%A9?fixed=1"),
        (Request("/a", "x=1"), "http://origin.test/v1/a?x=1"),
        (Request("", "x=1"), "http://origin.test/v1?x=1"),
        (Request("", "x=100%&y=%41+z#/?"), "http://origin.test/v1?x=100%25&y=%41+z%23/?"),
    ],
)
async def test_the_address_of_a_request(request_, wanted):
    api = Api("/v1?fixed=1")
    await api.source.fetch(request_, namespace="public")
    assert api.sent[0].url == wanted


async def test_a_body_makes_a_post_even_an_empty_one():
    api = Api(headers=("content-type",))
    await api.fetched(Request(body=""))
    await api.fetched(Request(body=None))
    assert api.sent == [HttpRequest("POST", "http://origin.test/", (), b""), HttpRequest("GET", "http://origin.test/")]


async def test_who_asks_and_with_which_headers_parts_what_is_kept():
    api = Api()
    await api.fetched(Request(), "apikey:1")
    await api.fetched(Request(headers='{"x-page":"1"}'), "apikey:1")
    await api.table(principal=Principal("apikey:2"))
    assert api.namespaces == ["apikey:1", 'apikey:1 {"x-page":"1"}', "apikey:2"]


async def test_when_rows_were_given_is_told_by_our_clock():
    api = Api()

    async def send(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, (("date", "Thu, 01 Jan 1970 00:00:00 GMT"),), b"[1]", age=90.5)

    api.origin.send = send
    found = await api.source.fetch(Request(), namespace="public")
    assert found.at == AT - timedelta(seconds=90.5)
    [batch] = found.rows
    assert batch.column("_fetched_at").to_pylist() == [found.at.replace(tzinfo=None)]


# --- bodies ----------------------------------------------------------------------------------------------------------

DEEP = "[" * 300 + "]" * 300
BODIES = [
    ('{"a": 1}', "application/json", ['{"a": 1}']),
    ("[]", "application/json", []),
    ('[1, "a", null, {"b": [2]}]', "application/json", ["1", '"a"', "null", '{"b":[2]}']),
    ('[{"b":1}]', "application/vnd.api+json; charset=utf-8", ['{"b":1}']),
    ('[{"b":1}]', "text/plain", ['{"b":1}']),
    ('[{"b":1}]', "", ['{"b":1}']),
    ('\ufeff [{"b":1}]', "application/json", ['{"b":1}']),
    ("17", "application/json", ["17"]),
    ('"x"', "application/json", ['"x"']),
    ("[18446744073709551616, 1.5]", "application/json", ["18446744073709551616", "1.5"]),
    ('[{"é": -12345678901234567890123}]', "application/json", ['{"é":-12345678901234567890123}']),
    ("a,b\n1,2\n", "text/csv", ["a,b\n1,2\n"]),
    ("<a/>", "application/xml", ["<a/>"]),
    ("[not json", "text/plain", ["[not json"]),
    ("", "text/plain", [""]),
    ("", "application/json", [""]),
]


@pytest.mark.parametrize(("body", "kind", "wanted"), BODIES, ids=range(len(BODIES)))
async def test_what_rows_a_body_makes(body, kind, wanted):
    api = Api()
    api.origin.put("/", body=body, headers={"content-type": kind} if kind else {})
    assert await contents(api) == wanted


async def test_text_in_another_charset_is_understood():
    api = Api()
    api.origin.put("/", body="Größe".encode("latin-1"), headers={"content-type": "text/plain; charset=ISO-8859-1"})
    api.origin.put("/x", body="Größe".encode(), headers={"content-type": "text/plain; charset=nonsense"})
    assert await contents(api) == ["Größe"]
    assert await contents(api, predicate=paths("/x")) == ["Größe"]


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        (b'[{"a": 1}, {"a"', "application/json", "says that it is JSON, and is not"),
        (DEEP.encode(), "application/json", "nested too deeply"),
        (b"[" * 2000 + b"]" * 2000, "application/json", "nested too deeply"),
        (b"[1" + b"0" * 30 + b"," + b"[" * 100_000 + b"]" * 100_001, "application/json", "nested too deeply"),
        (b"[NaN" + b", 1" + b"0" * 30 + b"]", "application/json", "is not"),
        (b"\xff\xfe\x00", "image/png", "is not text"),
        (b'["\xff"]', "application/json", "is not text"),
        (b'["\\ud800"]', "application/json", "is not"),
        (b'["\\ud800", 1' + b"0" * 30 + b"]", "application/json", "is not"),
    ],
    ids=range(9),
)
async def test_a_body_that_makes_no_rows_is_an_error(body, kind, why):
    api = Api()
    api.origin.put("/", body=body, headers={"content-type": kind})
    with pytest.raises(SourceError, match=why) as caught:
        await contents(api)
    assert "api: the answer of GET http://origin.test/" in caught.value.message
    assert caught.value.transient


ENVELOPE = {"data": {"items": [{"id": 1}, {"id": 2}]}, "next": None}


@pytest.mark.parametrize(
    ("given", "body", "wanted"),
    [
        ({"pagination_data_pointer": "/data/items"}, ENVELOPE, ['{"id":1}', '{"id":2}']),
        ({"pagination_data_pointer": "/data"}, ENVELOPE, ['{"items":[{"id":1},{"id":2}]}']),
        ({"pagination_data_pointer": "/data/items/1/id"}, ENVELOPE, ["2"]),
        ({"pagination_data_pointer": "/next"}, ENVELOPE, []),
        ({"pagination_data_map_to_array": "enabled"}, {"a": {"x": 1}, "b": 2}, ['{"x":1}', "2"]),
        ({"pagination_data_map_to_array": "enabled"}, [1, 2], ["1", "2"]),
        ({"pagination_data_map_to_array": "enabled", "pagination_data_pointer": "/data"}, ENVELOPE, 1),
        ({"pagination_data_map_to_array": "enabled", "pagination": "disabled"}, {"a": 1}, ['{"a": 1}']),
    ],
    ids=range(8),
)
async def test_where_in_the_body_rows_are(given, body, wanted):
    api = Api(**given)
    api.origin.put("/", json=body)
    found = await contents(api)
    assert found == wanted if isinstance(wanted, list) else len(found) == wanted


async def test_a_pointer_to_nothing_is_an_error_and_not_an_empty_table():
    api = Api(pagination_data_pointer="/rows")
    api.origin.put("/", json=ENVELOPE)
    api.origin.put("/text", body="nothing here")
    with pytest.raises(SourceError, match="nothing at /rows"):
        await contents(api)
    with pytest.raises(SourceError, match="is not JSON"):
        await contents(api, predicate=paths("/text"))


# --- statuses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 410, 422, 451])
async def test_what_the_client_did_wrong_is_an_ordinary_row(status):
    api = Api(pagination_data_pointer="/rows")
    api.origin.put("/", status=status, json=[{"error": "no"}], headers={"link": '</2>; rel="next"'})
    [row] = await api.fetched()
    assert (row["response_status"], row["content"]) == (status, '[{"error": "no"}]')
    assert api.origin.count() == 1


@pytest.mark.parametrize(("status", "after"), [(429, 7.0), (500, None), (502, None), (503, 120.0), (599, None)])
async def test_a_failure_of_the_api_is_an_error_before_it_is_a_row(status, after):
    api = Api()
    api.origin.put("/", status=status, json=[{"id": 1}], retry_after=after and int(after))
    with pytest.raises(SourceError, match=f"was answered with {status}") as caught:
        await api.source.fetch(Request(), namespace="public")
    assert caught.value.transient
    assert caught.value.retry_after == after
    assert caught.value.remedy
    with pytest.raises(SourceError, match=str(status)):
        await api.rows()


@pytest.mark.parametrize("status", [100, 199, 300, 304, 302])
async def test_what_is_no_answer_is_an_error(status):
    api = Api()
    api.origin.put("/", status=status)
    with pytest.raises(SourceError, match=str(status)):
        await api.rows()


async def test_a_redirection_at_the_same_place_is_followed():
    api = Api()
    for status, target in ((301, "/a"), (302, "b?x=1#y"), (307, "http://origin.test:80/c"), (308, "/d")):
        api.origin.put(f"/{status}", status=status, headers={"location": target})
    for path in "abcd":
        api.origin.put(f"/{path}", body=path)
    asked = paths("/301", "/302", "/307", "/308")
    rows = await api.rows(columns=("request_path", "content"), predicate=asked)
    assert [tuple(row.values()) for row in rows] == [("/301", "a"), ("/302", "b"), ("/307", "c"), ("/308", "d")]
    assert api.sent[-1].method == "GET"


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
async def test_what_a_redirection_makes_of_a_post(status, method):
    api = Api()
    api.origin.put("/", status=status, headers={"location": "/there"})
    await api.fetched(Request(body="{}", headers='{"x-page":"1"}'))
    sent = api.sent[1]
    assert sent.method == method
    assert ("x-page", "1") in sent.headers
    assert sent.body == (b"{}" if method == "POST" else None)


ELSEWHERE = ["https://origin.test/", "http://evil.example/", "//evil.example/", "http://[", "/\\e"]


@pytest.mark.parametrize("target", ELSEWHERE)
async def test_a_redirection_elsewhere_is_refused(target):
    api = Api()
    api.origin.put("/", status=302, headers={"location": target})
    with pytest.raises(SourceError, match="another server") as caught:
        await api.rows()
    assert not caught.value.transient
    assert api.origin.count() == 1


async def test_redirections_end():
    api = Api()
    api.origin.put("/", status=302, headers={"location": "/"})
    with pytest.raises(SourceError, match="more than 5 redirections"):
        await api.rows()
    assert api.origin.count() == 6


# --- pages -----------------------------------------------------------------------------------------------------------

ITEMS = [{"id": number} for number in range(25)]


@pytest.mark.parametrize(
    ("by", "given", "requests"),
    [
        ("link", {}, 3),
        ("url", {"pagination_next_pointer": "/next", "pagination_data_pointer": "/items"}, 3),
        (
            "token",
            {
                "pagination_next_pointer": "/next",
                "pagination_token_param": "offset",
                "pagination_data_pointer": "/items",
            },
            3,
        ),
        ("offset", {"pagination_query_params": "offset={offset}&limit={limit}", "pagination_page_size": "10"}, 3),
        ("page", {"pagination_query_params": "page={page}&limit={limit}", "pagination_page_size": "5"}, 6),
    ],
)
async def test_pages_make_one_answer(by, given, requests):
    api = Api("/items", pagination="enabled", **given)
    api.origin.paginate("/items", ITEMS, by=by)
    rows = await api.fetched(Request(query="q=1"))
    assert [row["content"] for row in rows] == [f'{{"id":{number}}}' for number in range(25)]
    assert {(row["request_path"], row["request_query"]) for row in rows} == {("", "q=1")}
    assert api.origin.count("/items") == requests
    assert all(got.parameters["q"] == "1" for got in api.origin.requests)


async def test_pagination_that_is_off_reads_one_page():
    api = Api("/items", pagination="disabled")
    api.origin.paginate("/items", ITEMS)
    assert len(await api.rows()) == 10
    other = Api("/items", pagination_link_header="disabled")
    other.origin.paginate("/items", ITEMS)
    assert len(await other.rows()) == 10


async def test_pages_are_asked_as_the_first_one_was():
    api = Api("/items")
    api.origin.paginate("/items", ITEMS)
    await api.fetched(Request(body='{"n":1}', headers='{"x-page":"1"}'))
    assert {(sent.method, sent.body, sent.headers) for sent in api.sent} == {
        ("POST", b'{"n":1}', (("x-page", "1"), ("content-type", "application/json")))
    }


async def test_more_pages_than_allowed_are_an_error():
    api = Api("/items", pagination_max_pages="2")
    api.origin.paginate("/items", ITEMS)
    with pytest.raises(SourceError, match=r"more than 2 pages \(pagination_max_pages\)") as caught:
        await api.fetched()
    assert not caught.value.transient
    assert api.origin.count() == 2
    with pytest.raises(SourceError, match="more than 2 pages"):
        await api.rows()
    free = Api("/items", pagination_max_pages="nolimit")
    free.origin.paginate("/items", ITEMS * 10, size=1)
    assert len(await free.rows()) == 250


@pytest.mark.parametrize(("status", "why"), [(404, "page 2, .* answered with 404"), (503, "answered with 503")])
async def test_a_later_page_that_fails_fails_the_answer(status, why):
    api = Api("/items")
    api.origin.paginate("/items", ITEMS)
    api.origin.put("/items?offset=10", status=status, json={"error": 1})
    with pytest.raises(SourceError, match=why):
        await api.fetched()


async def test_the_oldest_page_says_how_old_the_answer_is():
    api = Api()
    ages = iter([3.0, 50.0, 1.0])

    async def send(request: HttpRequest) -> HttpResponse:
        number = int(request.url.partition("p=")[2] or 1)
        link = (("link", f'<?p={number + 1}>; rel="next"'),) if number < 3 else ()
        return HttpResponse(200, link, b"[1]", age=next(ages))

    api.origin.send = send
    found = await api.source.fetch(Request(), namespace="public")
    assert found.at == AT - timedelta(seconds=50)
    assert len(found.rows) == 3


async def test_a_page_elsewhere_is_refused_without_its_query_in_the_error():
    api = Api("/items?key=hush")
    api.origin.put("/items", json=[1], headers={"link": '<http://evil.example/?token=hush>; rel="next"'})
    with pytest.raises(SourceError, match=r"elsewhere than at http://origin\.test") as caught:
        await api.rows()
    assert "hush" not in str(caught.value)


# --- queries at the source -------------------------------------------------------------------------------------------


def numbered(api: Api, count: int = 20) -> None:
    for number in range(count):
        api.origin.put(f"/{number:02}", json=[f"{number}a", f"{number}b"])


async def test_rows_of_several_requests_come_in_the_order_of_their_paths(autojump_clock):
    api = Api()
    numbered(api)
    for number in (0, 3):  # the first ones are the slowest
        api.origin.put(f"/{number:02}", json=[f"{number}a", f"{number}b"], delay=number + 1.0)
    wanted = [f'"{number}{row}"' for number in range(20) for row in "ab"]
    assert await contents(api, predicate=paths(*(f"/{number:02}" for number in reversed(range(20))))) == wanted


async def test_eight_requests_are_under_way_at_once_and_no_more(autojump_clock):
    api = Api()
    for number in range(20):
        api.origin.put(f"/{number:02}", json=[number], delay=1.0)
    start = trio.current_time()
    assert len(await api.rows(predicate=paths(*(f"/{number:02}" for number in range(20))))) == 20
    assert api.origin.greatest == 8
    assert trio.current_time() - start == 3.0


async def test_a_limit_asks_for_no_more_than_it_needs(autojump_clock):
    api = Api()
    numbered(api)
    every = paths(*(f"/{number:02}" for number in range(20)))
    assert await contents(api, predicate=every, limit=2) == ['"0a"', '"0b"']
    assert api.origin.count() == 1
    assert len(await contents(api, predicate=every, limit=5)) == 5
    assert api.origin.count() <= 1 + 6  # three would do; each that ends lets twice as many run
    assert await contents(api, predicate=every, limit=0) == []
    assert len(await contents(api, predicate=every, limit=10**9)) == 40


async def test_a_limit_turns_no_page_that_it_does_not_need(autojump_clock):
    api = Api("/items", pagination_max_pages="2")
    api.origin.paginate("/items", ITEMS)
    assert len(await api.rows(limit=10)) == 10
    assert api.origin.count() <= 2  # one may be on its way when the limit is met
    assert len(await api.rows(limit=20)) == 20


async def test_conditions_and_projection_are_exact():
    api = Api()
    api.origin.put("/a", json=[{"n": 1}, {"n": 2}, {"n": 3}])
    api.origin.put("/b", status=404, json={"error": 1})
    both = And((paths("/a", "/b"), Like("content", "%3%")))
    assert await api.rows(columns=("content", "request_path"), predicate=both) == [
        {"content": '{"n":3}', "request_path": "/a"}
    ]
    status = And((paths("/a", "/b"), Compare("response_status", "=", Literal(404, "int64"))))
    assert await api.rows(columns=("request_path",), predicate=status) == [{"request_path": "/b"}]
    assert await api.rows(predicate=And((paths("/a"), IsNull("response_headers")))) == []
    async with api.source.read(ReadRequest(columns=(), predicate=paths("/a"))) as batches:
        assert sum([batch.num_rows async for batch in batches]) == 3


async def test_each_reading_of_the_table_names_its_requests():
    api = Api()
    numbered(api, 3)
    assert len(await api.rows(each=(eq("request_path", "/00"), eq("request_path", "/02")))) == 4
    assert await api.rows(predicate=And((eq("request_path", "/00"), eq("request_path", "/01")))) == []
    assert api.origin.count() == 2


async def test_what_is_not_allowed_never_reaches_the_origin():
    api = Api(allowed_request_paths="/shows/*", request_query_filters="disabled")
    for predicate, why in (
        (eq("request_path", "/admin"), "allowed_request_paths"),
        (eq("request_path", "/shows/%2e%2e"), "leads out"),
        (eq("request_query", "q=1"), "request_query are disabled"),
        (Like("request_query", "%"), "request_query are disabled"),
        (Like("request_path", "/shows/%"), "does not say which"),
    ):
        with pytest.raises(QueryError, match=why) as caught:
            await api.rows(each=(predicate,))
        assert caught.value.failure is QueryFailure.INVALID
        assert caught.value.message.startswith("Dataset api: ")
        with pytest.raises(SourceError, match=f"refresh_sql .*{why}") as refused:
            await api.rows(predicate=predicate)
        assert not refused.value.transient
    with pytest.raises(SourceError, match=r"no longer allowed: .*allowed_request_paths"):
        await api.source.fetch(Request("/admin"), namespace="public")
    assert api.sent == []


async def test_the_number_of_requests_is_bounded_by_the_dataset():
    api = Api(max_request_partitions="2")
    assert api.source.requests([paths("/a", "/b")]) == (Request("/a"), Request("/b"))
    with pytest.raises(QueryError, match="3 requests; 2 is max_request_partitions"):
        api.source.requests([paths("/a", "/b", "/c")])
    assert api.source.requests([None]) is None
    assert api.source.request_columns == tuple(f"request_{what}" for what in ("path", "query", "body", "headers"))


async def test_columns_and_conditions_that_there_are_not_are_named():
    api = Api()
    for request in (ReadRequest(columns=("nope",)), ReadRequest(predicate=IsNull("nope"))):
        with pytest.raises(SourceError, match="no column 'nope'"):
            await api.source.read(request).__aenter__()
    with pytest.raises(SourceError, match="can't evaluate"):
        await api.source.read(ReadRequest(predicate=RawSql("a % 2"))).__aenter__()


async def test_an_error_of_one_request_comes_in_its_place_and_ends_the_others(autojump_clock):
    api = Api()
    numbered(api, 3)
    api.origin.put("/01", status=503)
    api.origin.put("/02", json=[1], delay=1000.0)
    seen = []

    async def read() -> None:
        async with api.source.read(ReadRequest(("content",), paths("/00", "/01", "/02"))) as batches:
            async for batch in batches:
                seen.extend(batch.column(0).to_pylist())

    with pytest.raises(SourceError, match="503"):
        await read()
    assert seen == ['"0a"', '"0b"']
    assert trio.current_time() < 1000


async def test_what_the_reader_raises_reaches_it_as_it_is():
    api = Api()
    api.origin.put("/", json=[1])

    async def read() -> None:
        async with api.source.read(ReadRequest()) as batches:
            async for _ in batches:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await read()


async def test_a_reader_that_leaves_early_leaves_nothing_under_way(autojump_clock):
    api = Api()
    numbered(api, 20)
    api.origin.hold("/05")
    async with api.source.read(ReadRequest(predicate=paths("/00", "/05", "/06"))) as batches:
        async for _ in batches:
            break
    assert api.origin._waiting == 0


async def test_a_cancelled_read_ends_at_once(autojump_clock):
    api = Api()
    api.origin.put("/", json=[1], delay=100.0)
    with trio.move_on_after(1) as scope:
        async with api.source.read(ReadRequest()) as batches, aclosing(batches):
            async for _ in batches:
                pass
    assert scope.cancelled_caught
    assert trio.current_time() < 100
    with trio.move_on_after(1) as scope:
        await api.source.fetch(Request(), namespace="public")
    assert scope.cancelled_caught
    assert api.origin._waiting == 0


async def test_a_large_body_is_read_in_batches():
    api = Api("/many")
    api.origin.put("/many", json=[{"id": number} for number in range(40_000)])
    found = await api.source.fetch(Request(), namespace="public")
    assert [batch.num_rows for batch in found.rows] == [16_384, 16_384, 7_232]
    table = await api.table(columns=("content",))
    assert table.column(0)[39_999].as_py() == '{"id":39999}'


async def test_an_answer_too_large_for_memory_is_refused():
    api = Api("/items", most_bytes=300)
    api.origin.paginate("/items", ITEMS * 10)
    with pytest.raises(SourceError, match="more than 300 bytes in all its pages"):
        await api.fetched()
    assert len(await api.rows()) == 250  # one page after the other needs no such bound


async def test_the_rest_of_a_source():
    api = Api("/v1?key=hush")
    assert await api.source.version() is None
    assert "hush" not in repr(api.source)
    await api.source.aclose()
    assert api.closed


async def test_a_fetch_anew_asks_past_every_cache():
    api = Api("/items")
    api.origin.put("/items", json=1)
    await api.source.fetch(Request(), namespace="public")
    await api.source.fetch(Request(), namespace="public", anew=True)
    assert [dict(request.headers).get("cache-control") for request in api.sent] == [None, "no-cache"]
