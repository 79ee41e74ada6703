"""What happened, in the past tense: frozen values that telemetry turns into log lines (and metrics, and spans).

One event stands for one batch, refresh, request or connection; never for a row. No field holds a secret.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class Level(IntEnum):
    TRACE = 5
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Event:
    """`target` is the log target; `__str__` the message for a human."""

    level: ClassVar[Level] = Level.INFO
    target: ClassVar[str] = "caraway"


@dataclass(frozen=True, slots=True)
class DaemonStarted(Event):
    """`output_level` is the pod's; the log follows it where nothing else says how much to log."""

    pod: str
    version: str
    output_level: str = "info"

    def __str__(self) -> str:
        return f"caraway {self.version} runs pod {self.pod!r}"


@dataclass(frozen=True, slots=True)
class DaemonStopping(Event):
    """It takes no more requests; those in flight get `seconds`."""

    seconds: float

    def __str__(self) -> str:
        return f"Stopping: requests in flight get {self.seconds:.0f}s (a second signal ends them now)"


@dataclass(frozen=True, slots=True)
class DaemonStopped(Event):
    def __str__(self) -> str:
        return "Stopped."


@dataclass(frozen=True, slots=True)
class ServerListening(Event):
    server: str
    address: str

    def __str__(self) -> str:
        return f"{self.server} listening on {self.address}"


@dataclass(frozen=True, slots=True)
class AllReady(Event):
    def __str__(self) -> str:
        return "All components are loaded. caraway is ready!"


@dataclass(frozen=True, slots=True)
class ConfigWarned(Event):
    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.config"
    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(frozen=True, slots=True)
class ApiKeyUnusable(Event):
    """A key of `runtime.auth.api-key` admits nobody, for what `error` says; told once, until that changes."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.server"
    key: str
    error: str

    def __str__(self) -> str:
        return f"{self.key} admits nobody: {self.error}"


@dataclass(frozen=True, slots=True)
class RefreshStarted(Event):
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    mode: str

    def __str__(self) -> str:
        return f"Loading data for dataset {self.dataset}"


@dataclass(frozen=True, slots=True)
class RefreshFinished(Event):
    """`rows` and `bytes` (Arrow memory) written by this refresh; `seconds` its duration."""

    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    mode: str
    rows: int
    bytes: int
    seconds: float

    def __str__(self) -> str:
        mib = self.bytes / 1024**2
        return f"Loaded {self.rows:,} rows ({mib:.2f} MiB) for dataset {self.dataset} in {self.seconds:.3f}s."


@dataclass(frozen=True, slots=True)
class RefreshSkipped(Event):
    level: ClassVar[Level] = Level.DEBUG
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    mode: str

    def __str__(self) -> str:
        return f"{self.dataset}: source unchanged, nothing fetched"


@dataclass(frozen=True, slots=True)
class RefreshFailed(Event):
    """One failed attempt; `retry_in` None means that no further attempt follows by itself."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    mode: str
    error: str
    retry_in: float | None

    def __str__(self) -> str:
        tail = f"; next attempt in {self.retry_in:.1f}s" if self.retry_in is not None else ""
        return f"Failed to refresh dataset {self.dataset}: {self.error}{tail}"


@dataclass(frozen=True, slots=True)
class RefreshScheduled(Event):
    level: ClassVar[Level] = Level.DEBUG
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.dataset}: Waiting {self.seconds:.0f}s until next refresh"


@dataclass(frozen=True, slots=True)
class StreamConnected(Event):
    """The source has said its first word; `resumed`: it goes on where this copy is."""

    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    resumed: bool

    def __str__(self) -> str:
        return f"Changes stream {'resumed' if self.resumed else 'connected'} for dataset {self.dataset}"


@dataclass(frozen=True, slots=True)
class LocalpodSynchronized(Event):
    """A dataset follows another one of this daemon; in the words of the Spice runtime (reference/spicepod.md 6.11)."""

    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    parent: str

    def __str__(self) -> str:
        return f"Localpod dataset {self.dataset} synchronizing refreshes with parent table {self.parent}"


