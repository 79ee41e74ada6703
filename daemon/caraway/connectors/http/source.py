"""The source of a dataset that is an API: its rows are the answers to the requests that conditions name."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa
import trio

from caraway.connectors.draw import needed_columns
from caraway.connectors.http.decompose import Layout
from caraway.connectors.http.pages import Page, Reader
from caraway.connectors.http.parallel import in_order
from caraway.connectors.http.urls import Address
from caraway.core.http_policy import RequestPolicy
from caraway.core.http_requests import requests_of
from caraway.core.pagination import Paging
from caraway.core.predicate import Predicate, columns_of
from caraway.errors import QueryError, SourceError, StoreError
from caraway.kernels import filter_batch
from caraway.model import Fetched, HttpRequest, ReadRequest, Request
from caraway.ports import Send

WIDTH = 8
"""Requests of one query that are under way at once."""
MOST_BYTES = 256 * 1024**2
"""Of all pages of one answer that is kept in memory whole."""

_EVERYTHING = Request()
_JSON = "application/json"
_ANEW = ("cache-control", "no-cache")


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Api:
    """What a dataset says of its API."""

    dataset: str
    address: Address
    policy: RequestPolicy
    paging: Paging
    layout: Layout
    content_type: bool = False
    """Whether http_headers name the type of what is posted."""


class HttpSource:
    """`sender` gives the way to the API for a namespace: what is kept of answers on it is kept for that one alone.

    `prove` is called before the first request, until it has once returned.
    """

    def __init__(
        self,
        api: Api,
        sender: Callable[[str], Send],
        close: Callable[[], Awaitable[None]],
        *,
        prove: Callable[[], Awaitable[None]] | None = None,
        wall: Callable[[], datetime] = utc_now,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._api = api
        self._sender = sender
        self._close = close
        self._prove = prove
        self._wall = wall
        self._most_bytes = most_bytes
        self._reader = Reader(api.dataset, api.paging, api.layout, trio.CapacityLimiter(1), wall)

    @property
    def request_columns(self) -> tuple[str, ...]:
        return self._api.layout.request_columns

    def requests(self, conditions: Sequence[Predicate | None]) -> tuple[Request, ...] | None:
        try:
            return self._named(conditions)
        except QueryError as error:
            raise QueryError(f"Dataset {self._api.dataset}: {error.message}") from error

    def _named(self, conditions: Sequence[Predicate | None]) -> tuple[Request, ...] | None:
        policy, columns = self._api.policy, self._api.layout.request_columns
        for column in columns:
            if any(column in columns_of(condition) for condition in conditions):
                policy.check_column(column)
        requests = requests_of(conditions, columns, limit=policy.max_requests)
        for request in requests or ():
            policy.check(request)
        return requests

    async def fetch(self, request: Request, *, namespace: str, anew: bool = False) -> Fetched:
        await self._proven()
        batches: list[pa.RecordBatch] = []
        at, size = self._wall(), 0
        async with aclosing(self._pages(request, namespace, self._api.layout.schema.names, anew=anew)) as pages:
            async for page in pages:
                batches.extend(page.batches)
                at, size = min(at, page.at), size + page.size
                self._check_size(size)
        return Fetched(tuple(batches), at)

    async def schema(self) -> pa.Schema:
        return self._api.layout.schema

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        return self._read(request)

    @asynccontextmanager
    async def _read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        columns = needed_columns(self._api.layout.schema, request, dataset=self._api.dataset)
        asked = self._asked(request)
        await self._proven()
        each = [partial(self._rows, one, request, columns or self._api.layout.schema.names[:1]) for one in asked]
        async with (
            in_order(each, width=WIDTH, first=None if request.limit is None else 1) as batches,
            aclosing(_limited(batches, request.limit)) as rows,
        ):
            yield rows

    async def version(self) -> str | None:
        return None

    async def aclose(self) -> None:
        await self._close()

    def _asked(self, request: ReadRequest) -> tuple[Request, ...]:
        """The requests of a query, or of a refresh."""
        asked = self.requests(request.each) if request.each else self._refreshed(request.predicate)
        return asked if asked is not None else (_EVERYTHING,)

    def _refreshed(self, predicate: Predicate | None) -> tuple[Request, ...] | None:
        """A refresh has no caller who could be told of a QueryError."""
        try:
            return self._named((predicate,))
        except QueryError as error:
            raise SourceError(
                f"{self._api.dataset}: refresh_sql can't be asked of the API: {error.message}", transient=False
            ) from error

    async def _rows(
        self, request: Request, asked: ReadRequest, columns: Sequence[str]
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """The rows of one request that are asked for."""
        async with aclosing(self._pages(request, asked.principal.id, columns)) as pages:
            async for page in pages:
                for batch in self._filtered(page, asked.predicate):
                    if batch.num_rows:
                        yield batch if asked.columns is None else batch.select(list(asked.columns))

    def _filtered(self, page: Page, predicate: Predicate | None) -> list[pa.RecordBatch]:
        try:
            return [filter_batch(batch, predicate) for batch in page.batches]
        except StoreError as error:
            raise SourceError(f"{self._api.dataset}: {error.message}", remedy=error.remedy, transient=False) from error

    def _pages(
        self, request: Request, namespace: str, columns: Sequence[str], *, anew: bool = False
    ) -> AsyncGenerator[Page, None]:
        # An API may answer by a header without naming it in Vary, so that requests with other headers share nothing.
        send = self._sender(f"{namespace} {request.headers}" if request.headers else namespace)
        first = self._first(request)
        asked = replace(first, headers=(*first.headers, _ANEW)) if anew else first
        return self._reader.pages(request, asked, send, columns)

    def _first(self, request: Request) -> HttpRequest:
        """The first page. It is judged here too: an earlier configuration may have stored the request."""
        try:
            self._api.policy.check(request)
            headers = self._api.policy.read_headers(request.headers) if request.headers else ()
        except QueryError as error:
            raise SourceError(
                f"{self._api.dataset}: a request is no longer allowed: {error.message}", transient=False
            ) from error
        url = self._api.address.below(request.path, request.query)
        if request.body is None:
            return HttpRequest("GET", url, headers)
        named = self._api.content_type or any(name == "content-type" for name, _ in headers)
        typed = headers if named else (*headers, ("content-type", _JSON))
        return HttpRequest("POST", url, typed, request.body.encode())

    def _check_size(self, size: int) -> None:
        if size > self._most_bytes:
            raise SourceError(
                f"{self._api.dataset}: an answer has more than {self._most_bytes:,} bytes in all its pages.",
                remedy="Ask for less at a time.",
                transient=False,
            )

    async def _proven(self) -> None:
        """Ask the health probe where that was put off, until it has once been answered well."""
        if self._prove is not None:
            await self._prove()
            self._prove = None

    def __repr__(self) -> str:
        return f"HttpSource({self._api.dataset!r} at {self._api.address})"


async def _limited(
    batches: AsyncGenerator[pa.RecordBatch, None], limit: int | None
) -> AsyncGenerator[pa.RecordBatch, None]:
    left = limit
    while left is None or left > 0:
        batch = await anext(batches, None)
        if batch is None:
            return
        rows = batch if left is None else batch.slice(0, left)
        left = left if left is None else left - rows.num_rows
        yield rows
