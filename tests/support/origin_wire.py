"""What a test's origin gets and gives, and how it looks on the wire."""

import json as jsons
import socket
import struct
from dataclasses import dataclass, field
from http.client import responses
from urllib.parse import parse_qs

import httptools
import trio

RESET, HALF, GARBAGE, NOTHING = "reset", "half", "garbage", "nothing"
"""Faults: the connection is reset, ends within the body, brings something else than HTTP, or brings nothing at all."""


@dataclass(frozen=True)
class Received:
    """One request; names of headers in lower case."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def places(self) -> tuple[str, ...]:
        """What names it, the most exact first."""
        return tuple(dict.fromkeys(f"{m}{t}" for t in (self.target, self.path) for m in (f"{self.method} ", "")))

    @property
    def parameters(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self.query, keep_blank_values=True).items()}

    @property
    def form(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self.body.decode()).items()}


@dataclass(frozen=True)
class Answer:
    """`body` as it goes out, but for `gzip`, which is done last; `bomb` zeros are added to it before."""

    status: int = 200
    headers: dict[str, str | list[str]] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    fault: str = ""
    gzip: bool = False
    chunked: bool = False
    close: bool = False
    bomb: int = 0

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Name and value of each header line; a list of values is as many lines."""
        listed = {name: [value] if isinstance(value, str) else value for name, value in self.headers.items()}
        return [(name, value) for name, values in listed.items() for value in values]


def answer(
    status=200, *, json=None, body=b"", headers=None, etag=None, last_modified=None, retry_after=None, **rest
) -> Answer:
    """Headers as a mapping; `etag` with its quotes, `last_modified` and `retry_after` as they are to be sent."""
    special = {"etag": etag, "last-modified": last_modified, "retry-after": retry_after}
    named = {name: str(value) for name, value in special.items() if value is not None}
    if json is not None:
        body, named["content-type"] = jsons.dumps(json), "application/json"
    named |= {name.lower(): value for name, value in (headers or {}).items()}
    return Answer(status, named, body.encode() if isinstance(body, str) else body, **rest)


class _Reader:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.target, self.headers, self.body, self.complete = b"", {}, b"", False

    def on_url(self, data: bytes) -> None:
        self.target += data

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


async def read_request(stream: trio.abc.Stream) -> Received | None:
    """The next one (clients here do not pipeline); None where the client left."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    while not reader.complete:
        data = await stream.receive_some(65536)
        if not data:
            return None
        parser.feed_data(data)
    path, _, query = reader.target.decode("latin-1").partition("?")
    return Received(parser.get_method().decode(), path, query, reader.headers, reader.body)


async def write(stream: trio.abc.Stream, given: Answer, *, bodiless: bool) -> None:
    match given.fault:
        case "reset":
            _reset(stream)
        case "garbage":
            await stream.send_all(b"\x15\x03\x01 this is not HTTP\r\n\r\n")
        case "nothing":
            pass
        case _:
            await stream.send_all(_message(given, bodiless=bodiless))


def _message(given: Answer, *, bodiless: bool) -> bytes:
    without = bodiless or given.status in (204, 304)
    framing = {} if without else {"content-length": str(len(given.body))}
    if given.chunked and not without:
        framing = {"transfer-encoding": "chunked"}
    lines = [f"HTTP/1.1 {given.status} {responses.get(given.status, 'Unnamed')}"]
    lines += [f"{name}: {value}" for name, value in [*framing.items(), *given.lines]]
    body = b"" if without else given.body
    if given.chunked and not without:
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    sent = body[: len(body) // 2] if given.fault == HALF else body
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + sent


def _reset(stream: trio.abc.Stream) -> None:
    raw = getattr(stream, "transport_stream", stream)
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.socket.close()
