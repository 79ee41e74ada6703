"""One request and its response as an ASGI application sees them."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias

import trio

from caraway.servers.http1.parser import Head, Refused
from caraway.servers.http1.response import CONTINUE, Response, Stage

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTE = "caraway.route"
"""The key of the scope under which an application leaves the template of the route that it chose."""


class Wire(Protocol):
    """What an exchange needs of its connection."""

    async def write(self, data: bytes) -> None: ...

    def taken(self, size: int) -> None:
        """The handler took this many buffered bytes of a body."""

    @property
    def date(self) -> bytes: ...

    @property
    def ends(self) -> bool:
        """No further request will be read from this connection."""
        ...


class RequestRefusedError(Exception):
    """The rest of a body does not come, because the client broke a rule; raised from `receive` in the application."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.reason)
        self.refused = refused


class Exchange:
    """The reader puts pieces of the body in; the application takes them by `receive` and answers by `send`."""

    __slots__ = (
        "_changed", "_delivered", "_gone", "_pieces", "_refused", "_to_continue", "_wire", "ended", "head", "received",
        "response",
    )  # fmt: skip

    def __init__(self, head: Head, wire: Wire) -> None:
        self.head = head
        self.ended = not head.has_body
        self.received = 0
        self.response = Response(method=head.method, version=head.version, keep_alive=head.keep_alive)
        self._wire = wire
        self._pieces: list[bytes] = []
        self._delivered = False
        self._to_continue = head.expects_continue
        self._refused: Refused | None = None
        self._gone = False
        self._changed: trio.Event | None = None

    # --- the reader's side -------------------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        self._pieces.append(data)
        self.received += len(data)
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def refuse(self, refused: Refused) -> None:
        self._refused = refused
        self._wake()

    def hang_up(self) -> None:
        """The client is gone, or has at least stopped sending."""
        self._gone = True
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    # --- the application's side --------------------------------------------------------------------------------------

    def scope(self, *, scheme: str, client: tuple[str, int] | None) -> Scope:
        head = self.head
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.version,
            "method": head.method,
            "scheme": scheme,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "client": client,
            "server": None,
        }

    async def receive(self) -> Message:
        """All of the body that has come, else the next piece; after the last one, the client's leaving."""
        while True:
            if self._pieces or (self.ended and not self._delivered):
                return self._piece()
            if self._refused is not None:
                raise RequestRefusedError(self._refused)
            if self._gone:
                return {"type": "http.disconnect"}
            await self._wait_change()

    def _piece(self) -> Message:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._wire.taken(len(data))
        self._delivered = self.ended
        return {"type": "http.request", "body": data, "more_body": not self.ended}

    async def _wait_change(self) -> None:
        if self._to_continue and self.response.stage is Stage.WAITING:
            self._to_continue = False
            await self._wire.write(CONTINUE)
            return
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    async def send(self, message: Message) -> None:
        """Take a part of the response; returns when the kernel has it."""
        response = self.response
        if message["type"] == "http.response.start":
            response.start(message["status"], message.get("headers", ()))
            return
        if response.stage is Stage.HEADED and (self._wire.ends or not self.ended):
            response.keep_alive = False
        more = message.get("more_body", False)
        data = response.body(message.get("body", b""), more=more, date=self._wire.date)
        if data:
            await self._wire.write(data)
        if more:
            await trio.lowlevel.checkpoint()  # a stream that is always ready must not keep the others waiting

    @property
    def keeps_alive(self) -> bool:
        """Whether the next request can follow: the response is whole, and so was the request."""
        return self.response.stage is Stage.COMPLETE and self.response.keep_alive and self.ended

    def drop(self) -> None:
        """Forget what nobody took of the body."""
        self._wire.taken(sum(map(len, self._pieces)))
        self._pieces.clear()
