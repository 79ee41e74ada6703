"""POST /v1/sql (reference/http_api.md 1).

An answer that the results cache has is given at once, where it can be, by the task that reads the request.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias, cast

import orjson

from caraway.core.accept import CONTENT_TYPES, negotiate
from caraway.errors import QueryError, QueryFailure
from caraway.model import CacheReading, CacheReport, Parameters, Principal, Query, ResultFormat
from caraway.ports import Answered, CachingEngine, QueryResult
from caraway.servers.api import cors
from caraway.servers.api.bodies import Bodies
from caraway.servers.api.reply import JSON, PRINCIPAL, Reply, ReplyError, text
from caraway.servers.cache_headers import client_key, directives, reading_lines, report_lines, sharing_lines
from caraway.servers.http1.at_once import Ready
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

PATH = "/v1/sql"
CACHE_CONTROL = b"cache-control"

Lines: TypeAlias = tuple[tuple[bytes, bytes], ...]
Headers: TypeAlias = Mapping[bytes, bytes]
"""Of a request, by lower-case name."""

USUAL_FORMATS = {b"": ResultFormat.JSON, b"*/*": ResultFormat.JSON} | {
    name.encode(): format_ for format_, name in CONTENT_TYPES.items()
}
"""What most clients accept; the rest is negotiated."""

RETRY = frozenset({QueryFailure.OVERLOADED, QueryFailure.UNAVAILABLE})

FLUSH_BYTES = 16 * 1024
"""What an answer gathers before it goes out: a small one leaves whole, with its length and in one write."""


class SqlRoute:
    """Runs the statement of a request's body and streams the answer."""

    def __init__(self, engine: CachingEngine, bodies: Bodies) -> None:
        self._engine = engine
        self._bodies = bodies

    def at_once(self, headers: Headers, body: bytes, principal: Principal, more: Lines) -> Ready | None:
        """A cached answer with `more` lines in its header; None for all else, errors too, which `__call__` tells."""
        try:
            query = _query(headers, body, principal)
        except ReplyError:
            return None
        # A refusal of the cache is counted, so it must be asked for once: over there, where it can be told.
        answered = None if query.directives.only_if_cached else self._engine.peek(query)
        if answered is None:
            return None
        whole = _body(answered)
        told = _wire(reading_header(answered.readings)) if answered.readings else b""
        return Ready(
            PATH,
            b"%b%bcontent-length: %d\r\n\r\n" % (_wire_head(query.format, answered.report, more), told, len(whole)),
            whole,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._bodies.read(receive) as body:
            query = _query(values_of(scope["headers"]), body, scope[PRINCIPAL])
            try:
                answered = self._engine.peek(query)
                if answered is None:
                    await self._execute(query, send)
                else:
                    out = Outflow(send, _header(query.format, answered.report, answered.readings))
                    await out.put(_body(answered))
                    await out.end()
            except QueryError as error:
                raise ReplyError(failure(error)) from error

    async def _execute(self, query: Query, send: Send) -> None:
        async with self._engine.execute(query) as result:
            await _stream(result, Outflow(send, _header(query.format, result.report, result.readings)))


def values_of(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """The first value of each header; of Cache-Control, which is a list, all that came."""
    found = dict(reversed(headers))
    if CACHE_CONTROL in found:
        found[CACHE_CONTROL] = b", ".join(value for name, value in headers if name == CACHE_CONTROL)
    return found


def _query(headers: Headers, body: bytes, principal: Principal) -> Query:
    """What a request asks for; ReplyError 400 for a body without a statement."""
    sql, parameters = statement(headers.get(b"content-type", b""), body)
    accept = headers.get(b"accept", b"")
    control, key = headers.get(CACHE_CONTROL), headers.get(b"spice-cache-key")
    return Query(
        sql,
        parameters,
        USUAL_FORMATS.get(accept) or negotiate(accept.decode("latin-1")),
        principal,
        protocol="http",
        directives=directives(None if control is None else control.decode("latin-1")),
        cache_key=client_key(None if key is None else key.decode("latin-1")),
    )


def _body(answered: Answered) -> bytes:
    return b"".join(cast("Iterable[bytes]", answered.chunks))


@lru_cache(maxsize=256)
def report_header(format_: ResultFormat, report: CacheReport) -> Lines:
    """The lines of an answer that are the same for all of its format and report."""
    told = (*report_lines(report), *sharing_lines(report))
    return (b"content-type", CONTENT_TYPES[format_].encode()), *_encoded(told)


def reading_header(readings: Iterable[CacheReading]) -> Lines:
    return tuple(_encoded(reading_lines(readings)))


def _encoded(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[bytes, bytes]]:
    return ((name.encode(), value.encode()) for name, value in lines)


def _header(format_: ResultFormat, report: CacheReport, readings: Iterable[CacheReading]) -> Lines:
    return (*report_header(format_, report), *reading_header(readings))


@lru_cache(maxsize=256)
def _wire_head(format_: ResultFormat, report: CacheReport, more: Lines) -> bytes:
    return _wire(cors.merged(report_header(format_, report), more))


def _wire(lines: Lines) -> bytes:
    return b"".join(b"%b: %b\r\n" % line for line in lines)


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


class Outflow:
    """An answer on its way out, in pieces of at least FLUSH_BYTES but for the last."""

    def __init__(self, send: Send, headers: Lines) -> None:
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