@dataclass(frozen=True, slots=True)
class StreamSnapshotFinished(Event):
    """A complete copy is served; `bytes` of Arrow memory."""

    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    rows: int
    bytes: int
    seconds: float

    def __str__(self) -> str:
        mib = self.bytes / 1024**2
        return f"Copied {self.rows:,} rows ({mib:.2f} MiB) for dataset {self.dataset} in {self.seconds:.3f}s."


@dataclass(frozen=True, slots=True)
class StreamDisconnected(Event):
    """A connection broke, or was not made: then the source has not said a word."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    error: str
    retry_in: float
    made: bool = True

    def __str__(self) -> str:
        what, told = "ended" if self.made else "not connected", self.error.rstrip(".")
        return f"Changes stream {what} for dataset {self.dataset}: {told}; next attempt in {self.retry_in:.1f}s"


@dataclass(frozen=True, slots=True)
class StreamStillDisconnected(Event):
    """Another attempt failed as the one before it did."""

    level: ClassVar[Level] = Level.DEBUG
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    failures: int
    retry_in: float

    def __str__(self) -> str:
        told = f"Changes stream still not connected for dataset {self.dataset} after {self.failures} attempts"
        return f"{told}; next attempt in {self.retry_in:.1f}s"


@dataclass(frozen=True, slots=True)
class StreamSchemaChanged(Event):
    """The table has the columns that its source has now."""

    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"Dataset {self.dataset} took up its source's columns: {', '.join(self.columns)}"


@dataclass(frozen=True, slots=True)
class DatasetFellBehind(Event):
    """Its copy became older than is acceptable; `lag` in seconds, `problem` as its status tells it, with the remedy."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    lag: float
    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(frozen=True, slots=True)
class DatasetCaughtUp(Event):
    """It is current again, after so many seconds beyond what is acceptable."""

    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    seconds: float

    def __str__(self) -> str:
        return f"Dataset {self.dataset} caught up: it was too far behind for {self.seconds:.1f}s"


@dataclass(frozen=True, slots=True)
class RetentionFinished(Event):
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    rows: int

    def __str__(self) -> str:
        return f"[retention] Evicted {self.rows:,} records for {self.dataset}"


@dataclass(frozen=True, slots=True)
class RetentionBlind(Event):
    """Rows without a time were loaded; told once a dataset."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    column: str
    rows: int

    def __str__(self) -> str:
        rows = f"{self.rows:,} rows of {self.dataset}"
        return f"[retention] {rows} have no {self.column}; retention_period never removes them"


@dataclass(frozen=True, slots=True)
class MessagesRefused(Event):
    """Messages of a stream were left out, for they did not fit the table; `why` is about one of them."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.stream"
    dataset: str
    count: int
    why: str

    def __str__(self) -> str:
        return f"{self.dataset}: {self.count:,} messages were left out; one of them: {self.why}"


@dataclass(frozen=True, slots=True)
class RowsRepeated(Event):
    """Rows came whose sequence is not above what is stored; they were left out."""

    target: ClassVar[str] = "caraway.stream"
    dataset: str
    count: int
    stored: int

    def __str__(self) -> str:
        return (
            f"{self.dataset}: {self.count:,} rows were left out, for their sequence is not above {self.stored}, which "
            "is stored; if the source began to count anew, remove the dataset's files"
        )


@dataclass(frozen=True, slots=True)
class ChildCrashed(Event):
    """A supervised task died of a bug; `restart_in` None: it is quarantined or escalated."""

    level: ClassVar[Level] = Level.ERROR
    target: ClassVar[str] = "caraway.supervise"
    child: str
    error: str
    traceback: str
    restart_in: float | None

    def __str__(self) -> str:
        then = f"restarting in {self.restart_in:.1f}s" if self.restart_in is not None else "giving up on it"
        return f"{self.child} crashed: {self.error}; {then}"


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
