"""Datasets that are followed, and how far behind they are."""

from dataclasses import dataclass
from typing import ClassVar

from caraway.events.base import Event, Level


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
