"""Request bodies in memory, with a bound on all of them together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from caraway.servers.api.reply import ReplyError, text
from caraway.servers.http1.exchange import Receive

TOTAL_BYTES = 256 * 1024**2
"""Two bodies of the greatest size that a request may have."""


class Bodies:
    """Reads bodies whole; one body's limit is the server's, their sum is bounded here."""

    def __init__(self, total: int = TOTAL_BYTES) -> None:
        self._total = total
        self._held = 0

    @asynccontextmanager
    async def read(self, receive: Receive) -> AsyncIterator[bytes]:
        """The body, which counts until the context ends; 400 where it breaks off, 503 where there is no room for it."""
        pieces: list[bytes] = []
        more = True
        try:
            while more:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ReplyError(text(400, "The request's body ended before it was whole."))
                more = event.get("more_body", False)
                pieces.append(event.get("body", b""))
                self._held += len(pieces[-1])
                if self._held > self._total:
                    raise ReplyError(
                        text(503, "Too many large requests at once. Try again.", ((b"retry-after", b"1"),))
                    )
            yield b"".join(pieces)
        finally:
            self._held -= sum(map(len, pieces))
