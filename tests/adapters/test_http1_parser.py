"""Requests from bytes: what is read, what is refused, and that cuts do not matter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.http_limits import HttpLimits
from caraway.servers.http1.parser import Body, End, Head, Phase, Received, Refused, RequestParser
from support.fuzz import fuzz

LIMITS = HttpLimits(head_bytes=2000, headers=10, body_bytes=1000, small_body_bytes=100)
HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def parsed(data: bytes, *, size: int = 10**6) -> list[Received]:
    parser = RequestParser(LIMITS)
    return [event for i in range(0, len(data), size) for event in parser.feed(data[i : i + size])]


def test_a_request_without_a_body() -> None:
    [head] = parsed(b"GET /v1/a%20b?x=1&y HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nACCEPT: text/csv\r\n\r\n")
    assert head == Head(
        method="GET",
        path="/v1/a b",
        raw_path=b"/v1/a%20b",
        query=b"x=1&y",
        version="1.1",
        headers=[(b"host", b"h"), (b"x-empty", b""), (b"accept", b"text/csv")],
        keep_alive=True,
        has_body=False,
        expects_continue=False,
    )


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (POST + b"Content-Length: 3\r\n\r\nabc", b"abc"),
        (CHUNKED + b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: t\r\n\r\n", b"abc"),
        (POST + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", b""),
    ],
)  # fmt: skip
def test_bodies(request_: bytes, body: bytes) -> None:
    head, *pieces, end = parsed(request_)
    assert isinstance(head, Head)
    assert head.has_body
    assert b"".join(piece.data for piece in pieces if isinstance(piece, Body)) == body
    assert end == End()


@pytest.mark.parametrize(
    ("line", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST, True),
        (GET + b"Connection: close\r\n", False),
        (GET + b"Connection: foo, Close\r\n", False),
        (b"GET / HTTP/1.0\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_who_keeps_the_connection(line: bytes, keep_alive: bool) -> None:
    head, *rest = parsed(line + b"\r\nGARBAGE AFTERWARDS" * (not keep_alive) + b"\r\n" * keep_alive)
    assert isinstance(head, Head)
    assert head.keep_alive is keep_alive
    assert not rest


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", b""),
        (b"/a?b?c", "/a", b"b?c"),
        (b"http://host:80/a/b?c", "/a/b", b"c"),
        (b"http://host", "/", b""),
        (b"/%C3%A9", "/é", b""),
        (b"*", "*", b""),
    ],
)
def test_targets(target: bytes, path: str, query: bytes) -> None:
    method = b"OPTIONS" if target == b"*" else b"GET"
    [head] = parsed(method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert isinstance(head, Head)
    assert (head.path, head.query) == (path, query)


REFUSED: list[tuple[str, bytes, int]] = [
    ("both lengths", POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("both lengths, other order", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
    ("two lengths", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400),
    ("list of lengths", POST + b"Content-Length: 3, 3\r\n\r\n", 400),
    ("signed length", POST + b"Content-Length: +3\r\n\r\n", 400),
    ("negative length", POST + b"Content-Length: -3\r\n\r\n", 400),
    ("endless length", POST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    ("unknown coding", POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    ("coding before chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    ("coding after chunked", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    ("chunked twice", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("almost chunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
    ("chunked in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    ("bad chunk size", CHUNKED + b"0x3\r\nabc\r\n", 400),
    ("chunk size overflow", CHUNKED + b"fffffffffffffffff\r\n", 400),
    ("bare LF in chunks", CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400),
    ("chunk too long", CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    ("folded header", GET + b"X: a\r\n b\r\n\r\n", 400),
    ("bare LF", b"GET / HTTP/1.1\n" + HOST + b"\n", 400),
    ("bare LF after a header", b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    ("bare CR", b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
    ("NUL", b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", 400),
    ("space before colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ("no header name", GET + b": a\r\n\r\n", 400),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    ("fragment", b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("raw byte in path", b"GET /\xe9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("path is not UTF-8", b"GET /%ff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("version 2", b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    ("version 0.9", b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    ("version 1.2", b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    ("CONNECT", b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    ("unknown method", b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("TLS", b"\x16\x03\x01\x02\x00\x01", 400),
    ("other expectation", POST + b"Content-Length: 1\r\nExpect: tea\r\n\r\n", 417),
    ("long URL", b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    ("long header", GET + b"X: " + b"a" * 3000 + b"\r\n\r\n", 431),
    ("many headers", GET + b"X: a\r\n" * 11 + b"\r\n", 431),
    ("long body", POST + b"Content-Length: 1001\r\n\r\n", 413),
    ("long chunked body", CHUNKED + (b"fa\r\n" + b"x" * 250 + b"\r\n") * 5, 413),
    ("body for health", b"GET /health HTTP/1.1\r\n" + HOST + b"Content-Length: 101\r\n\r\n", 413),
    ("long trailers", CHUNKED + b"0\r\n" + b"T: t\r\n" * 400, 431),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
@pytest.mark.parametrize("size", [10**6, 1, 7])
def test_refusals(data: bytes, status: int, size: int) -> None:
    *before, last = parsed(data + GET + b"\r\n", size=size)
    assert isinstance(last, Refused)
    assert last.status == status
    assert last.reason
    assert not any(isinstance(event, End | Refused) for event in before)


@pytest.mark.parametrize("tail", [b"x: " + b"a" * 10000, b"a" * 10000], ids=["value", "name"])
def test_a_line_without_an_end_is_refused_before_it_fills_memory(tail: bytes) -> None:
    [refused] = parsed(b"GET / HTTP/1.1\r\n" + HOST + tail, size=100)
    assert refused == Refused(431, "The request's line and headers are over 2000 bytes.")


def test_an_endless_chunk_extension_is_refused() -> None:
    start = CHUNKED + b"1;"
    *_, refused = parsed(start + b"x" * 20000, size=100)
    assert refused.status == 413
    assert refused.reason.startswith("The request's body is over 1000 bytes.")


def test_a_request_for_another_protocol_is_answered_in_this_one() -> None:
    request = (
        b"POST /v1/sql HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 8\r\n\r\nselect 1GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    for size in (10**6, 1, 50):
        head, *pieces, end, following = parsed(request, size=size)
        assert isinstance(head, Head)
        assert (head.path, head.has_body, head.keep_alive) == ("/v1/sql", True, True)
        assert b"".join(piece.data for piece in pieces if isinstance(piece, Body)) == b"select 1"
        assert end == End()
        assert isinstance(following, Head)
        assert following.path == "/next"


def test_nothing_is_read_after_a_refusal() -> None:
    parser = RequestParser(LIMITS)
    parser.feed(b"nonsense\r\n")
    assert parser.phase is Phase.CLOSED
    assert parser.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == []


def whole(events: list[Received]) -> list[Received]:
    """The events with neighbouring pieces of a body put together."""
    merged: list[Received] = []
    for event in events:
        if isinstance(event, Body) and merged and isinstance(merged[-1], Body):
            merged[-1] = Body(merged[-1].data + event.data)
        else:
            merged.append(event)
    return merged


tokens = st.text("abcXYZ-09", min_size=1, max_size=8).map(str.encode)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(tokens.map(lambda t: b"x-" + t), max_size=3))
    head = b"POST /" + draw(tokens) + b" HTTP/1.1\r\nHost: a\r\n"
    head += b"".join(name + b": " + draw(tokens) + b"\r\n" for name in names)
    body = draw(st.binary(max_size=40))
    if draw(st.booleans()):
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    cut = draw(st.integers(0, len(body)))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@fuzz(60)
@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_cuts_do_not_matter(many: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(many)
    expected = whole(parsed(stream))
    assert sum(isinstance(event, Head) for event in expected) == len(many)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser = RequestParser(LIMITS)
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert whole([event for piece in pieces for event in parser.feed(memoryview(piece))]) == expected


@fuzz(150)
@given(
    st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([case[1] for case in REFUSED]), requests()), max_size=5)
)
def test_any_bytes_are_events_or_one_refusal(pieces: list[bytes]) -> None:
    parser = RequestParser(LIMITS)
    events = [event for piece in pieces for event in parser.feed(piece)]
    refused = [event for event in events if isinstance(event, Refused)]
    assert len(refused) <= 1
    assert not refused or events[-1] is refused[0]


@given(st.lists(st.one_of(requests(), st.sampled_from([b"\r\n", POST, b"\r\nx"])), min_size=1, max_size=3), st.data())
def test_what_comes_again_is_the_same_again(pieces: list[bytes], data: st.DataObject) -> None:
    fed = data.draw(st.lists(st.sampled_from(pieces), max_size=10))
    parser, forgetful = RequestParser(LIMITS), RequestParser(LIMITS)
    found = [event for piece in fed for event in parser.feed(memoryview(piece))]
    cut = [piece[i : i + 1] for piece in fed for i in range(len(piece))]
    assert whole(found) == whole([event for byte in cut for event in forgetful.feed(byte)])
    assert parser.phase is forgetful.phase
