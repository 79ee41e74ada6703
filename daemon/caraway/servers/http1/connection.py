"""One connection: a task that reads and parses, and one that answers request after request.

Reading goes on while a request is answered, because that is how a client's leaving is noticed. It pauses while more
requests or more bytes of a body wait than the limits allow.
"""

import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import trio

from caraway.core.http_limits import HttpLimits
from caraway.events import RequestFinished, ServerRequestCrashed
from caraway.ports import Emit
from caraway.servers.http1.at_once import AtOnce, Ready, Rest, not_at_once, whole_request
from caraway.servers.http1.exchange import ROUTE, Application, Exchange, RequestRefusedError, Scope
from caraway.servers.http1.parser import Body, End, Head, Phase, Received, Refused, RequestParser
from caraway.servers.http1.response import Stage, plain
from caraway.servers.http1.stream import TcpStream

READ_BYTES = 64 * 1024
FEED_BYTES = 4 * 1024
"""Parsed at once: it bounds how many tiny pipelined requests exist beyond the limit on them."""

WRITE_BYTES = 64 * 1024
"""Must leave within `write_stall_seconds`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all connections of a server share."""

    app: Application
    limits: HttpLimits
    emit: Emit
    date: Callable[[], bytes]
    scheme: str = "http"
    at_once: AtOnce = not_at_once


