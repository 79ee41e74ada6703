"""Parameters of an API's transport: what they mean, and which of them are mistakes."""

import gzip
import random
import zlib
from math import inf

import pytest

from caraway.config.params import ConnectorParams
from caraway.connectors.http.transport import RateControls, TransportOptions, read_transport
from caraway.connectors.http.transport.coding import PIECE, CodingError, Decoder, decoded, decoder_of
from caraway.connectors.http.transport.oauth import ClientAuth, Grant
from caraway.core.http_retry import Backoff, RetryPolicy
from caraway.core.rate_control import Limits
from caraway.errors import ConfigError
from caraway.model import Secret
from caraway.secrets import Secrets

URL = "http://api.test/base?x=1"
TOKEN_URL = {"auth_token_url": "https://id.test/token"}
CLIENT = {**TOKEN_URL, "http_auth_client_id": "id", "http_auth_client_secret": "hush"}


class Store:
    """What any store has must not be taken for a parameter that nobody set."""

    def get(self, key):
        return Secret("hush") if key in ("HUSH", "http_password", "http_auth_client_secret") else None


async def read(params, url=URL):
    return await read_transport(ConnectorParams(params, Secrets({"env": Store()}), "api"), url)


async def test_defaults():
    assert await read({}) == TransportOptions(
        "http://api.test:80",
        client_timeout=30.0,
        connect_timeout=10.0,
        pool_max_idle=10,
        pool_idle_timeout=90.0,
        retry=RetryPolicy(retries=3, method=Backoff.FIBONACCI, patience=inf, jitter=0.3),
        limits=Limits(),
        acquire_timeout=None,
    )


async def test_everything_set():
    told = await read(
        {
            "client_timeout": "5s", "connect_timeout": "1500ms", "pool_max_idle_per_host": "0",
            "pool_idle_timeout": "1m", "max_retries": "0", "retry_backoff_method": "exponential",
            "retry_max_duration": "1m", "retry_jitter": "0", "max_concurrent_requests": "4",
            "requests_per_second_limit": "10", "requests_per_minute_limit": "100", "rate_control_jitter_min": "1ms",
            "rate_control_jitter_max": "2ms", "rate_control_failure_threshold": "12.5%", "rate_control_window": "20s",
            "rate_control_acquire_timeout": "0", "health_probe": "/up",
        }
    )  # fmt: skip
    assert told == TransportOptions(
        "http://api.test:80",
        client_timeout=5.0,
        connect_timeout=1.5,
        pool_max_idle=0,
        pool_idle_timeout=60.0,
        retry=RetryPolicy(retries=0, method=Backoff.EXPONENTIAL, patience=60.0, jitter=0.0),
        limits=Limits(4, 10, 100, 0.001, 0.002, 0.125, 20.0),
        acquire_timeout=inf,
        health_probe="/up",
    )


@pytest.mark.parametrize(
    ("written", "headers"),
    [
        ("X-A: 1", [("x-a", "1")]),
        ("X-A: 1, X-B: 2; X-C:3", [("x-a", "1"), ("x-b", "2"), ("x-c", "3")]),
        ("X-A: 1\nX-B: 2\r\n\n", [("x-a", "1"), ("x-b", "2")]),
        ("Accept: text/html;q=0.9, text/plain, X-B: 2", [("accept", "text/html;q=0.9, text/plain"), ("x-b", "2")]),
        ("Cookie: a=1; b=2", [("cookie", "a=1; b=2")]),
        ("X-When: 10:30", [("x-when", "10:30")]),
        ("X-Empty:", [("x-empty", "")]),
        ("Authorization: Bearer ${env:HUSH}", [("authorization", "Bearer hush")]),
    ],
)
async def test_headers(written, headers):
    told = await read({"http_headers": written})
    assert [(name, value.reveal()) for name, value in told.headers] == headers
    assert "hush" not in repr(told)


@pytest.mark.parametrize(
    ("params", "url", "word"),
    [
        ({"http_username": "ann", "http_password": "${env:HUSH}"}, URL, "YW5uOmh1c2g="),
        ({"http_password": "hush"}, "http://ann@api.test", "YW5uOmh1c2g="),
        ({}, "http://ann:hush@api.test", "YW5uOmh1c2g="),
        ({}, "http://a%40b:%3A@api.test", "YUBiOjo="),
        ({"http_username": "ann"}, URL, "YW5uOg=="),
    ],
)
async def test_basic_authentication(params, url, word):
    told = await read(params, url)
    assert [(name, value.reveal()) for name, value in told.headers] == [("authorization", f"Basic {word}")]
    assert told.origin == "http://api.test:80"


async def test_what_a_store_has_by_chance_is_no_parameter():
    assert (await read({})).headers == ()
    assert (await read({"http_password": ""})).headers == ()


