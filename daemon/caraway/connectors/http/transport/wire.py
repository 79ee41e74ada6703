"""Exchanges over pooled connections (HTTP/1.1), each bounded in time."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from caraway import __version__
from caraway.connectors.http.transport import failures
from caraway.connectors.http.transport.coding import ACCEPTED, CodingError, decoded, decoder_of
from caraway.connectors.http.transport.options import TransportOptions
from caraway.core.http_urls import place_of
from caraway.model import HttpHeaders, HttpRequest

if TYPE_CHECKING:
    import httpcore2

AGENT = f"caraway/{__version__}"


class Answer:
    """An answer whose head is here; its body is read once, in pieces or whole, and within the exchange."""

    def __init__(self, status: int, headers: HttpHeaders, pieces: AsyncIterator[bytes], patience: "Patience") -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces
        self._patience = patience

    def body(self) -> "_Timed":
        """In pieces without codings, each within the time for one; ExchangeError."""
        return _Timed(self._pieces, self._patience)

    @property
    def age(self) -> float:
        """What the exchange took so far, in seconds; what the origin says of it (Age, Date) is added by the cache."""
        return trio.current_time() - self._patience.began

    async def read(self, limit: int) -> bytes:
        """All of it within the time for the exchange, no more than `limit` bytes; ExchangeError."""
        parts: list[bytes] = []
        try:
            with trio.move_on_at(self._patience.until):
                await self._gather(parts, limit)
                return b"".join(parts)
            raise self._patience.over()
        finally:
            parts.clear()  # the traceback of an error would hold them for as long as somebody has the error

    async def _gather(self, parts: list[bytes], limit: int) -> None:
        size = 0
        async for piece in self._pieces:
            parts.append(piece)
            size += len(piece)
            if size > limit:
                raise failures.oversized(self._patience.place, limit)


class Patience:
    """How long an exchange may take, from when it began."""

    def __init__(self, place: str, seconds: float) -> None:
        self.place = place
        self.seconds = seconds
        self.began = trio.current_time()
        self.until = self.began + seconds

    def over(self) -> failures.ExchangeError:
        return failures.slow(self.place, self.seconds)


class _Timed(AsyncIterator[bytes]):
    """Each piece within so many seconds. No generator: who stops in mid-body leaves none behind."""

    def __init__(self, pieces: AsyncIterator[bytes], patience: Patience) -> None:
        self._pieces = pieces
        self._patience = patience

    async def __anext__(self) -> bytes:
        with trio.move_on_after(self._patience.seconds):
            return await anext(self._pieces)
        raise self._patience.over()

    async def aclose(self) -> None:
        """Nothing is left to do: the end of the exchange closes what was not read."""


class Wire:
    """The connections of one dataset; `backend` opens them, TCP by default."""

    def __init__(self, options: TransportOptions, backend: "httpcore2.AsyncNetworkBackend | None" = None) -> None:
        self._options = options
        self._backend = backend
        self._pool: httpcore2.AsyncConnectionPool | None = None

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[Answer]:
        """Send a request as it is and wait for the head of the answer; ExchangeError."""
        patience = Patience(place_of(request.url), self._options.client_timeout)
        try:
            encoded = _encode(request, self._options.connect_timeout)
        except UnicodeEncodeError:
            raise failures.unsendable(patience.place, "a header has characters that headers can't have") from None
        response = await self._head(encoded, patience)
        try:
            coded = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers)
            async with aclosing(_pieces(response, coded, patience.place)) as pieces:
                yield Answer(response.status, decoded(coded), pieces, patience)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def _head(self, request: "httpcore2.Request", patience: Patience) -> "httpcore2.Response":
        import httpcore2

        try:
            with trio.move_on_at(patience.until):
                return await self._connections().handle_async_request(request)
        except httpcore2.ConnectTimeout:
            raise failures.unconnected(patience.place, self._options.connect_timeout) from None
        except _errors() as error:
            raise failures.explain(patience.place, error) from error
        raise patience.over()

    def _connections(self) -> "httpcore2.AsyncConnectionPool":
        import httpcore2

        if self._pool is None:
            self._pool = httpcore2.AsyncConnectionPool(
                ssl_context=self._options.tls,
                max_connections=None,  # the rate control bounds them
                max_keepalive_connections=self._options.pool_max_idle,
                keepalive_expiry=self._options.pool_idle_timeout,
                network_backend=self._backend,
            )
        return self._pool

    def __repr__(self) -> str:
        return f"<Wire to {self._options.origin}>"


async def _pieces(response: "httpcore2.Response", headers: HttpHeaders, place: str) -> AsyncGenerator[bytes, None]:
    try:
        decoder = decoder_of(headers)
        async with aclosing(response.aiter_stream()) as stream:
            async for data in stream:
                for piece in decoder.feed(data):
                    yield piece
                    await trio.lowlevel.checkpoint()
        decoder.finish()
    except CodingError as error:
        raise failures.garbled(place, str(error)) from None
    except _errors() as error:
        raise failures.explain(place, error) from error


def _encode(request: HttpRequest, connect_timeout: float) -> "httpcore2.Request":
    """As the library takes it. Its own parser of addresses would lose what follows a semicolon."""
    import httpcore2

    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    given = {name for name, _ in request.headers}
    headers = [("host", parts.netloc.rpartition("@")[2]), *request.headers]
    usual = _USUAL if request.body is None else (*_USUAL, _JSON, ("content-length", str(len(request.body))))
    headers += [line for line in usual if line[0] not in given]
    return httpcore2.Request(
        request.method,
        httpcore2.URL(scheme=parts.scheme, host=parts.hostname or "", port=parts.port, target=target),
        headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        content=request.body,
        extensions={"timeout": {"connect": connect_timeout}},
    )


_USUAL = (("user-agent", AGENT), ("accept", "*/*"), ("accept-encoding", ACCEPTED))
_JSON = ("content-type", "application/json")


def _errors() -> tuple[type[Exception], ...]:
    """What an exchange fails with, as far as that is not our mistake."""
    import httpcore2

    library = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException)
    return (*library, OSError, UnicodeError)
