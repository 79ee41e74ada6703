"""The worker's end of a connection: messages in, replies out, and the daemon's closing as the sign to stop."""

import asyncio
import socket
from typing import TypeVar

from caraway.errors import QueryError, QueryFailure
from caraway.query.protocol import Decoder, Message, Reply, encode

T = TypeVar("T")

TOGETHER = 2**16
"""Replies up to this size wait for each other, since each arrival costs the daemon a turn; larger ones go uncopied."""


class Line:
    """One connected, non-blocking socket. asyncio's own streams would copy each reply twice more."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._held = bytearray()

    async def fill(self, talk: "asyncio.Task[None]") -> None:
        """Read until the daemon closes, then cancel `talk`. The daemon sends what it was asked for, so few wait."""
        loop, decoder = asyncio.get_running_loop(), Decoder()
        while count := await loop.sock_recv_into(self._socket, decoder.space()):
            for message in decoder.filled(count):
                self._messages.put_nowait(message)
        talk.cancel()

    async def next(self, kind: type[T]) -> T:
        """The next message, after the daemon has all replies; QueryError if it is of another kind."""
        await self.flush()
        message = await self._messages.get()
        if not isinstance(message, kind):
            raise QueryError(f"{type(message).__name__} came where {kind.__name__} was due", QueryFailure.INTERNAL)
        return message

    async def send(self, message: Reply) -> None:
        """Hand a reply over; a small one leaves with the next large one, or with `flush`. ConnectionError."""
        head, payload = encode(message)
        self._held += head
        if len(self._held) + len(payload) < TOGETHER:
            self._held += payload
            return
        await self.flush()
        await asyncio.get_running_loop().sock_sendall(self._socket, payload)

    async def flush(self) -> None:
        """Let go what was held back."""
        held, self._held = self._held, bytearray()
        if held:
            await asyncio.get_running_loop().sock_sendall(self._socket, held)
