"""The four kinds of expected failure; everything else is a bug."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One mistake in a file: where it stands, what was found, what is allowed."""

    message: str
    key: str = ""
    file: Path | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return " ".join(part for part in (place and f"{place}:", self.key and f"{self.key}:", self.message) if part)


class ConfigError(Exception):
    """The operator's mistake; carries every problem found, not the first alone."""

    def __init__(self, *problems: ConfigProblem | str) -> None:
        self.problems = tuple(ConfigProblem(p) if isinstance(p, str) else p for p in problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SourceError(Exception):
    """A remote did not deliver; `transient` says whether trying again can help, `retry_after` (seconds) when."""

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        transient: bool = True,
        retry_after: float | None = None,
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.transient = transient
        self.retry_after = retry_after
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()

    def again(self) -> "SourceError":
        """The same for another task: an error that is raised by several gathers their tracebacks."""
        return SourceError(
            self.message, remedy=self.remedy, transient=self.transient, retry_after=self.retry_after, code=self.code
        )


def unnamed(message: str, dataset: str) -> str:
    """What an error says, for a sentence that names its dataset already."""
    return message.removeprefix(f"{dataset}: ")


class StoreError(Exception):
    """A disk or an engine did not take or give data; `transient` as in SourceError (a full disk is)."""

    def __init__(self, message: str, *, remedy: str = "", transient: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.transient = transient

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class ViolationError(StoreError):
    """Rows that a primary key or a unique index refuses."""


class QueryFailure(Enum):
    """Why a query was not answered; servers map it to a status (reference/http_api.md 1.3, flight_wire.md 3)."""

    INVALID = "invalid"  # parse, plan or execution error: the caller's SQL
    NOT_FOUND = "not_found"  # an unknown table, where the protocol tells it apart
    NOT_READY = "not_ready"  # the first load of a dataset is not done
    FORBIDDEN = "forbidden"  # a write through a read-only context
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    RESOURCES = "resources"  # memory or spill space is used up
    OVERLOADED = "overloaded"  # the queue of waiting queries is full
    UNAVAILABLE = "unavailable"  # the worker died under it, or the daemon is stopping
    SOURCE = "source"  # a federated source failed
    NOT_CACHED = "not_cached"  # the request allowed an answer out of the cache alone (only-if-cached)
    INTERNAL = "internal"


class QueryError(Exception):
    """A query that can't be answered, with the reason servers need to choose a status."""

    def __init__(self, message: str, failure: QueryFailure = QueryFailure.INVALID) -> None:
        super().__init__(message)
        self.message = message
        self.failure = failure
