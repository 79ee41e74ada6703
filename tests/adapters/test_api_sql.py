"""POST /v1/sql: bodies, formats, statuses, streaming."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.errors import QueryError, QueryFailure
from caraway.model import Principal, ResultFormat
from caraway.servers.api.app import create_app
from caraway.servers.api.reply import ReplyError
from caraway.servers.api.sql import FLUSH_BYTES, STATUS, statement
from support.fake_services import AsgiAnswer, FakeServices, Script, ask

ENVELOPE = "application/vnd.spiceai.sql.v1+json"
JSON = {"Content-Type": "application/json"}


async def sql(fake: FakeServices, body: bytes, headers: dict[str, str] | None = None) -> AsgiAnswer:
    return await ask(create_app(fake.services), "POST", "/v1/sql", body, headers)


async def test_a_statement_and_its_rows() -> None:
    fake = FakeServices()
    fake.engine.answers["select 1"] = Script([b'[{"Int64(1)":1}', b"]"])
    answer = await sql(fake, b"select 1")
    assert (answer.status, answer.body, answer.whole) == (200, b'[{"Int64(1)":1}]', True)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "origin, access-control-request-method, access-control-request-headers"
    [query] = fake.engine.queries
    assert (query.format, query.parameters, query.protocol) == (ResultFormat.JSON, (), "http")
    assert query.principal == Principal("public", write=True)


@pytest.mark.parametrize(
    ("body", "parameters"),
    [
        (b'{"sql":"select $1"}', ()),
        (b'{"sql":"select $1","parameters":null}', ()),
        (b'{"sql":"select $1","parameters":[1,"a",null,2.5,true]}', (1, "a", None, 2.5, True)),
        (b'{"sql":"select $1","parameters":{"x":1}}', {"x": 1}),
    ],
)
async def test_json_bodies_bring_parameters(body: bytes, parameters: object) -> None:
    fake = FakeServices()
    assert (await sql(fake, body, {"content-type": "Application/JSON; charset=utf-8"})).status == 200
    assert (fake.engine.queries[0].sql, fake.engine.queries[0].parameters) == ("select $1", parameters)


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"", {}, "no SQL statement"),
        (b" \n", {}, "no SQL statement"),
        (b"select '\xff'", {}, "not UTF-8"),
        (b"select 1", JSON, "not JSON"),
        (b"[]", JSON, "form"),
        (b"{}", JSON, "form"),
        (b'{"sql":1}', JSON, "form"),
        (b'{"sql":""}', JSON, "no SQL statement"),
        (b'{"sql":"x","parameters":3}', JSON, "array"),
        (b'{"sql":"x","params":[]}', JSON, "params"),
        (b'{"sql":"\xff"}', JSON, "not JSON"),
        (b"[" * 100000, JSON, "not JSON"),
    ],
)
async def test_nonsense_is_400(body: bytes, headers: dict[str, str], words: str) -> None:
    fake = FakeServices()
    answer = await sql(fake, body, headers)
    assert answer.status == 400
    assert words in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert not fake.engine.queries


@pytest.mark.parametrize(
    ("accept", "format_", "content_type"),
    [
        ("text/csv", ResultFormat.CSV, "text/csv"),
        ("text/plain", ResultFormat.TEXT, "text/plain; charset=utf-8"),
        (f"{ENVELOPE}, application/json", ResultFormat.ENVELOPE, ENVELOPE),
        ("application/vnd.apache.arrow.stream", ResultFormat.ARROW_STREAM, "application/vnd.apache.arrow.stream"),
    ],
)  # fmt: skip
async def test_accept_chooses(accept: str, format_: ResultFormat, content_type: str) -> None:
    fake = FakeServices()
    answer = await sql(fake, b"x", {"Accept": accept})
    assert fake.engine.queries[0].format is format_
    assert answer.headers["content-type"] == content_type


@pytest.mark.parametrize("failure", QueryFailure)
async def test_each_failure_has_its_status(failure: QueryFailure) -> None:
    fake = FakeServices()
    fake.engine.answers["x"] = QueryError("what went wrong", failure)
    answer = await sql(fake, b"x")
    assert (answer.status, answer.text) == (STATUS[failure], "what went wrong")
    assert STATUS[failure] >= 400
    assert ("retry-after" in answer.headers) == (failure in {QueryFailure.OVERLOADED, QueryFailure.UNAVAILABLE})


async def test_a_failure_before_the_head_still_chooses_the_status() -> None:
    fake = FakeServices()
    fake.engine.answers["x"] = Script([b"[", QueryError("spilled over", QueryFailure.RESOURCES)])
    answer = await sql(fake, b"x")
    assert (answer.status, answer.text) == (503, "spilled over")


async def test_a_failure_in_the_stream_leaves_it_without_an_end() -> None:
    fake = FakeServices()
    fake.engine.answers["x"] = Script([b"x" * FLUSH_BYTES, QueryError("boom", QueryFailure.INTERNAL)])
    answer = await sql(fake, b"x")
    assert (answer.status, len(answer.body), answer.whole) == (200, FLUSH_BYTES, False)


async def test_a_great_answer_streams() -> None:
    fake = FakeServices()
    fake.engine.answers["x"] = Script([b"a" * 10000] * 50)
    answer = await sql(fake, b"x")
    assert (len(answer.body), answer.whole) == (500_000, True)


texts = st.binary(max_size=60) | st.text(max_size=40).map(str.encode)


@given(texts, st.sampled_from([b"", b"application/json", b"\xff"]))
def test_any_body_is_a_statement_or_a_400(body: bytes, content_type: bytes) -> None:
    try:
        text, _ = statement(content_type, body)
    except ReplyError as error:
        text, status = "", error.reply.status
    else:
        status = 200
    assert status == (200 if text.strip() else 400)
