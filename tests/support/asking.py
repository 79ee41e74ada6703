"""SQL over HTTP in numbers: as many queries a second as a test wants, over connections that are kept."""

import time
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import httptools
import trio


@dataclass(slots=True)
class Reply:
    """An answer; `seconds` is how long it took, `status` 0 is none: the connection broke."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0


class _Reader:
    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        self.complete = True


class Asker:
    """`address` is host:port. A connection has one query at a time, and others are opened meanwhile."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        self._idle: deque[trio.SocketStream] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for stream in self._idle:
            await trio.aclose_forcefully(stream)

    async def ask(self, sql: str, **headers: str) -> Reply:
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        body = sql.encode()
        head = f"POST /v1/sql HTTP/1.1\r\nHost: test\r\n{''.join(lines)}Content-Length: {len(body)}\r\n\r\n"
        began = time.monotonic()
        reply = await self._exchange(head.encode() + body)
        reply.seconds = time.monotonic() - began
        return reply

    async def _exchange(self, request: bytes) -> Reply:
        try:
            stream = self._idle.pop() if self._idle else await trio.open_tcp_stream(*self._address)
        except OSError:
            return Reply()
        reader = _Reader()
        parser = httptools.HttpResponseParser(reader)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(request)
            while not reader.complete and (data := await stream.receive_some(65536)):
                parser.feed_data(data)
        if not reader.complete:
            await trio.aclose_forcefully(stream)
            return Reply()
        self._idle.append(stream)
        return Reply(parser.get_status_code(), reader.headers, b"".join(reader.parts))


@dataclass
class Tally:
    """What became of many queries."""

    asked: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    caches: Counter[str] = field(default_factory=Counter)
    """By what `dataset-cache-status` said, without ages."""
    seconds: list[float] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    """The first few answers that were no rows."""

    @property
    def waiting(self) -> int:
        return self.asked - len(self.seconds)

    def note(self, reply: Reply) -> None:
        self.statuses[reply.status] += 1
        said = reply.headers.get("dataset-cache-status", "")
        self.caches[said.partition("; age")[0].partition("; ")[2]] += 1
        self.seconds.append(reply.seconds)
        if reply.status != 200 and len(self.odd) < 5:
            self.odd.append(f"{reply.status}: {reply.body[:300].decode(errors='replace')}")

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def __str__(self) -> str:
        times = " ".join(f"p{share * 100:g} {self.percentile(share) * 1000:.0f} ms" for share in (0.5, 0.99, 1.0))
        return f"{self.asked} asked, {dict(self.statuses)}, {dict(self.caches)}, {times}"


async def ask_steadily(asker: Asker, queries: Iterable[str], *, rate: float, tally: Tally, **headers: str) -> None:
    """Ask each when it is due, whether those before are answered or not."""
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def one(sql: str) -> None:
            tally.note(await asker.ask(sql, **headers))

        for number, sql in enumerate(queries):
            await trio.sleep_until(began + number / rate)
            tally.asked += 1
            nursery.start_soon(one, sql)


async def ask_all(asker: Asker, queries: Iterable[str], *, at_once: int, **headers: str) -> Tally:
    """Ask all, so many at a time."""
    tally, waiting = Tally(), iter(queries)
    async with trio.open_nursery() as nursery:

        async def some() -> None:
            for sql in waiting:
                tally.asked += 1
                tally.note(await asker.ask(sql, **headers))

        for _ in range(at_once):
            nursery.start_soon(some)
    return tally
