"""An HTTP answer whose body is read as it comes, for bodies that do not fit into memory."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from caraway.model import HttpHeaders, HttpRequest


class Pieces(Protocol):
    """A body as it comes."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


class Streamed(Protocol):
    """An answer whose head is here; names of headers are in lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> HttpHeaders: ...

    def body(self) -> Pieces:
        """The body, decoded of content codings, in pieces; SourceError where it breaks off before its end."""
        ...


class Streaming(Protocol):
    """Sends requests with what the dataset's parameters say of credentials, headers, TLS, retries and turns."""

    def stream(self, request: HttpRequest) -> AbstractAsyncContextManager[Streamed]:
        """Any status is an answer, a redirection too; SourceError where there is none.

        `client_timeout` bounds the wait for the head, and for each piece of the body: not the body as a whole. Leaving
        the context before the body's end closes the connection.
        """
        ...

    async def aclose(self) -> None: ...