class Connection:
    """Serves one stream until either side is done with it."""

    def __init__(self, stream: trio.abc.Stream, around: Surroundings, client: tuple[str, int] | None) -> None:
        self._stream = stream
        self._send_nowait = stream.send_nowait if isinstance(stream, TcpStream) else _takes_nothing
        self._around = around
        self._limits = around.limits
        self._client = client
        self._parser = RequestParser(around.limits)
        self._queue: deque[Exchange | Rest | Refused] = deque()
        self._newest: Exchange | None = None
        self._unfed = memoryview(b"")
        self._buffered = 0
        self._heads = 0
        self._eof = False
        self._draining = False
        self._unread = False
        self._life = trio.CancelScope()
        self._timer = trio.CancelScope()
        self._deadline = inf
        self._since = 0.0
        self._idle_since = trio.current_time()
        self._armed_for: tuple[Phase, int] | None = None
        self._wake_reader: trio.Event | None = None
        self._wake_responder: trio.Event | None = None

    def __repr__(self) -> str:
        return f"Connection({self._client}, {self._parser.phase.name}, {len(self._queue)} requests)"

    async def run(self) -> None:
        """Serve until the connection ends; the stream is closed then."""
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    await self._respond()
                    nursery.cancel_scope.cancel()
                if self._unread:
                    await self._linger()
        finally:
            with trio.move_on_after(self._limits.linger_seconds, shield=True):
                await self._stream.aclose()

    @property
    def idle_since(self) -> float | None:
        """Since when nothing is asked here, not even in part; None while something is."""
        return None if self._queue or self._parser.phase is not Phase.IDLE else self._idle_since

    def cancel(self) -> None:
        """End at once: the request that is being answered is cancelled."""
        self._life.cancel()

    def drain(self) -> None:
        """End after the request that is being answered, or now if there is none."""
        self._draining = True
        if not self._queue:
            self.cancel()

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Receive and parse under a deadline, which moves with what is being waited for.

        The timer is set seldom: a deadline that moves away, as it does with each request, is looked at when the timer
        rings.
        """
        self._deadline = trio.current_time() + self._limits.head_seconds
        while trio.current_time() < self._deadline:
            with trio.CancelScope(deadline=self._deadline) as self._timer:
                await self._receive_all()
                return
        self._time_out()

    async def _receive_all(self) -> None:
        try:
            while True:
                if self._unfed:
                    await self._feed()
                    self._arm()
                self._unfed = memoryview(await self._stream.receive_some(READ_BYTES))
                if not self._unfed:
                    return await self._hung_up()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.cancel()

    async def _feed(self) -> None:
        while self._unfed:
            if len(self._queue) > self._limits.pipelined or self._buffered > self._limits.buffer_bytes:
                await self._wait_room()
            piece, self._unfed = self._unfed[:FEED_BYTES], self._unfed[FEED_BYTES:]
            self._take(self._parser.feed(piece))

    async def _wait_room(self) -> None:
        began = trio.current_time()
        self._deadline = inf
        while len(self._queue) > self._limits.pipelined or self._buffered > self._limits.buffer_bytes:
            self._wake_reader = trio.Event()
            await self._wake_reader.wait()
        self._since += trio.current_time() - began  # the client is not to blame for this time

    def _take(self, events: Sequence[Received]) -> None:
        # Who asks for more before the answer is there takes turns with the others.
        if not (self._queue or self._unfed or self._draining) and (request := whole_request(events)) is not None:
            started = trio.current_time()
            ready = self._ask_at_once(*request)
            if ready is not None:
                self._answer_at_once(ready, request[0].method, started)
                return
        for event in events:
            match event:
                case Head():
                    self._heads += 1
                    self._newest = Exchange(event, self)
                    self._enqueue(self._newest)
                case Body(data) if self._newest is not None:
                    self._buffered += len(data)
                    self._newest.put(data)
                case End() if self._newest is not None:
                    self._newest.end()
                case Refused():
                    self._refuse(event)

    def _ask_at_once(self, head: Head, body: bytes) -> Ready | None:
        """The request border of answers that need no waiting; one that fails is left to the application."""
        try:
            return self._around.at_once(head, body)
        except Exception as error:  # noqa: BLE001
            self._crashed(f"{head.method} {head.path}", error)
            return None

    def _answer_at_once(self, ready: Ready, method: str, started: float) -> None:
        self._heads += 1
        data = ready.wire(self.date)
        sent = self._send_nowait(data)
        if sent < len(data):
            self._enqueue(Rest(memoryview(data)[sent:], method, ready.route, started))
            return
        self._idle_since = started
        self._finished(method, ready.route, "200", started)

    def _enqueue(self, item: Exchange | Rest | Refused) -> None:
        self._queue.append(item)
        if self._wake_responder is not None:
            self._wake_responder.set()

    def _refuse(self, refused: Refused) -> None:
        if self._newest is not None and not self._newest.ended:
            self._newest.refuse(refused)
        else:
            self._enqueue(refused)

    def taken(self, size: int) -> None:
        self._buffered -= size
        self._make_room()

    def _make_room(self) -> None:
        if self._wake_reader is not None:
            self._wake_reader.set()
            self._wake_reader = None

    async def _hung_up(self) -> None:
        """The client closed its sending side. It may still read, so requests get a moment to end by themselves."""
        self._eof = True
        self._deadline = self._timer.deadline = inf
        if self._wake_responder is not None:
            self._wake_responder.set()
        for item in self._queue:
            if isinstance(item, Exchange):
                item.hang_up()
        if self._queue:
            await trio.sleep(self._limits.half_close_seconds)
            self.cancel()

    # --- deadlines ---------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the deadline for the next bytes."""
        now = trio.current_time()
        key = (self._parser.phase, self._heads)
        if key != self._armed_for:
            self._armed_for, self._since = key, now
        match self._parser.phase:
            case Phase.HEAD:
                self._deadline = self._since + self._limits.head_seconds
            case Phase.BODY:
                received = self._newest.received if self._newest is not None else 0
                self._deadline = self._limits.body_deadline(self._since, received, now)
            case Phase.IDLE | Phase.CLOSED:
                self._deadline = inf if self._queue else now + self._limits.idle_seconds
        if self._deadline < self._timer.deadline:  # noqa: PLR1730 - min() would move trio's deadline every time
            self._timer.deadline = self._deadline

    def _time_out(self) -> None:
        match self._parser.phase:
            case Phase.HEAD | Phase.BODY:
                self._refuse(Refused(408, "The request did not arrive in time."))
            case Phase.IDLE | Phase.CLOSED:
                self.cancel()

    # --- answering ---------------------------------------------------------------------------------------------------

    async def _respond(self) -> None:
        while await self._wait_request():
            if not await self._respond_to(self._queue[0]):
                return

    async def _respond_to(self, item: Exchange | Rest | Refused) -> bool:
        """Whether another request can follow."""
        match item:
            case Refused():
                self._finished("-", "*", str(item.status), trio.current_time())
                await self._write_refusal(item)
                return False
            case Rest():
                await self._write_rest(item)
                self._queue.popleft()
                return True
            case Exchange():
                await self._answer(item)
                self._queue.popleft()
                item.drop()
                self._unread = self._unread or not (item.keeps_alive or item.ended)
                return item.keeps_alive

    async def _wait_request(self) -> bool:
        """Whether there is a request to answer; False once none will come."""
        if self._queue:
            await trio.lowlevel.checkpoint()
        elif not (self._eof or self._draining):
            if self._heads:
                self._arm()
            self._idle_since = trio.current_time()
            self._wake_responder = trio.Event()
            await self._wake_responder.wait()
            self._wake_responder = None
        return bool(self._queue)

    async def _answer(self, exchange: Exchange) -> None:
        around = self._around
        scope = exchange.scope(scheme=around.scheme, client=self._client)
        started = trio.current_time()
        status = "499"
        try:
            await self._run_app(exchange, scope)
            whole = exchange.response.stage is Stage.COMPLETE
            status = str(exchange.response.status) if whole else "truncated"
        finally:
            self._finished(exchange.head.method, scope.get(ROUTE, "*"), status, started)

    async def _run_app(self, exchange: Exchange, scope: Scope) -> None:
        """The request border: whatever happens in the application, this connection alone feels it."""
        try:
            await self._around.app(scope, exchange.receive, exchange.send)
        except RequestRefusedError as error:
            await self._end_badly(exchange, error.refused)
        except Exception as error:  # noqa: BLE001
            self._crashed(f"{exchange.head.method} {scope.get(ROUTE, '*')}", error)
            await self._end_badly(exchange, Refused(500, "internal error"))
        else:
            if exchange.response.stage in {Stage.WAITING, Stage.HEADED}:
                await self._end_badly(exchange, Refused(500, "internal error"))
            elif exchange.response.truncatable and isinstance(self._stream, TcpStream):
                self._stream.abort()

    async def _end_badly(self, exchange: Exchange, refused: Refused) -> None:
        """Answer with the refusal where nothing was sent yet; else the response stays truncated."""
        if exchange.response.stage in {Stage.WAITING, Stage.HEADED}:
            exchange.response.abandon(refused.status)
            await self._write_refusal(refused, body=exchange.head.method != "HEAD")
        elif exchange.response.truncatable and isinstance(self._stream, TcpStream):
            self._stream.abort()

    async def _write_refusal(self, refused: Refused, *, body: bool = True) -> None:
        self._unread = True
        await self.write(plain(refused.status, refused.reason, date=self.date, body=body))

    def _finished(self, method: str, route: str, status: str, started: float) -> None:
        self._around.emit(RequestFinished("http", method, route, status, trio.current_time() - started))

    def _crashed(self, request: str, error: Exception) -> None:
        self._around.emit(ServerRequestCrashed("http", request, repr(error), traceback.format_exc()))

    # --- writing -----------------------------------------------------------------------------------------------------

    @property
    def ends(self) -> bool:
        """Whether the response being written is the last one of this connection."""
        return self._draining or (self._eof and len(self._queue) == 1)

    @property
    def date(self) -> bytes:
        return self._around.date()

    async def write(self, data: bytes | memoryview) -> None:
        """Send all of it; where the client is gone or takes nothing, everything about it is cancelled."""
        try:
            sent = self._send_nowait(data)
            if sent < len(data):
                await self._write_slowly(memoryview(data)[sent:])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.cancel()
            await trio.lowlevel.checkpoint()

    async def _write_rest(self, rest: Rest) -> None:
        status = "499"
        try:
            await self.write(rest.data)
            status = "200"
        finally:
            self._finished(rest.method, rest.route, status, rest.started)

    async def _write_slowly(self, data: memoryview) -> None:
        for start in range(0, len(data), WRITE_BYTES):
            with trio.move_on_after(self._limits.write_stall_seconds) as stall:
                await self._stream.send_all(data[start : start + WRITE_BYTES])
            if stall.cancelled_caught:
                self.cancel()
                await trio.lowlevel.checkpoint()

    async def _linger(self) -> None:
        """Close the sending side and read on: closing with unread bytes would reset what the client is to read."""
        with trio.move_on_after(self._limits.linger_seconds):
            try:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                while await self._stream.receive_some(READ_BYTES):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return


def _takes_nothing(_data: bytes | memoryview) -> int:
    return 0
