"""Stores of HTTP responses, which are caches: their failures cost answers, and nothing else."""

from dataclasses import dataclass
from typing import ClassVar

from caraway.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class ResponseCacheReset(Event):
    """A file of responses was damaged: it was renamed to `aside`, and a new one takes its place."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    aside: str
    error: str

    def __str__(self) -> str:
        return (
            f"Dataset {self.dataset}: the file of cached responses was damaged ({self.error}) and starts empty; "
            f"the old one is {self.aside}, and may be removed"
        )


@dataclass(frozen=True, slots=True)
class ResponseCacheFailed(Event):
    """A file of responses can't be opened, read or written; told once, until it can be again."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.dataset"
    dataset: str
    path: str
    error: str

    def __str__(self) -> str:
        return (
            f"Dataset {self.dataset}: responses are not cached in {self.path} ({self.error}); "
            "see that its disk has room, that it may be written, and that no other process has it open"
        )
