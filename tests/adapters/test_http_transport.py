"""Requests of a dataset on the virtual clock: retries, pauses, turns, tokens, bounds."""

import random
import tracemalloc
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import trio
import trio.testing

from caraway.connectors.http.transport import RateControls, Transport, TransportOptions
from caraway.connectors.http.transport.oauth import Grant, OAuth
from caraway.core.http_retry import Fault, RetryPolicy
from caraway.core.rate_control import Limits
from caraway.errors import SourceError
from caraway.events import RateControlsDiffer
from caraway.model import HttpRequest, Secret
from support.origin import Origin
from support.origin_network import MemoryNetwork
from support.origin_wire import GARBAGE, HALF, NOTHING

HOST = "http://api.test:80"
GET = HttpRequest("GET", f"{HOST}/x")
PLAIN = TransportOptions(HOST, retry=RetryPolicy(jitter=0.0, unit=1.0))
OAUTH = OAuth(f"{HOST}/token", Grant.CLIENT_CREDENTIALS, "client", Secret("hush"))


class World:
    """An origin, a network to it and the controls of a daemon."""

    def __init__(self, nursery):
        self.origin = Origin()
        self.network = MemoryNetwork(self.origin, nursery)
        self.events = []
        self.controls = RateControls(self.events.append)
        self.origin.put("/x", body="there")

    @asynccontextmanager
    async def transport(self, options=PLAIN, dataset="one", max_body=10_000, **changes):
        transport = Transport(
            replace(options, **changes),
            self.controls,
            dataset,
            max_body=max_body,
            chance=lambda: 0.5,
            backend=self.network,
        )
        try:
            yield transport
        finally:
            await transport.aclose()


@pytest.fixture
async def world(nursery):
    return World(nursery)


@pytest.mark.parametrize("status", [200, 204, 301, 304, 400, 401, 404, 410])
async def test_any_other_status_is_an_answer_at_once(world, autojump_clock, status):
    world.origin.put("/x", status=status, body="" if status in (204, 304) else "told", headers={"location": "/y"})
    async with world.transport() as transport:
        answer = await transport.send(GET)
    assert (answer.status, world.origin.count()) == (status, 1)
    assert answer.header("location") == "/y"
    assert trio.current_time() == 0


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_transient_answers_are_asked_for_again_and_the_last_one_stands(world, autojump_clock, status):
    world.origin.put("/x", status=status, body="not now")
    async with world.transport() as transport:
        answer = await transport.send(GET)
    assert (answer.status, answer.body, world.origin.count()) == (status, b"not now", 4)
    assert trio.current_time() == 1 + 1 + 2


@pytest.mark.parametrize("fault", [HALF, GARBAGE, NOTHING])
async def test_broken_exchanges_are_made_again(world, autojump_clock, fault):
    world.origin.then("/x", body="there", fault=fault, times=2)
    async with world.transport() as transport:
        answer = await transport.send(GET)
    assert (answer.body, world.origin.count(), trio.current_time()) == (b"there", 3, 2)


async def test_an_exchange_that_stays_broken_is_an_error(world, autojump_clock):
    world.origin.put("/x", fault=NOTHING)
    async with world.transport() as transport:
        with pytest.raises(SourceError, match=r"http://api\.test:80/x ended the connection") as caught:
            await transport.send(replace(GET, url=f"{HOST}/x?key=hush"))
    assert caught.value.transient
    assert "hush" not in str(caught.value)
    assert world.origin.count() == 4


async def test_a_post_is_repeated_and_others_are_not(world, autojump_clock):
    world.origin.put("/x", status=503)
    async with world.transport() as transport:
        await transport.send(HttpRequest("POST", GET.url, body=b"{}"))
        await transport.send(HttpRequest("PUT", GET.url, body=b"{}"))
    assert (world.origin.count("POST /x"), world.origin.count("PUT /x")) == (4, 1)


async def test_client_timeout_bounds_each_attempt(world, autojump_clock):
    world.origin.put("/x", body="late", delay=30.1)
    async with world.transport() as transport:
        with pytest.raises(SourceError, match="did not answer within 30 s") as caught:
            await transport.send(GET)
    assert "client_timeout" in caught.value.remedy
    assert trio.current_time() == 4 * 30 + 4
    world.origin.put("/x", body="late", delay=29.9)
    async with world.transport() as transport:
        assert (await transport.send(GET)).body == b"late"


