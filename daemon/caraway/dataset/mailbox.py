"""A mailbox of one: what is posted replaces what waits, since requests to refresh coalesce anyway."""

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Posting never waits and never fails; the reader gets the newest."""

    def __init__(self) -> None:
        self._waiting: T | None = None
        self._posted = trio.Event()

    def post(self, message: T) -> None:
        self._waiting = message
        self._posted.set()

    def take_nowait(self) -> T | None:
        """What waits, if anything does."""
        message, self._waiting = self._waiting, None
        self._posted = trio.Event()
        return message

    async def wait_posted(self) -> None:
        await self._posted.wait()

    def __repr__(self) -> str:
        return f"Mailbox({self._waiting!r})"
