"""Queries, the workers that answer them, and requests at the doors."""

from dataclasses import dataclass
from typing import ClassVar

from caraway.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class QueryFinished(Event):
    """`failure` is empty on success; `seconds` from admission to the last chunk."""

    level: ClassVar[Level] = Level.DEBUG
    target: ClassVar[str] = "caraway.query"
    sql: str
    protocol: str
    principal: str
    rows: int
    seconds: float
    failure: str = ""
    error: str = ""

    def __str__(self) -> str:
        outcome = f"failed ({self.failure}: {self.error})" if self.failure else f"{self.rows} rows"
        return f"query {outcome} in {self.seconds:.3f}s: {self.sql[:200]}"


@dataclass(frozen=True, slots=True)
class WorkerStarted(Event):
    level: ClassVar[Level] = Level.DEBUG
    target: ClassVar[str] = "caraway.query"
    pid: int
    seconds: float

    def __str__(self) -> str:
        return f"query worker {self.pid} started in {self.seconds:.2f}s"


@dataclass(frozen=True, slots=True)
class WorkerStopped(Event):
    """`reason`: cancelled query, timeout, memory, crash, idle, shutdown."""

    level: ClassVar[Level] = Level.DEBUG
    target: ClassVar[str] = "caraway.query"
    pid: int
    reason: str

    def __str__(self) -> str:
        return f"query worker {self.pid} stopped: {self.reason}"


@dataclass(frozen=True, slots=True)
class WorkerDied(Event):
    """A worker ended by itself: it crashed, or ran out of memory; the query actor starts another."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.query"
    reason: str
    pid: int
    last_words: str

    def __str__(self) -> str:
        said = f": {self.last_words.splitlines()[-1]}" if self.last_words else ""
        return f"query worker {self.pid} died ({self.reason}){said}"


@dataclass(frozen=True, slots=True)
class RequestFinished(Event):
    """One HTTP request or Flight call; `path` is the route template."""

    level: ClassVar[Level] = Level.DEBUG
    target: ClassVar[str] = "caraway.server"
    protocol: str
    method: str
    path: str
    status: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.protocol} {self.method} {self.path} {self.status} in {self.seconds * 1000:.1f}ms"


@dataclass(frozen=True, slots=True)
class RateControlsDiffer(Event):
    """Datasets of one origin set different limits for it; the stricter ones hold."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.http"
    origin: str
    datasets: tuple[str, ...]
    settings: tuple[str, ...]

    def __str__(self) -> str:
        who, what = ", ".join(self.datasets), ", ".join(self.settings)
        return f"the datasets {who} share {self.origin} and set different limits ({what}); the stricter ones hold"


@dataclass(frozen=True, slots=True)
class ServerRequestCrashed(Event):
    """A bug met one request; the server went on."""

    level: ClassVar[Level] = Level.ERROR
    target: ClassVar[str] = "caraway.server"
    protocol: str
    request: str
    error: str
    traceback: str

    def __str__(self) -> str:
        return f"{self.protocol} {self.request}: internal error: {self.error}"
