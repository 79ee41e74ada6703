"""What a server has at an address: asked for on condition that it changed, so that it does not come again in vain."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import trio

from caraway import blocking
from caraway.connectors.http.answers import Validators, failure, length_of, next_address, validators
from caraway.connectors.http.copies import Copy, Download
from caraway.connectors.http.streaming import Streamed, Streaming
from caraway.core.http_urls import MOST_REDIRECTIONS, place_of
from caraway.errors import SourceError
from caraway.model import HttpRequest

_PIECE = 1024**2
_DISCARDING = 10.0


class Mirror:
    """Failures are SourceError."""

    def __init__(self, url: str, dataset: str, *, wire: Streaming, directory: Path) -> None:
        self._url = url
        self._dataset = dataset
        self._wire = wire
        self._directory = directory
        self._limiter = trio.CapacityLimiter(1)

    async def look(self, known: Validators) -> Validators:
        """What the server says of the file now; its body is left where it is."""
        async with self._asked(known) as answer:
            return known if _is_same(answer, known) else validators(answer.headers)

    async def fetch(self, known: Copy | None) -> Copy:
        """The file as it is now: `known` where that still is it."""
        async with self._asked(known.validators if known is not None else Validators()) as answer:
            if known is not None and _is_same(answer, known.validators):
                return known
            return await self._downloaded(answer)

    async def aclose(self) -> None:
        await self._wire.aclose()

    @asynccontextmanager
    async def _asked(self, known: Validators) -> AsyncIterator[Streamed]:
        """The server's answer, wherever on it the file is: 200, or 304 where it is what is known."""
        url = self._url
        for _ in range(MOST_REDIRECTIONS + 1):
            async with self._wire.stream(HttpRequest("GET", url, known.conditions)) as answer:
                there = next_address(url, answer.status, answer.headers, self._dataset)
                if there is None:
                    if answer.status != 200 and not (answer.status == 304 and known.conditions):
                        raise failure(answer.status, answer.headers, place_of(url), self._dataset)
                    yield answer
                    return
            url = there
        raise SourceError(
            f"{self._dataset}: {place_of(self._url)} leads from one address to the next without end.",
            remedy="Write the address of the file itself into `from`.",
            transient=False,
        )

    async def _downloaded(self, answer: Streamed) -> Copy:
        at, told = trio.current_time(), validators(answer.headers)
        download = await blocking.call(
            Download, self._directory, length_of(answer.headers), self._dataset, limiter=self._limiter
        )
        try:
            await self._write(answer, download)
            path = await blocking.call(download.finish, limiter=self._limiter)
        except BaseException:
            with trio.move_on_after(_DISCARDING, shield=True):
                await blocking.call(download.discard, limiter=self._limiter)
            raise
        return Copy(path, download.size, told, at)

    async def _write(self, answer: Streamed, download: Download) -> None:
        pending = bytearray()
        async with aclosing(answer.body()) as pieces:
            async for piece in pieces:
                pending += piece
                if len(pending) >= _PIECE:
                    await blocking.call(download.write, bytes(pending), limiter=self._limiter)
                    pending.clear()
        if pending:
            await blocking.call(download.write, bytes(pending), limiter=self._limiter)


def _is_same(answer: Streamed, known: Validators) -> bool:
    """Some servers say so without being able to answer 304."""
    return answer.status == 304 or (known.token is not None and validators(answer.headers).token == known.token)
