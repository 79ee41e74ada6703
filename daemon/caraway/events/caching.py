"""Datasets that keep the answers of an API (refresh_mode caching)."""

from dataclasses import dataclass
from typing import ClassVar

from caraway.errors import unnamed
from caraway.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class CacheOpened(Event):
    """What an earlier run left, found again."""

    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    entries: int
    rows: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.dataset}: {self.entries:,} answers with {self.rows:,} rows are cached from before"


@dataclass(frozen=True, slots=True)
class CacheSourceFailed(Event):
    """The first failure after a success; those that follow are in the status alone."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    error: str

    def __str__(self) -> str:
        error = unnamed(self.error, self.dataset)
        return f"The source of dataset {self.dataset} fails, and cached answers stand in where they may: {error}"


@dataclass(frozen=True, slots=True)
class CacheSourceRecovered(Event):
    """`seconds` since the first of `failures` in a row."""

    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    seconds: float
    failures: int

    def __str__(self) -> str:
        again = f"The source of dataset {self.dataset} answers again"
        return f"{again}, after {self.failures:,} failures in {self.seconds:.0f}s"


@dataclass(frozen=True, slots=True)
class CacheNotStored(Event):
    """The store took no answers; told once until it takes some again."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    error: str

    def __str__(self) -> str:
        return f"Answers for {self.dataset} are served and not stored: {self.error}"