async def test_connect_timeout_is_its_own(world, autojump_clock):
    world.network.delay = 11
    async with world.transport() as transport:
        with pytest.raises(SourceError, match=r"http://api\.test:80 can't be reached: no connection within 10 s"):
            await transport.send(GET)
    assert (world.network.asked, trio.current_time()) == (4, 4 * 10 + 4)


async def test_retry_after_is_heeded_by_all_who_ask_the_origin(world, autojump_clock):
    world.origin.then("/x", status=429, retry_after=20)
    async with world.transport() as one, world.transport(dataset="two") as two, trio.open_nursery() as nursery:
        nursery.start_soon(one.send, GET)
        await trio.sleep(1)
        assert (await two.send(GET)).status == 200
        assert trio.current_time() == 20
        told = two.statistics()
    assert world.origin.count() == 3
    assert (told.rate_limit_retry_after_updates_total, told.rate_limit_retry_after_waits_total) == (1, 1)
    assert told.rate_limit_retry_after_wait_duration_ms == 19_000


async def test_a_cooldown_that_is_too_long_is_told_at_once_and_outlives_the_dataset(world, autojump_clock):
    world.origin.then("/x", status=429, retry_after=600)
    async with world.transport() as transport:
        assert (await transport.send(GET)).status == 429  # nobody waits ten minutes for an answer
    async with world.transport() as transport:
        with pytest.raises(SourceError, match=r"not to be asked before 600\.0 s") as caught:
            await transport.send(GET)
        assert caught.value.retry_after == 600
        assert transport.statistics().rate_limit_retry_after_remaining_ms == 600_000
        await trio.sleep(600)
        assert (await transport.send(GET)).status == 200
    assert world.origin.count() == 2


async def test_a_quota_that_is_used_up_is_waited_for(world, autojump_clock):
    world.origin.then("/x", body="last", headers={"ratelimit": '"minute";r=0;t=7'})
    async with world.transport() as transport:
        assert (await transport.send(GET)).body == b"last"
        await transport.send(GET)
    assert trio.current_time() == 7


async def test_requests_go_in_the_order_and_at_the_pace_that_the_limits_say(world, autojump_clock):
    order = []
    limits = Limits(concurrent=2, per_second=2, jitter_min=0.0, jitter_max=0.0)
    world.origin.put("/x", body="there", delay=2.0)
    world.origin.on(
        "/x", lambda got, page=world.origin._pages["/x"]: order.append((got.query, trio.current_time())) or page(got)
    )

    async with world.transport(limits=limits) as transport, trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(transport.send, replace(GET, url=f"{GET.url}?{number}"))
            await trio.testing.wait_all_tasks_blocked()
    assert order == [("0", 0), ("1", 0.5), ("2", 2), ("3", 2.5), ("4", 4)]
    assert world.origin.greatest == 2


async def test_datasets_of_one_origin_share_the_stricter_limits_and_say_so_once(world, autojump_clock):
    loose, strict = Limits(concurrent=4), Limits(concurrent=1)
    world.origin.put("/x", body="there", delay=1.0)
    async with world.transport(limits=loose) as one:
        async with world.transport(dataset="two", limits=strict) as two, trio.open_nursery() as nursery:
            for transport in (one, two, one, two):
                nursery.start_soon(transport.send, GET)
        assert (world.origin.greatest, trio.current_time()) == (1, 4)
        async with world.transport(dataset="two", limits=strict):
            pass
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one.send, GET)
        assert world.origin.greatest == 4
    differing = [event for event in world.events if isinstance(event, RateControlsDiffer)]
    assert [(event.datasets, event.settings) for event in differing] == [(("one", "two"), ("concurrent",))]
    assert "set different limits (concurrent)" in str(differing[0])


