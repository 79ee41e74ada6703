"""The pages of one answer: each is sent for, judged by its status, read, and turned to the next one."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import pyarrow as pa
import trio

from caraway import blocking
from caraway.connectors.http.bodies import BodyError, read_body
from caraway.connectors.http.decompose import Layout
from caraway.connectors.http.rows import Exchange, make_batches
from caraway.core.http_retry import retry_after
from caraway.core.http_urls import MOST_REDIRECTIONS, place_of, redirection
from caraway.core.pagination import Pager, Paging, PagingError
from caraway.errors import SourceError
from caraway.model import HttpRequest, HttpResponse, Request
from caraway.ports import Send

INLINE = 128 * 1024
"""Bytes of a body that are read without a thread, in a few milliseconds."""

_AS_GET: Final = {301: ("POST",), 302: ("POST",), 303: ("POST", "PUT", "PATCH", "DELETE")}
"""Which methods a redirection turns into a GET without a body (RFC 9110 15.4)."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page as rows; `at` is when the origin gave it."""

    batches: tuple[pa.RecordBatch, ...]
    at: datetime
    size: int
    """Bytes of the body."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How a dataset's answers are read."""

    dataset: str
    paging: Paging
    layout: Layout
    limiter: trio.CapacityLimiter
    wall: Callable[[], datetime]

    async def pages(
        self, request: Request, first: HttpRequest, send: Send, columns: Sequence[str]
    ) -> AsyncGenerator[Page, None]:
        """All pages of the answer to `first`, whose rows have these columns. SourceError, for a later page too."""
        pager = Pager(self.paging, first.url)
        while pager.url is not None:
            response, place = await self._answer(replace(first, url=pager.url), send)
            self._judge(response, place, pager)
            at = self.wall() - timedelta(seconds=response.age)
            exchange = Exchange(request, response.status, response.headers, at)
            try:
                document, count, batches = await self._read(response, exchange, columns)
                yield Page(tuple(batches), at, len(response.body))
                if response.status >= 400:
                    return
                pager.turn(links=response.header("link"), document=document, rows=count)
            except BodyError as error:
                raise SourceError(f"{self.dataset}: the answer of {place} {error}") from error
            except PagingError as error:
                raise SourceError(
                    f"{self.dataset}: the answer of {place} {error}",
                    remedy="Ask for less, or set the dataset's pagination_* as the API pages.",
                    transient=False,
                ) from error

    async def _read(
        self, response: HttpResponse, exchange: Exchange, columns: Sequence[str]
    ) -> tuple[object, int, list[pa.RecordBatch]]:
        if len(response.body) <= INLINE:
            return self._rows(response, exchange, columns)
        return await blocking.call(self._rows, response, exchange, columns, limiter=self.limiter)

    def _rows(
        self, response: HttpResponse, exchange: Exchange, columns: Sequence[str]
    ) -> tuple[object, int, list[pa.RecordBatch]]:
        """What the body holds as JSON, how many rows that makes, and the rows."""
        body = read_body(response)
        structured = self.layout.rest is not None
        rows = body.rows(self.paging, structured=structured) if response.status < 400 else body.one()
        return body.document, len(rows.values), make_batches(rows, exchange, self.layout, columns)

    async def _answer(self, request: HttpRequest, send: Send) -> tuple[HttpResponse, str]:
        """The answer, from where the server redirects to as well, and the place that gave it."""
        for _ in range(MOST_REDIRECTIONS + 1):
            response = await send(request)
            place = f"{request.method} {place_of(request.url)}"
            url = self._redirection(request.url, response, place)
            if url is None:
                return response, place
            request = _redirected(request, url, response.status)
        raise SourceError(
            f"{self.dataset}: {place} leads to more than {MOST_REDIRECTIONS} redirections.", transient=False
        )

    def _redirection(self, url: str, response: HttpResponse, place: str) -> str | None:
        try:
            return redirection(url, response.status, response.headers)
        except ValueError as error:
            raise SourceError(
                f"{self.dataset}: {place} leads to another server, which is not to get what is sent with a request.",
                remedy="If it is meant, write its address into `from`.",
                transient=False,
            ) from error

    def _judge(self, response: HttpResponse, place: str, pager: Pager) -> None:
        """Nothing for an answer that is rows, SourceError for one that is none."""
        status = response.status
        if status == 429 or status >= 500:
            raise SourceError(
                f"{self.dataset}: {place} was answered with {status}.",
                remedy=_LIMITED if status == 429 else _TROUBLED,
                retry_after=retry_after(response.headers, self.wall()),
                code=f"Http{status}",
            )
        if status < 200 or 300 <= status < 400:
            raise SourceError(
                f"{self.dataset}: {place} was answered with {status}, which is no answer to a question.",
                remedy="Check the address in `from`.",
                code=f"Http{status}",
            )
        if status >= 400 and pager.number > 1:
            raise SourceError(
                f"{self.dataset}: page {pager.number}, {place}, was answered with {status}; the pages before it are "
                "not the whole answer.",
                code=f"Http{status}",
            )


def _redirected(request: HttpRequest, url: str, status: int) -> HttpRequest:
    if request.method not in _AS_GET.get(status, ()):
        return replace(request, url=url)
    headers = tuple((name, value) for name, value in request.headers if name != "content-type")
    return HttpRequest("GET", url, headers)


_LIMITED = "The API limits how often it is asked; ask less often, or set requests_per_second_limit."
_TROUBLED = "The API has a problem; look there."
