"""The origin that other tests rely on, met by a foreign client."""

import httpx2
import pytest
import trio

from caraway.errors import SourceError
from caraway.model import HttpRequest
from support.origin import Origin, serving
from support.origin_process import origin_process
from support.origin_wire import GARBAGE, HALF, NOTHING, RESET


@pytest.fixture
async def origin():
    async with serving() as origin:
        yield origin


@pytest.fixture
async def client(origin):
    async with httpx2.AsyncClient(base_url=origin.url, timeout=5) as client:
        yield client


async def test_it_counts_by_place(origin, client):
    origin.put("/items", json=[1])
    assert (await client.get("/items?a=1")).json() == [1]
    assert (await client.post("/items", content=b"x")).json() == [1]
    assert (await client.get("/else")).status_code == 404
    counts = [origin.count(place) for place in ("", "/items", "/items?a=1", "POST /items", "GET /items?a=1", "/none")]
    assert counts == [3, 2, 1, 1, 1, 0]
    assert origin.requests[1].body == b"x"
    assert origin.connections == 1


async def test_the_most_exact_place_answers_and_next_answers_go_before(origin, client):
    origin.put("/items", body="any")
    origin.put("/items?a=1", body="one")
    origin.put("POST /items", body="posted")
    origin.then("/items", status=503, retry_after=2)
    failed = await client.get("/items?a=1")
    assert (failed.status_code, failed.headers["retry-after"]) == (503, "2")
    assert (await client.get("/items?a=1")).text == "one"
    assert (await client.get("/items?a=2")).text == "any"
    assert (await client.post("/items")).text == "posted"


async def test_validators(origin, client):
    origin.put("/tag", body="x", etag='"a"', headers={"cache-control": "max-age=1"})
    origin.put("/date", body="x", last_modified="Sun, 06 Nov 1994 08:49:37 GMT")
    same = await client.get("/tag", headers={"if-none-match": 'W/"a", "b"'})
    assert (same.status_code, same.content, same.headers["cache-control"]) == (304, b"", "max-age=1")
    assert (await client.get("/tag", headers={"if-none-match": '"b"'})).status_code == 200
    for date, status in (("Sun, 06 Nov 1994 08:49:37 GMT", 304), ("Sun, 06 Nov 1994 08:49:36 GMT", 200)):
        assert (await client.get("/date", headers={"if-modified-since": date})).status_code == status


async def test_codings_and_framings(origin, client):
    for options in ({}, {"gzip": True}, {"chunked": True}, {"gzip": True, "chunked": True}, {"close": True}):
        origin.put("/x", body="ab" * 5000, **options)
        assert (await client.get("/x")).text == "ab" * 5000
    origin.put("/x", body="", chunked=True)
    assert (await client.get("/x")).content == b""


@pytest.mark.parametrize("fault", [RESET, HALF, GARBAGE, NOTHING])
async def test_faults(origin, client, fault):
    origin.put("/x", body="whole", fault=fault)
    with pytest.raises(httpx2.TransportError):
        await client.get("/x")
    origin.put("/x", body="whole")
    assert (await client.get("/x")).text == "whole"


async def test_held_requests_wait(origin, client):
    origin.put("/x", body="there")
    origin.hold("/x")
    answers = []

    async def ask():
        answers.append((await client.get("/x")).text)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await origin.wait_count(2, "/x")
            assert not answers
            origin.release("/x")
    assert answers == ["there", "there"]
    assert origin.greatest == 2


@pytest.mark.parametrize("by", ["link", "url", "token", "offset", "page"])
async def test_pages(origin, client, by):
    origin.paginate("/x", list(range(7)), size=3, by=by)
    rows, place = [], "/x"
    for number in range(1, 4):
        got = await client.get(place)
        body = got.json()
        rows += body["items"] if by in ("url", "token") else body
        following = {
            "link": got.links.get("next", {}).get("url"),
            "url": isinstance(body, dict) and body["next"],
            "token": isinstance(body, dict) and f"/x?offset={body['next']}",
            "offset": f"/x?offset={3 * number}",
            "page": f"/x?page={number + 1}",
        }
        place = following[by]
    assert rows == list(range(7))
    assert origin.count("/x") == 3


async def test_tokens(origin, client):
    origin.token_endpoint(refresh_token="r0", rotate=True)
    origin.put("/x", body="secret")
    origin.require_token("/x")
    assert (await client.get("/x")).status_code == 401
    grant = {"grant_type": "refresh_token", "refresh_token": "r0"}
    given = (await client.post("/token", data=grant, auth=("client", "hush"))).json()
    assert given["refresh_token"] == "refresh-1"
    bearer = {"authorization": f"Bearer {given['access_token']}"}
    assert (await client.get("/x", headers=bearer)).text == "secret"
    assert (await client.post("/token", data=grant, auth=("client", "hush"))).json() == {"error": "invalid_grant"}
    assert (await client.post("/token", data=grant, auth=("client", "?"))).status_code == 401
    origin.revoke()
    assert (await client.get("/x", headers=bearer)).status_code == 401


async def test_basic_authentication(origin, client):
    origin.put("/x", body="secret")
    origin.require_basic("/x", "ann", "word")
    assert (await client.get("/x")).status_code == 401
    assert (await client.get("/x", auth=("ann", "word"))).text == "secret"


async def test_limits_and_answers_without_a_socket(autojump_clock):
    origin = Origin()
    origin.put("/x", body="there", gzip=True, delay=0.5)
    origin.limit("/x", 2, 10.0)
    request = HttpRequest("GET", "http://origin.test/x?a=1")
    answers = [await origin.send(request) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert (answers[0].body, answers[2].header("retry-after")) == (b"there", "9")
    await trio.sleep(9)
    assert (await origin.send(request)).status == 200
    assert trio.current_time() == 10.5
    origin.put("/x", fault=RESET)
    await trio.sleep(10)
    with pytest.raises(SourceError):
        await origin.send(request)
    assert origin.count("/x?a=1") == 5


def test_a_process_of_its_own():
    with origin_process() as origin:
        origin.put("/x", json={"a": 1})
        assert httpx2.get(f"{origin.url}/x").json() == {"a": 1}
        assert origin.count("/x") == 1
        assert origin.seen()["requests"][0]["path"] == "/x"
        port = origin.port
        origin.stop()
        origin.start()
        assert origin.port == port
        assert httpx2.get(f"{origin.url}/x").status_code == 404