async def test_waiting_for_a_turn_has_an_end(world, autojump_clock):
    world.origin.put("/x", body="there", delay=20)
    limits = Limits(concurrent=1)
    async with world.transport(limits=limits, acquire_timeout=5) as transport, trio.open_nursery() as nursery:
        nursery.start_soon(transport.send, GET)
        await trio.sleep(1)
        with pytest.raises(SourceError, match="no request was allowed within 5 s") as caught:
            await transport.send(GET)
        assert trio.current_time() == 6
        assert "rate_control_acquire_timeout" in caught.value.remedy
        assert transport.statistics().rate_control_acquire_errors_total == 1
    async with (
        world.transport(limits=limits, acquire_timeout=float("inf")) as transport,
        trio.open_nursery() as nursery,
    ):
        for _ in range(10):
            nursery.start_soon(transport.send, GET)
    assert world.origin.count() == 11


async def test_the_queue_is_bounded(world, autojump_clock):
    world.origin.hold("/x")
    failures = []

    async def ask(transport):
        try:
            await transport.send(GET)
        except SourceError as error:
            failures.append(str(error))

    async with world.transport(limits=Limits(concurrent=1)) as transport, trio.open_nursery() as nursery:
        for _ in range(1030):
            nursery.start_soon(ask, transport)
        await trio.testing.wait_all_tasks_blocked()
        assert len(failures) == 1030 - 1024
        assert "1024 requests wait for it already" in failures[0]
        nursery.cancel_scope.cancel()


async def test_a_failing_origin_is_asked_less(world, autojump_clock):
    limits = Limits(concurrent=8)
    world.origin.put("/x", status=500, delay=1.0)
    async with world.transport(limits=limits, retry=RetryPolicy(retries=0)) as transport:
        for _ in range(7):
            await transport.send(GET)
        low = transport.statistics()
        assert low.rate_control_adaptive_admission_ratio < 0.3
        assert low.rate_control_available_permits < 3
        world.origin.put("/x", body="well", delay=1.0)
        await trio.sleep(60)
        assert transport.statistics().rate_control_available_permits >= 6
        for _ in range(40):
            await transport.send(GET)
        assert transport.statistics().rate_control_adaptive_admission_ratio == 1


@pytest.mark.parametrize("when", [0.5, 1.5, 2.5, 3.2])
async def test_a_cancelled_request_gives_its_place_back(world, autojump_clock, when):
    """While it waits for its turn, for the connection, for the answer, for the next attempt."""
    world.network.delay = 1.0
    world.origin.put("/x", status=503, delay=1.0)
    async with world.transport(limits=Limits(concurrent=1, jitter_min=1.0, jitter_max=1.0)) as transport:
        with trio.move_on_after(when):
            await transport.send(GET)
        assert trio.current_time() == when
        assert transport.statistics().inflight_operations == 0
        world.network.delay = 0.0
        world.origin.put("/x", body="there")
        with trio.fail_after(5):
            assert (await transport.send(GET)).status == 200


async def test_a_body_is_held_up_to_a_bound(world, autojump_clock):
    world.origin.put("/x", body=b"x" * 10_000)
    async with world.transport() as transport:
        assert len((await transport.send(GET)).body) == 10_000
        for options in ({}, {"chunked": True}, {"gzip": True}):
            world.origin.put("/x", body=b"x" * 10_001, **options)
            world.origin.forget()
            with pytest.raises(SourceError, match="larger than the limit: 10,000 bytes") as caught:
                await transport.send(GET)
            assert (caught.value.fault, caught.value.transient, world.origin.count()) == (Fault.OVERSIZED, False, 1)


@pytest.mark.parametrize("told", [{"bomb": 9_000_000}, {"bomb": 9_000_000, "fault": HALF}])
async def test_an_error_does_not_hold_what_came_before_it(world, autojump_clock, told):
    world.origin.put("/x", **told)
    errors = []
    tracemalloc.start()
    try:
        async with world.transport(max_body=6_000_000, retry=RetryPolicy(retries=0)) as transport:
            for _ in range(5):
                with pytest.raises(SourceError) as caught:
                    await transport.send(GET)
                errors.append(caught.value)
        assert tracemalloc.get_traced_memory()[0] < 15_000_000, (
            "five times the bound was held, and the origin holds 9 MB"
        )
    finally:
        tracemalloc.stop()
    assert len(errors) == 5