async def test_oauth():
    told = (await read({**CLIENT, "auth_scopes": "a,b", "auth_client_auth": "BODY"})).oauth
    assert (told.grant, told.client_auth, told.scopes) == (Grant.CLIENT_CREDENTIALS, ClientAuth.BODY, "a b")
    told = (await read({**TOKEN_URL, "http_auth_refresh_token": "${env:HUSH}", "auth_header_name": "X-Key"})).oauth
    assert (told.grant, told.refresh_token, told.header) == (Grant.REFRESH_TOKEN, Secret("hush"), "x-key")
    assert "hush" not in repr(told)
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
        assert (await read({**CLIENT, "auth_token_url": f"http://{host}/token"})).oauth is not None


REFRESH = {**TOKEN_URL, "auth_grant_type": "refresh_token"}


@pytest.mark.parametrize(
    ("params", "name", "words"),
    [
        ({"client_timeout": "0s"}, "client_timeout", "greater than zero"),
        ({"client_timeout": "soon"}, "client_timeout", "duration"),
        ({"connect_timeout": "0"}, "connect_timeout", "greater than zero"),
        ({"pool_max_idle_per_host": "-1"}, "pool_max_idle_per_host", "allowed: 0 to 1000"),
        ({"pool_idle_timeout": "0"}, "pool_idle_timeout", "greater than zero"),
        ({"max_retries": "-1"}, "max_retries", "allowed: 0 to 100"),
        ({"max_retries": "many"}, "max_retries", "whole number"),
        ({"retry_backoff_method": "random"}, "retry_backoff_method", "allowed: fibonacci, linear, exponential"),
        ({"retry_max_duration": "1 minute"}, "retry_max_duration", "duration"),
        *(({"retry_jitter": text}, "retry_jitter", "0 to 1") for text in ("1.1", "-0.1", "x", "2", "nan", "1e-1")),
        ({"max_concurrent_requests": "0"}, "max_concurrent_requests", "whole number from 1"),
        ({"requests_per_second_limit": "0.5"}, "requests_per_second_limit", "whole number from 1"),
        ({"requests_per_minute_limit": "9" * 30}, "requests_per_minute_limit", "whole number from 1"),
        ({"rate_control_jitter_min": "1"}, None, ""),
        ({"rate_control_jitter_min": "2s", "rate_control_jitter_max": "1s"}, "rate_control_jitter_min", "more than"),
        ({"rate_control_failure_threshold": "0.1"}, "rate_control_failure_threshold", "percentage"),
        ({"rate_control_failure_threshold": "101%"}, "rate_control_failure_threshold", "percentage"),
        ({"rate_control_window": "0"}, "rate_control_window", "greater than zero"),
        ({"rate_control_acquire_timeout": "-1s"}, "rate_control_acquire_timeout", "duration"),
        ({"health_probe": "up"}, "health_probe", "starts with /"),
        ({"health_probe": "/a b"}, "health_probe", "no spaces"),
        ({"health_probe": "/" + "a" * 2048}, "health_probe", "2048 characters"),
        ({"http_headers": "hush"}, "http_headers", "Name: value"),
        ({"http_headers": "X-A: hush\u00e9"}, "http_headers", "characters that a header can't have"),
        ({"http_headers": "X-A: hush\x00"}, "http_headers", "characters that a header can't have"),
        ({"http_headers": "Host: hush"}, "http_headers", "set by the connection itself"),
        ({"http_password": "hush"}, "http_password", "a password needs a user"),
        ({"http_username": "a:b", "http_password": "hush"}, "http_username", "colon"),
        ({"http_username": "a", "http_headers": "Authorization: hush"}, "http_username", "use one of them"),
        ({"http_username": "a", **CLIENT}, "http_username", "auth_token_url is set as well"),
        ({**CLIENT, "http_headers": "Authorization: hush"}, "http_headers", "leave it out here"),
        ({**CLIENT, "http_headers": "X-Key: hush", "auth_header_name": "x-key"}, "http_headers", "leave it out here"),
        ({**CLIENT, "auth_header_name": "x key"}, "auth_header_name", "no header that can take a token"),
        ({**CLIENT, "auth_header_name": "Host"}, "auth_header_name", "no header that can take a token"),
        ({**CLIENT, "auth_token_url": "http://id.test/"}, "auth_token_url", "https://"),
        ({**CLIENT, "auth_token_url": "id.test/token"}, "auth_token_url", "https://"),
        ({**CLIENT, "auth_token_url": "https:///token"}, "auth_token_url", "host"),
        ({**CLIENT, "auth_token_url": "https://a:hush@id.test/"}, "auth_token_url", "user"),
        ({**CLIENT, "auth_token_url": "https://[id.test/hush"}, "auth_token_url", "not an address"),
        ({**CLIENT, "auth_token_url": "https://id.test:hush/"}, "auth_token_url", "not an address"),
        ({**CLIENT, "auth_grant_type": "password"}, "auth_grant_type", "allowed: client_credentials, refresh_token"),
        ({**CLIENT, "auth_client_auth": "jwt"}, "auth_client_auth", "allowed: basic, body"),
        ({**TOKEN_URL, "http_auth_client_id": "id"}, "http_auth_client_secret", "needs it"),
        ({**TOKEN_URL, "http_auth_client_secret": "hush"}, "http_auth_client_id", "needs it"),
        (REFRESH, "http_auth_refresh_token", "needs it"),
        (
            {**REFRESH, "http_auth_refresh_token": "hush", "http_auth_client_secret": "hush"},
            "http_auth_client_id",
            "needs it",
        ),
        ({"auth_grant_type": "refresh_token"}, "auth_grant_type", "auth_token_url is not set"),
        ({"http_auth_client_secret": "hush"}, "http_auth_client_secret", "auth_token_url is not set"),
        ({"http_headers": "X: ${env:MISSING}"}, "http_headers", "MISSING"),
    ],
)
async def test_mistakes_name_the_parameter(params, name, words):
    if name is None:
        assert await read(params)
        return
    with pytest.raises(ConfigError, match=words) as caught:
        await read(params)
    assert caught.value.problems[0].key == f"datasets[api].params.{name}"
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "url", "name"),
    [
        ({"http_username": "bob"}, "http://ann@api.test", "http_username"),
        ({"http_password": "hush"}, "http://ann:hush@api.test", "http_password"),
    ],
)
async def test_credentials_are_named_once(params, url, name):
    with pytest.raises(ConfigError) as caught:
        await read(params, url)
    assert caught.value.problems[0].key == f"datasets[api].params.{name}"
    assert "hush" not in str(caught.value)


