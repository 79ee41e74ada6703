"""One response from ASGI messages to bytes, without a socket (RFC 9112 sections 4, 6 and 7).

Waiting ──start──▶ Headed ──body, more──▶ Streaming ──body, last──▶ Complete
                      └──────body, last──────────────────────────▶ Complete
"""

from collections.abc import Iterable
from enum import Enum, auto
from http import HTTPStatus

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus} | {
    499: b"HTTP/1.1 499 Client Closed Request\r\n"
}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

BODILESS = frozenset({204, 304})


class Stage(Enum):
    WAITING = auto()
    HEADED = auto()
    STREAMING = auto()
    COMPLETE = auto()


class Framing(Enum):
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()
    EMPTY = auto()


class Response:
    """Composes the bytes of one response; its misuse by an application raises RuntimeError."""

    __slots__ = ("_framing", "_headers", "_left", "_method", "_version", "keep_alive", "stage", "status")

    def __init__(self, *, method: str, version: str, keep_alive: bool) -> None:
        self._method = method
        self._version = version
        self.keep_alive = keep_alive
        self.stage = Stage.WAITING
        self.status = 0
        self._headers: Iterable[tuple[bytes, bytes]] = ()
        self._framing = Framing.LENGTH
        self._left = -1

    @property
    def truncatable(self) -> bool:
        """Whether a client can't tell that a broken off response is not whole."""
        return self.stage is Stage.STREAMING and self._framing is Framing.UNTIL_CLOSE

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the status and headers; they go out with the first piece of the body."""
        if self.stage is not Stage.WAITING:
            raise RuntimeError("a response was started twice")
        if status not in STATUS_LINES or status < 200:
            raise RuntimeError(f"no final response has status {status}")
        self.status, self._headers = status, headers
        self.stage = Stage.HEADED

    def body(self, data: bytes, *, more: bool, date: bytes) -> bytes:
        """The bytes that a piece of the body makes; `date` is the header line for the head."""
        match self.stage:
            case Stage.HEADED:
                head = self._head(date, None if more else len(data))
                self.stage = Stage.STREAMING if more else Stage.COMPLETE
                return head + self._framed(data, more)
            case Stage.STREAMING:
                self.stage = Stage.STREAMING if more else Stage.COMPLETE
                return self._framed(data, more)
            case Stage.WAITING | Stage.COMPLETE:
                raise RuntimeError(f"a piece of a body came in stage {self.stage.name}")

    def abandon(self, status: int) -> None:
        """Nothing was sent, and another text takes this response's place."""
        self.status, self.stage, self.keep_alive = status, Stage.COMPLETE, False

    def _head(self, date: bytes, length: int | None) -> bytes:
        lines = [STATUS_LINES[self.status], date]
        for name, value in self._headers:
            if b"\n" in value or b"\r" in value:
                raise RuntimeError(f"a line break in header {name!r}")
            if name == b"content-length":
                self._left = int(value)
            lines += (name, b": ", value, b"\r\n")
        lines.append(self._frame(length))
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self._version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _frame(self, length: int | None) -> bytes:
        """Choose how the body is delimited, and the header line that says so."""
        if self.status in BODILESS:
            self._framing = Framing.EMPTY
            return b""
        if self._left >= 0:
            self._framing = Framing.EMPTY if self._method == "HEAD" else Framing.LENGTH
            return b""
        if length is not None:
            self._left = length
            self._framing = Framing.EMPTY if self._method == "HEAD" else Framing.LENGTH
            return b"content-length: %d\r\n" % length
        if self._method == "HEAD":
            self._framing = Framing.EMPTY
            return b""
        if self._version == "1.1":
            self._framing = Framing.CHUNKED
            return b"transfer-encoding: chunked\r\n"
        self._framing = Framing.UNTIL_CLOSE
        self.keep_alive = False
        return b""

    def _framed(self, data: bytes, more: bool) -> bytes:
        match self._framing:
            case Framing.EMPTY:
                return b""
            case Framing.UNTIL_CLOSE:
                return data
            case Framing.CHUNKED:
                chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
                return chunk if more else chunk + b"0\r\n\r\n"
            case Framing.LENGTH:
                self._left -= len(data)
                if self._left < 0 or (not more and self._left):
                    raise RuntimeError("the body is not as long as content-length says")
                return data


def plain(status: int, text: str, *, date: bytes, body: bool = True) -> bytes:
    """A whole response of plain text after which the connection closes."""
    data = text.encode()
    head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(data)
    return STATUS_LINES[status] + date + head + (data if body else b"")
