"""Datasets that are fetched, and what is removed of them."""

from dataclasses import dataclass
from typing import ClassVar

from caraway.errors import unnamed
from caraway.events.base import Event, Level


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
        told = f"Failed to refresh dataset {self.dataset}: {unnamed(self.error, self.dataset)}"
        return told if self.retry_in is None else f"{told.rstrip('.')}; next attempt in {self.retry_in:.1f}s"


@dataclass(frozen=True, slots=True)
class RefreshScheduled(Event):
    level: ClassVar[Level] = Level.DEBUG
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.dataset}: Waiting {self.seconds:.0f}s until next refresh"


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