async def test_a_bomb_is_not_unpacked(world, autojump_clock):
    world.origin.put("/x", bomb=30 * 1024**2, gzip=True)
    async with world.transport() as transport:
        with pytest.raises(SourceError, match="larger than the limit"):
            await transport.send(GET)


@pytest.mark.parametrize(
    ("coding", "why"),
    [("gzip", "Error -3"), ("br", "its coding is br"), ("gzip, gzip", "Error -3"), ("deflate", "Error -3")],
)
async def test_a_body_that_does_not_decode_is_asked_for_again(world, autojump_clock, coding, why):
    world.origin.then("/x", body="plain text", headers={"content-encoding": coding})
    async with world.transport() as transport:
        assert (await transport.send(GET)).body == b"there"
        world.origin.put("/x", body="plain text", headers={"content-encoding": coding})
        with pytest.raises(SourceError, match=why):
            await transport.send(GET)


async def test_streams_are_read_as_they_come(world, autojump_clock):
    world.origin.put("/x", bomb=5 * 1024**2, gzip=True)
    async with world.transport() as transport:
        async with transport.stream(GET) as answer:
            sizes = [len(piece) async for piece in answer.body()]
            assert transport.statistics().inflight_operations == 1
        assert (answer.status, sum(sizes), max(sizes)) == (200, 5 * 1024**2, 256 * 1024)
        world.origin.then("/x", status=503)
        async with transport.stream(GET) as answer:
            assert answer.status == 200
            async for _ in answer.body():
                break
        assert transport.statistics().inflight_operations == 0
        world.origin.put("/x", body="half of this", fault=HALF)
        world.origin.forget()
        with pytest.raises(SourceError, match="before the answer was complete"):
            async with transport.stream(GET) as answer:
                [piece async for piece in answer.body()]
        assert world.origin.count() == 1


async def test_the_age_is_what_the_exchange_took(world, autojump_clock):
    world.origin.put("/x", body="old", headers={"age": "40"}, delay=2.5)
    async with world.transport() as transport:
        assert (await transport.send(GET)).age == 2.5


async def test_headers_of_the_dataset_and_of_the_request(world, autojump_clock):
    fixed = (("x-team", Secret("ours")), ("x-mode", Secret("fixed")), ("authorization", Secret("Basic eA==")))
    async with world.transport(headers=fixed) as transport:
        own = (("x-mode", "own"), ("authorization", "stolen"), ("if-none-match", '"a"'))
        await transport.send(HttpRequest("POST", GET.url, own, b"{}"))
    sent = world.origin.requests[0].headers
    assert (sent["x-team"], sent["x-mode"], sent["authorization"]) == ("ours", "own", "Basic eA==")
    assert (sent["content-type"], sent["host"], sent["if-none-match"]) == ("application/json", "api.test:80", '"a"')


@pytest.mark.parametrize("value", ["a\r\nhost: other", "snow \u2603"])
async def test_headers_that_are_none_are_not_sent(world, autojump_clock, value):
    async with world.transport() as transport:
        with pytest.raises(SourceError, match="can't be asked so") as caught:
            await transport.send(replace(GET, headers=(("x-a", value),)))
    assert (caught.value.transient, world.origin.count()) == (False, 0)


async def test_no_request_leaves_the_origin(world, autojump_clock):
    async with world.transport() as transport:
        for url in ("http://other.test/x", "https://api.test/x", "http://api.test:81/x"):
            with pytest.raises(ValueError, match=r"is not at http://api\.test:80"):
                await transport.send(HttpRequest("GET", url))
        assert (await transport.send(HttpRequest("GET", "http://API.test/x"))).status == 200


async def test_the_probe(world, autojump_clock):
    async with world.transport() as transport:
        await transport.probe()
        assert world.origin.requests[0].path.startswith("/__caraway_health_check_")
    async with world.transport(health_probe="/up?deep=1") as transport:
        with pytest.raises(SourceError, match="/up answered 404"):
            await transport.probe()
        world.origin.put("/up", status=204)
        await transport.probe()
    world.origin.put("/up", fault=NOTHING)
    async with world.transport(health_probe="/up") as transport:
        with pytest.raises(SourceError, match="ended the connection"):
            await transport.probe()


