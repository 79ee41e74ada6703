"""A query engine that answers from a table of SQL texts, and the services around it."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from caraway.config.model import Acceleration, ApiKeyAuth, CatalogDecl, Dataset, Engine, FromUri, Runtime, Spicepod
from caraway.errors import QueryError
from caraway.events import Event
from caraway.latest import Latest
from caraway.model import (
    Append,
    CacheReading,
    CacheReport,
    DatasetStatus,
    Endpoints,
    FlightMessage,
    Position,
    Query,
    RefreshOverrides,
    ResultsCacheStatistics,
    Secret,
    Written,
)
from caraway.servers.auth import Authenticator
from caraway.servers.services import Readiness, Services

NO_REPORT = CacheReport()


@dataclass
class Script:
    """Chunks in order; a QueryError among them is raised there, a number is seconds to wait."""

    chunks: Sequence[bytes | float | QueryError]
    report: CacheReport = NO_REPORT
    readings: tuple[CacheReading, ...] = ()


class FakeResult:
    def __init__(self, script: Script) -> None:
        self._chunks = iter(script.chunks)
        self.rows = 0
        self.report = script.report
        self.readings = script.readings

    @property
    def schema(self) -> FlightMessage:
        return FlightMessage(b"", b"")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        for chunk in self._chunks:
            if isinstance(chunk, QueryError):
                raise chunk
            if isinstance(chunk, bytes):
                return chunk
            await trio.sleep(chunk)
        raise StopAsyncIteration


class FakeEngine:
    """`answers` by SQL text: a Script, or a QueryError raised at once. Remembers queries and cancellations."""

    def __init__(self, answers: Mapping[str, Script | QueryError] | None = None) -> None:
        self.answers = dict(answers or {})
        self.queries: list[Query] = []
        self.cancelled = 0
        self.cached: dict[str, Any] = {}
        """`ports.Answered` by SQL text, for `peek`."""
        self.peeked: list[Query] = []
        self.refuses: QueryError | None = None
        """What `peek` raises of a query that must come out of the cache."""

    def peek(self, query: Query) -> Any:
        self.peeked.append(query)
        if self.refuses is not None and query.directives.only_if_cached:
            raise self.refuses
        return self.cached.get(query.sql)

    @asynccontextmanager
    async def execute(self, query: Query) -> AsyncIterator[FakeResult]:
        await trio.lowlevel.checkpoint()
        self.queries.append(query)
        answer = self.answers.get(query.sql, Script([b"[]"]))
        if isinstance(answer, QueryError):
            raise answer
        try:
            yield FakeResult(answer)
        except trio.Cancelled:
            self.cancelled += 1
            raise

    async def plan(self, query: Query) -> FlightMessage:
        raise NotImplementedError

    async def table_schema(self, name: str) -> FlightMessage:
        raise NotImplementedError


@dataclass
class FakeDataset:
    config: Dataset
    status: Latest[DatasetStatus]
    fails: Exception | None = None
    requests: list[RefreshOverrides] = field(default_factory=list)
    refresh_sqls: list[str] = field(default_factory=list)
    log: Latest = field(default_factory=lambda: Latest(None))
    writes: list = field(default_factory=list)
    now: DatasetStatus | None = None
    """What `current` tells, where that is not what was published."""

    def current(self) -> DatasetStatus:
        return self.now or self.status.value

    async def write(self, changes) -> Written:
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise self.fails
        self.writes.append(tuple(changes))
        rows = sum(change.rows.num_rows for change in changes if isinstance(change, Append))
        return Written(rows, Position("fake", sum(map(len, self.writes))))

    def request_refresh(self, overrides: RefreshOverrides) -> None:
        if self.fails:
            raise self.fails
        self.requests.append(overrides)

    def set_refresh_sql(self, text: str) -> None:
        if self.fails:
            raise self.fails
        self.refresh_sqls.append(text)


def dataset(name: str, *, accelerated: bool = True, source: str = "postgres:public.t") -> FakeDataset:
    connector, _, path = source.partition(":")
    acceleration = Acceleration(engine=Engine.SQLITE) if accelerated else None
    config = Dataset(name, FromUri(connector, path, source), acceleration=acceleration)
    return FakeDataset(config, Latest(DatasetStatus(name)))


class FakeServices:
    """Parts to change between requests; `services` is what the application gets."""

    def __init__(
        self,
        *datasets: FakeDataset,
        runtime: Runtime | None = None,
        keys: tuple[str, ...] | None = None,
        results_cache: Callable[[], ResultsCacheStatistics] = ResultsCacheStatistics,
        http_sources: Callable[[], dict[str, dict[str, float | None]]] = dict,
    ) -> None:
        self.engine = FakeEngine()
        self.datasets = {each.config.name: each for each in datasets}
        self.endpoints = Latest(Endpoints(http="127.0.0.1:8090"))
        self.readiness = Readiness(False)
        self.stopping = False
        self.events: list[Event] = []
        auth = None if keys is None else ApiKeyAuth(keys=keys)
        catalogs = (CatalogDecl("c", FromUri("spice.ai", "", "spice.ai")),)
        configs = tuple(each.config for each in datasets)
        self.services = Services(
            pod=Spicepod("p", "v2", Path(), runtime or Runtime(), datasets=configs, catalogs=catalogs),
            engine=self.engine,
            datasets=self.datasets,
            endpoints=self.endpoints,
            readiness=lambda: self.readiness,
            authenticator=Authenticator(auth, Secret, emit=self.events.append),
            emit=self.events.append,
            shutting_down=lambda: self.stopping,
            results_cache=results_cache,
            http_sources=http_sources,
        )


@dataclass
class AsgiAnswer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    @property
    def text(self) -> str:
        return self.body.decode()


async def ask(
    app: Callable[..., Any], method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> AsgiAnswer:
    """One request to an ASGI application, without a server."""
    from urllib.parse import unquote

    path, _, query = target.partition("?")
    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": unquote(path),
        "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": lines,
        "client": None, "server": None,
    }  # fmt: skip
    answer = AsgiAnswer()

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")
            answer.whole = not message.get("more_body", False)

    await app(scope, receive, send)
    return answer
