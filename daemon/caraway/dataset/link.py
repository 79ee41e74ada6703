"""An open source that a refresh and any number of queries read from at once, closed by whoever leaves it last."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from caraway.errors import SourceError
from caraway.ports import Source

CLOSING = 5.0
"""Seconds that closing a source may take."""


class Link:
    """A source and its readers; `suspected` is told of the first failure of a reader, with this link."""

    def __init__(self, source: Source, suspected: Callable[["Link", SourceError], None]) -> None:
        self.since = trio.current_time()
        self.served = 0
        """Readers that were done without a failure."""
        self.suspect = False
        self._source = source
        self._suspected = suspected
        self._readers = 0
        self._retired = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Source]:
        """The source, which stays open until the context ends."""
        self._readers += 1
        try:
            yield self._source
            self.served += 1
        except SourceError as error:
            self._fail(error)
            raise
        finally:
            self._readers -= 1
            await self._close_if_unused()

    async def retire(self) -> None:
        """No further use; closed now, or when the last reader is done."""
        self._retired = True
        await self._close_if_unused()

    def _fail(self, error: SourceError) -> None:
        if not self.suspect:
            self.suspect = True
            self._suspected(self, error)

    async def _close_if_unused(self) -> None:
        if self._retired and self._readers == 0:
            with trio.move_on_after(CLOSING, shield=True), suppress(SourceError):
                await self._source.aclose()

    def __repr__(self) -> str:
        return f"<Link {self._source!r} readers={self._readers} suspect={self.suspect} retired={self._retired}>"