BYTES = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-type: text/plain\r\nage: 5\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    b'HTTP/1.0 503 No\r\nretry-after: 9\r\nratelimit: "a";r=0;t=5\r\n\r\nbody',
    b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\netag: "a"\r\n\r\n',
)


async def test_whatever_a_server_sends_is_an_answer_or_a_source_error(world, autojump_clock):
    chances, kinds = random.Random(3), Counter()

    async def babble(stream):
        async with stream:
            await stream.receive_some(65536)
            data = bytearray(chances.choice(BYTES))
            for _ in range(chances.randrange(4)):
                at = chances.randrange(len(data))
                data[at : at + chances.randrange(3)] = bytes(
                    chances.choices(b"\r\n :\x00\xff19;,=aZ", k=chances.randrange(3))
                )
            await stream.send_all(bytes(data))
            await trio.sleep(chances.choice((0, 100)))

    world.origin.serve = babble
    for _ in range(400):
        async with world.transport(retry=RetryPolicy(retries=0)) as transport:
            await trio.sleep(3600)  # so that no cooldown holds
            try:
                kinds[(await transport.send(GET)).status] += 1
            except SourceError as error:
                kinds[error.code if error.remedy else "without a remedy"] += 1
            assert transport.statistics().inflight_operations == 0
    assert "without a remedy" not in kinds
    assert {200, 304, 503, "ConnectionLost", "NoHttp", "Timeout"} <= kinds.keys()


# --- OAuth2


async def test_tokens_are_fetched_once_and_renewed_before_they_end(world, autojump_clock):
    world.origin.token_endpoint(expires_in=300)
    world.origin.require_token("/x")
    async with world.transport(oauth=OAUTH) as transport:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(transport.send, GET)
        assert world.origin.count("/token") == 1
        await trio.sleep(239.9)
        assert (await transport.send(GET)).status == 200
        assert world.origin.count("/token") == 1
        await trio.sleep(0.2)
        assert (await transport.send(GET)).status == 200
        assert world.origin.count("/token") == 2
    assert world.origin.requests[-1].headers["authorization"] == "Bearer token-2"


async def test_a_short_lived_token_is_used_for_half_its_life(world, autojump_clock):
    world.origin.token_endpoint(expires_in=20)
    world.origin.require_token("/x")
    async with world.transport(oauth=OAUTH) as transport:
        for _ in range(21):
            assert (await transport.send(GET)).status == 200
            await trio.sleep(0.99)
    assert world.origin.count("/token") == 2


async def test_while_a_token_is_renewed_the_old_one_does(world, autojump_clock):
    world.origin.token_endpoint(expires_in=300)
    world.origin.require_token("/x")
    async with world.transport(oauth=OAUTH) as transport:
        await transport.send(GET)
        await trio.sleep(250)
        world.origin.hold("/token")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send, GET)
            await world.origin.wait_count(2, "/token")
            assert (await transport.send(GET)).status == 200
            world.origin.release("/token")
        world.origin.put("/token", status=500)
        await trio.sleep(260)
        assert (await transport.send(GET)).status == 200  # it can't be renewed now, and is good for some seconds yet


async def test_a_token_that_the_api_refuses_is_replaced_once(world, autojump_clock):
    world.origin.token_endpoint()
    world.origin.require_token("/x")
    async with world.transport(oauth=OAUTH) as transport:
        await transport.send(GET)
        world.origin.revoke()
        assert (await transport.send(GET)).status == 200
        assert (world.origin.count("/token"), world.origin.count("/x")) == (2, 3)
        world.origin.put("/forbidden", status=401)
        for _ in range(5):
            assert (await transport.send(replace(GET, url=f"{HOST}/forbidden"))).status == 401
        assert (world.origin.count("/token"), world.origin.count("/forbidden")) == (3, 6)
        assert (await transport.send(GET)).status == 200


