"""Responses to bytes: framing, connection lines, misuse."""

import pytest

from caraway.servers.http1.response import Response, Stage, plain

DATE = b"date: now\r\n"


def composed(*pieces: bytes, status: int = 200, headers=((b"a", b"b"),), **request: object) -> bytes:
    response = Response(**{"method": "GET", "version": "1.1", "keep_alive": True, **request})
    response.start(status, headers)
    last = len(pieces) - 1
    return b"".join(response.body(piece, more=i < last, date=DATE) for i, piece in enumerate(pieces))


def test_a_whole_body_goes_out_with_its_length() -> None:
    assert composed(b"xyz") == b"HTTP/1.1 200 OK\r\ndate: now\r\na: b\r\ncontent-length: 3\r\n\r\nxyz"


def test_a_body_in_pieces_is_chunked() -> None:
    start = b"HTTP/1.1 200 OK\r\ndate: now\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"
    assert composed(b"x" * 17, b"", b"y") == start + b"11\r\n" + b"x" * 17 + b"\r\n1\r\ny\r\n0\r\n\r\n"


def test_a_known_length_is_kept() -> None:
    sent = composed(b"x", b"y", headers=[(b"content-length", b"2")])
    assert sent == b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 2\r\n\r\nxy"


def test_http_1_0_ends_with_the_connection() -> None:
    sent = composed(b"x", b"y", version="1.0")
    assert sent == b"HTTP/1.1 200 OK\r\ndate: now\r\na: b\r\nconnection: close\r\n\r\nxy"
    assert b"connection: keep-alive" in composed(b"x", version="1.0")


@pytest.mark.parametrize(
    ("pieces", "line"),
    [((b"xyz",), b"content-length: 3\r\n"), ((b"x", b"y"), b"")],
)
def test_head_has_the_header_alone(pieces: tuple[bytes, ...], line: bytes) -> None:
    assert composed(*pieces, method="HEAD") == b"HTTP/1.1 200 OK\r\ndate: now\r\na: b\r\n" + line + b"\r\n"


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    sent = composed(b"", status=status)
    assert sent.endswith(b"\r\na: b\r\n\r\n")
    assert b"content-length" not in sent


def test_close_is_said() -> None:
    assert b"connection: close\r\n" in composed(b"x", keep_alive=False)


def test_misuse_is_a_bug() -> None:
    response = Response(method="GET", version="1.1", keep_alive=True)
    with pytest.raises(RuntimeError, match="WAITING"):
        response.body(b"", more=False, date=DATE)
    response.start(200, [(b"content-length", b"1")])
    with pytest.raises(RuntimeError, match="twice"):
        response.start(200, [])
    with pytest.raises(RuntimeError, match="content-length"):
        response.body(b"xy", more=True, date=DATE)
    with pytest.raises(RuntimeError, match="line break"):
        composed(b"", headers=[(b"a", b"b\r\nc: d")])
    with pytest.raises(RuntimeError, match="content-length"):
        composed(b"x", headers=[(b"content-length", b"2")])
    with pytest.raises(RuntimeError, match="status 42"):
        composed(b"", status=42)
    complete = Response(method="GET", version="1.1", keep_alive=True)
    complete.start(200, [])
    complete.body(b"", more=False, date=DATE)
    assert complete.stage is Stage.COMPLETE
    with pytest.raises(RuntimeError, match="COMPLETE"):
        complete.body(b"", more=False, date=DATE)


def test_a_plain_text_answer_closes() -> None:
    sent = plain(413, "too long", date=DATE)
    assert sent.startswith(b"HTTP/1.1 413 ")
    assert sent.endswith(b"content-length: 8\r\nconnection: close\r\n\r\ntoo long")
