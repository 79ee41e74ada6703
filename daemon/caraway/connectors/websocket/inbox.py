"""Messages that were received and not yet taken, bounded in bytes."""

import trio

from caraway.connectors.websocket.frames import Message
from caraway.errors import SourceError

MOST_BYTES = 1024 * 1024


class Inbox:
    """One task puts, one takes all there is; a single message may be larger than the bound."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._size = 0
        self._over: SourceError | None = None
        self._ended = False
        self._changed = trio.Event()

    async def put(self, message: Message) -> None:
        """Waits while the bound is reached."""
        while self._size >= MOST_BYTES:
            await self._changed.wait()
        self._messages.append(message)
        self._size += len(message)
        self._tell()

    def end(self, error: SourceError | None) -> None:
        """Nothing more comes: because of an error, or because the peer is done."""
        self._ended, self._over = True, error
        self._tell()

    async def take(self) -> list[Message]:
        """All that is there, at least one; empty at the end, unless it is the error that the end was."""
        while not self._messages and not self._ended:
            await self._changed.wait()
        if not self._messages and self._over is not None:
            raise self._over
        taken, self._messages, self._size = self._messages, [], 0
        self._tell()
        return taken

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<Inbox {len(self._messages)} messages, {self._size} bytes{', ended' if self._ended else ''}>"