async def test_rotated_refresh_tokens_are_honoured_even_where_who_asked_has_left(world, autojump_clock):
    oauth = OAuth(f"{HOST}/token", Grant.REFRESH_TOKEN, "client", Secret("hush"), Secret("r0"))
    world.origin.token_endpoint(refresh_token="r0", rotate=True, expires_in=100)
    page = world.origin._pages["/token"]
    world.origin.on("/token", lambda got: replace(page(got), delay=2.0))
    world.origin.require_token("/x")
    async with world.transport(oauth=oauth) as transport:
        with trio.move_on_after(1):
            await transport.send(GET)
        for _ in range(3):
            assert (await transport.send(GET)).status == 200
            await trio.sleep(90)
    sent = [got.form["refresh_token"] for got in world.origin.requests if got.path == "/token"]
    assert sent == ["r0", "refresh-1", "refresh-2"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"status": 400, "json": {"error": "invalid_grant", "hint": "hush?"}}, r"answered 400 .*_grant.*\*\*\*\?"),
        ({"status": 401, "body": "x" * 5000}, "answered 401 \\(x{512}\\)"),
        ({"status": 302, "headers": {"location": "/other"}}, "answered 302 \\(without a word\\)"),
        ({"body": "<html>"}, "it is not JSON"),
        ({"json": []}, "it has no access_token"),
        ({"json": {"access_token": "hush\r\nx: y"}}, "it has no access_token"),
        ({"json": {"access_token": "t", "token_type": "mac"}}, "its token_type is not Bearer"),
    ],
)  # fmt: skip
async def test_what_a_token_server_may_answer(world, autojump_clock, told, words):
    world.origin.put("/token", **told)
    async with world.transport(oauth=OAUTH) as transport:
        with pytest.raises(SourceError, match=words) as caught:
            await transport.send(GET)
        assert "hush" not in f"{caught.value} {caught.value!r} {transport!r}"
        assert "auth_token_url" in caught.value.remedy
        for _ in range(10):
            with pytest.raises(SourceError):
                await transport.send(GET)
        assert (world.origin.count("/token"), world.origin.count("/x")) == (1, 0)  # a refusal is believed for a while
        world.origin.token_endpoint()
        await trio.sleep(31)
        assert (await transport.send(GET)).status == 200


async def test_a_token_server_that_fails_is_asked_again(world, autojump_clock):
    world.origin.token_endpoint()
    world.origin.then("/token", status=503, times=2)
    async with world.transport(oauth=OAUTH) as transport:
        assert (await transport.send(GET)).status == 200
        assert (world.origin.count("/token"), trio.current_time()) == (3, 2)


async def test_another_header_takes_the_bare_token(world, autojump_clock):
    world.origin.token_endpoint(client_auth="body")
    world.origin.require_token("/x", header="x-api-key")
    oauth = replace(OAUTH, header="x-api-key", client_auth=type(OAUTH.client_auth)("body"), scopes="read write")
    async with world.transport(oauth=oauth) as transport:
        assert (await transport.send(replace(GET, headers=(("x-api-key", "stolen"),)))).status == 200
    assert world.origin.requests[0].form["scope"] == "read write"


async def test_a_walk_through_all_that_can_happen_leaks_nothing(world, autojump_clock):
    """Cancellations at any time among answers of every kind: at the end no place is taken and nobody waits."""
    chances = random.Random(11)
    world.origin.token_endpoint(expires_in=70)
    world.origin.require_token("/x")

    async def ask(transport):
        world.origin.then("/x", **chances.choice(TOLD))
        with trio.move_on_after(chances.random() * 4), suppress(SourceError):
            if chances.random() < 0.5:
                await transport.send(GET)
                return
            async with transport.stream(GET) as answer:
                async for _ in answer.body():
                    await trio.sleep(chances.random())

    limits = Limits(concurrent=3, per_second=20, threshold=1.0)
    async with world.transport(oauth=OAUTH, limits=limits) as transport:
        inflight = []
        world.origin.guard("/x", lambda _: inflight.append(transport.statistics().inflight_operations))
        for _ in range(30):
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(ask, transport)
            assert transport.statistics().inflight_operations == 0
        assert max(inflight) == 3
        await trio.sleep(100)
        assert transport.statistics().rate_control_acquisitions_total > 100


TOLD = (
    {"body": "well"}, {"body": "well", "gzip": True, "delay": 1.0}, {"status": 503}, {"status": 429, "retry_after": 1},
    {"fault": NOTHING}, {"body": "half of it", "fault": HALF}, {"body": "late", "delay": 3.0}, {"status": 401},
)  # fmt: skip