async def test_the_defaults_of_the_runtime():
    controls = RateControls(print, {"http_max_concurrent_requests": "3", "http_rate_control_acquire_timeout": "0"})
    assert (controls.of("http://api.test:80").limits, controls.acquire_timeout) == (Limits(concurrent=3), inf)
    for name in ("http_max_concurrent_requests", "http_rate_control_acquire_timeout"):
        with pytest.raises(ConfigError) as caught:
            RateControls(print, {name: "x"})
        assert caught.value.problems[0].key == f"runtime.params.{name}"


# --- content codings


def deflate(data):
    raw = zlib.compressobj(wbits=-15)
    return raw.compress(data) + raw.flush()


PLAIN = bytes(random.Random(5).choices(b"abcdef", k=300_000))
CODINGS = {
    "gzip": gzip.compress(PLAIN),
    "X-GZIP": gzip.compress(PLAIN[:9]) + gzip.compress(PLAIN[9:]) + b"\0\0",
    "deflate": zlib.compress(PLAIN),
    "deflate ": deflate(PLAIN),
    "deflate, gzip": gzip.compress(zlib.compress(PLAIN)),
    "identity": PLAIN,
    "": PLAIN,
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("cut", [100, 65536, 10**7])
def test_codings_in_any_pieces(coding, cut):
    decoder = decoder_of((("content-encoding", coding),))
    data = CODINGS[coding]
    parts = [data[:1], *(data[at : at + cut] for at in range(1, len(data), cut))]
    pieces = [piece for part in parts for piece in decoder.feed(part)]
    decoder.finish()
    assert b"".join(pieces) == PLAIN
    assert max(map(len, pieces)) <= max(PIECE, cut)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "deflate ", "deflate, gzip"])
def test_a_cut_off_body_is_noticed(coding):
    decoder = decoder_of((("content-encoding", coding),))
    data = CODINGS[coding]
    assert b"".join(decoder.feed(data[: len(data) // 2]))
    with pytest.raises(CodingError, match="too early"):
        decoder.finish()


def test_an_empty_body_needs_no_coding():
    Decoder(["gzip"]).finish()


def test_garbage_is_a_coding_error_or_nothing():
    chances = random.Random(9)
    for _ in range(300):
        data = bytearray(CODINGS[chances.choice(["gzip", "deflate", "deflate "])][:2000])
        for _ in range(chances.randrange(1, 5)):
            data[chances.randrange(len(data))] = chances.randrange(256)
        decoder = Decoder([chances.choice(["gzip", "deflate"])])
        with pytest.raises(CodingError):
            _undone(decoder, bytes(data))


def _undone(decoder, data):
    list(decoder.feed(data))
    decoder.finish()


def test_headers_of_a_decoded_body():
    coded = (("content-encoding", "gzip"), ("content-length", "5"), ("etag", '"a"'))
    assert decoded(coded) == (("etag", '"a"'),)
    assert decoded(coded[1:]) == coded[1:]
