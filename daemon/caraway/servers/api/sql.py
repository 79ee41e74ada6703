"""POST /v1/sql (reference/http_api.md 1)."""

from typing import TypeAlias

import orjson

from caraway.core.accept import CONTENT_TYPES, negotiate
from caraway.errors import QueryError, QueryFailure
from caraway.model import Parameters, Query, ResultFormat
from caraway.ports import QueryEngine, QueryResult
from caraway.servers.api.bodies import Bodies
from caraway.servers.api.reply import JSON, PRINCIPAL, Reply, ReplyError, header, text
from caraway.servers.http1.exchange import Receive, Scope, Send

STATUS = {
    QueryFailure.INVALID: 400,
    QueryFailure.NOT_FOUND: 400,
    QueryFailure.NOT_READY: 400,
    QueryFailure.FORBIDDEN: 403,
    QueryFailure.CANCELLED: 499,
    QueryFailure.TIMEOUT: 504,
    QueryFailure.RESOURCES: 503,
    QueryFailure.OVERLOADED: 503,
    QueryFailure.UNAVAILABLE: 503,
    QueryFailure.SOURCE: 400,
    QueryFailure.NOT_CACHED: 504,
    QueryFailure.INTERNAL: 500,
}

Headers: TypeAlias = list[tuple[bytes, bytes]]

RETRY = frozenset({QueryFailure.OVERLOADED, QueryFailure.UNAVAILABLE})

FLUSH_BYTES = 16 * 1024
"""What an answer gathers before it goes out: a small one leaves whole, with its length and in one write."""


class SqlRoute:
    """Runs the statement of a request's body and streams the answer."""

    def __init__(self, engine: QueryEngine, bodies: Bodies) -> None:
        self._engine = engine
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._bodies.read(receive) as body:
            sql, parameters = statement(header(scope, b"content-type") or b"", body)
            accept = (header(scope, b"accept") or b"").decode("latin-1")
            query = Query(sql, parameters, negotiate(accept), scope[PRINCIPAL], protocol="http")
            try:
                async with self._engine.execute(query) as result:
                    await _stream(result, Outflow(send, _head(query.format)))
            except QueryError as error:
                raise ReplyError(failure(error)) from error


def failure(error: QueryError) -> Reply:
    """The error's text with the status of 1.3."""
    retry = ((b"retry-after", b"1"),) if error.failure in RETRY else ()
    return text(STATUS[error.failure], error.message, retry)


def statement(content_type: bytes, body: bytes) -> tuple[str, Parameters]:
    """The SQL text and parameters of a body: raw text, or `{"sql": .., "parameters": [..] | {..}}`; else 400."""
    if content_type.partition(b";")[0].strip().lower() == JSON.encode():
        sql, parameters = _from_json(body)
    else:
        sql, parameters = _decoded(body), ()
    if not sql.strip():
        raise ReplyError(text(400, "The body holds no SQL statement."))
    return sql, parameters


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ReplyError(text(400, f"The SQL text is not UTF-8: {error.reason} at byte {error.start}.")) from error


def _from_json(body: bytes) -> tuple[str, Parameters]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ReplyError(text(400, f"The body is not JSON: {error}.")) from error
    if not isinstance(value, dict) or not isinstance(value.get("sql"), str):
        raise ReplyError(text(400, 'The JSON body has the form {"sql": "..", "parameters": [..] or {..}}.'))
    unknown = sorted(value.keys() - {"sql", "parameters"})
    if unknown:
        keys = ", ".join(unknown)[:200]
        raise ReplyError(text(400, f"The JSON body has unknown keys ({keys}); sql and parameters are known."))
    match value.get("parameters"):
        case None:
            return value["sql"], ()
        case list() as positional:
            return value["sql"], tuple(positional)
        case dict() as named:
            return value["sql"], named
        case _:
            raise ReplyError(text(400, "parameters is an array ($1, $2, ..) or an object (:name)."))


async def _stream(result: QueryResult, out: "Outflow") -> None:
    """Send the chunks as they come. A failure after the head went out leaves the answer without an end."""
    try:
        async for chunk in result:
            assert isinstance(chunk, bytes)
            await out.put(chunk)
    except QueryError:
        if out.begun:
            return
        raise
    await out.end()


def _head(format_: ResultFormat) -> Headers:
    """The header of an answer; the results cache will add its lines here."""
    return [(b"content-type", CONTENT_TYPES[format_].encode())]


class Outflow:
    """An answer on its way out, in pieces of at least FLUSH_BYTES but for the last."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self.begun = False
        self._send = send
        self._headers = headers
        self._pieces: list[bytes] = []
        self._size = 0

    async def put(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= FLUSH_BYTES:
            await self._flush(more=True)

    async def end(self) -> None:
        await self._flush(more=False)

    async def _flush(self, *, more: bool) -> None:
        if not self.begun:
            self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
