"""Requests from bytes, without a socket: llhttp finds the tokens, this decides what is acceptable (RFC 9112).

    IDLE ──first byte──▶ HEAD ──head, no body──▶ IDLE
                          └────head, body──────▶ BODY ──end──▶ IDLE
    any ──Refused, or the end of a request that closes──▶ CLOSED, which takes no more bytes

llhttp stays as strict as it comes: it refuses Content-Length beside Transfer-Encoding, a second Content-Length, folded
headers, bare LF, whitespace before the colon.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

import httptools

from caraway.core.http_limits import HttpLimits

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

WIRE_FACTOR = 8
"""Bytes on the wire for a byte of body: chunk headers of very small chunks, but no endless chunk extensions."""


KNOWN_BYTES = 4 * 1024
"""The longest request that is remembered, one a connection."""


class Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Head:
    """A request's line and header; names lower-case. Without `has_body` nothing more of it follows."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    headers: RawHeaders
    keep_alive: bool
    has_body: bool
    expects_continue: bool


@dataclass(frozen=True, slots=True)
class Body:
    """A piece of the newest request's body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The newest request's body is complete."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The client broke a rule or a limit: answer `status` with `reason`, then close."""

    status: int
    reason: str


Received: TypeAlias = Head | Body | End | Refused


class _RefusalError(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.refused = Refused(status, reason)


class RequestParser:
    """Turns the bytes of one connection into events, however they are cut."""

    def __init__(self, limits: HttpLimits) -> None:
        self.phase = Phase.IDLE
        self._limits = limits
        self._events: list[Received] = []
        self._known: tuple[bytes, Sequence[Received]] = (b"", ())
        self._begin()
        self._llhttp = httptools.HttpRequestParser(self)

    def feed(self, data: bytes | memoryview) -> Sequence[Received]:
        """What these bytes complete; a Refused is the last event there is.

        A client that asks the same again, as those do that poll, is not parsed again: it took two thirds of the time
        of an answer out of a cache.
        """
        if self.phase is not Phase.IDLE:
            return self._parsed(data)
        if data == self._known[0]:
            return self._known[1]
        events = self._parsed(data)
        if self.phase is Phase.IDLE and len(data) <= KNOWN_BYTES:
            self._known = bytes(data), events
        return events

    def _parsed(self, data: bytes | memoryview) -> Sequence[Received]:
        self._take(data)
        events, self._events = self._events, []
        return events

    def _take(self, data: bytes | memoryview) -> None:
        if self.phase is Phase.CLOSED:
            return
        self._wire += len(data)
        try:
            self._check_wire()
            self._llhttp.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._without_upgrade(data[upgrade.args[0] :])
        except (httptools.HttpParserError, _RefusalError) as error:
            self._refuse(error)

    def _check_wire(self) -> None:
        """Bounds on what llhttp swallows without telling: unfinished lines, chunk extensions."""
        if self.phase is Phase.HEAD and self._wire > 2 * self._limits.head_bytes:
            raise _too_large_head(self._limits.head_bytes)
        if self.phase is Phase.BODY and self._wire > WIRE_FACTOR * self._limit + self._limits.head_bytes:
            raise _too_large_body(self._limit)

    def _refuse(self, error: Exception) -> None:
        if self.phase is Phase.CLOSED:
            return  # bytes after a request that said `connection: close`
        self.phase = Phase.CLOSED
        cause = error if isinstance(error, _RefusalError) else error.__context__
        if isinstance(cause, _RefusalError):
            self._events.append(cause.refused)
        else:
            self._events.append(Refused(400, f"Bad request: {error}."))

    def _without_upgrade(self, rest: bytes | memoryview) -> None:
        """Parse the request anew as if it had not asked for another protocol, which a server may (RFC 9110 7.8)."""
        close = not self._keep_alive
        kept = [name + b": " + value for name, value in self._headers if name not in {b"upgrade", b"connection"}]
        head = [self._method.encode() + b" " + self._url + b" HTTP/1.1", *kept, *[b"connection: close"] * close]
        self._llhttp = httptools.HttpRequestParser(self)
        self._take(b"\r\n".join([*head, b"", b""]))
        self._take(rest)

    # --- what llhttp calls -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.HEAD
            self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._method = ""
        self._headers: RawHeaders = []
        self._size = 0
        self._wire = 0
        self._hosts = 0
        self._length = 0
        self._coding = b""
        self._expect = b""
        self._received = 0
        self._limit = 0
        self._keep_alive = True
        self._upgrading = False

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value) + 4)
        if self.phase is Phase.BODY:
            return  # a trailer: read past
        name = name.lower()
        self._headers.append((name, value))
        if len(self._headers) > self._limits.headers:
            raise _RefusalError(431, f"The request has more than {self._limits.headers} headers.")
        match name:
            case b"host":
                self._hosts += 1
            case b"content-length":
                self._length = int(value)
            case b"transfer-encoding":
                self._coding = value.lower()
            case b"expect":
                self._expect = value.lower()
            case _:
                pass

    def on_headers_complete(self) -> None:
        self._method = self._llhttp.get_method().decode("ascii")
        self._keep_alive = self._llhttp.should_keep_alive()
        version = self._llhttp.get_http_version()
        self._check(version)
        path, raw_path, query = _split_target(self._url)
        self._limit = self._limits.body_limit(path)
        if self._length > self._limit:
            raise _too_large_body(self._limit)
        if self._llhttp.should_upgrade():
            self._upgrading = True
            return
        has_body = bool(self._length or self._coding)
        self.phase = Phase.BODY
        self._wire = self._size = 0
        self._events.append(
            Head(
                method=self._method,
                path=path,
                raw_path=raw_path,
                query=query,
                version=version,
                headers=self._headers,
                keep_alive=self._keep_alive,
                has_body=has_body,
                expects_continue=has_body and bool(self._expect),
            )
        )

    def on_body(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._limit:
            raise _too_large_body(self._limit)
        self._events.append(Body(data))

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        if self._length or self._coding:
            self._events.append(End())
        self.phase = Phase.IDLE if self._keep_alive else Phase.CLOSED

    # --- rules -------------------------------------------------------------------------------------------------------

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.head_bytes:
            raise _too_large_head(self._limits.head_bytes)

    def _check(self, version: str) -> None:
        if version not in {"1.0", "1.1"}:
            raise _RefusalError(505, f"HTTP {version} is not spoken here; HTTP/1.1 is.")
        if self._hosts > 1 or (version == "1.1" and not self._hosts):
            raise _RefusalError(400, f"Bad request: one Host header is needed, {self._hosts} came.")
        if self._method == "CONNECT":
            raise _RefusalError(501, "CONNECT is not supported: this is no proxy.")
        if self._coding and (self._coding != b"chunked" or version == "1.0"):
            raise _RefusalError(501, "The only transfer coding for a request is chunked, over HTTP/1.1.")
        if self._expect and self._expect != b"100-continue":
            raise _RefusalError(417, "The only expectation that can be met is 100-continue.")


def _split_target(target: bytes) -> tuple[str, bytes, bytes]:
    """Decoded path, raw path and query of a request target (RFC 9112 3.2)."""
    raw_path, _, query = target.partition(b"?")
    if b"#" in target:
        raise _RefusalError(400, "Bad request: a request target has no fragment.")
    if not raw_path.startswith(b"/") and b"://" in raw_path:
        raw_path = b"/" + raw_path.partition(b"://")[2].partition(b"/")[2]
    try:
        return (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode(), raw_path, query
    except UnicodeDecodeError as error:
        raise _RefusalError(400, "Bad request: the path is not UTF-8.") from error


def _too_large_head(limit: int) -> _RefusalError:
    return _RefusalError(431, f"The request's line and headers are over {limit} bytes.")


def _too_large_body(limit: int) -> _RefusalError:
    advice = "Send less at once, or rows by Arrow Flight DoPut."
    return _RefusalError(413, f"The request's body is over {limit} bytes. {advice}")
