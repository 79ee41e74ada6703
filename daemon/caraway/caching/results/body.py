"""A whole answer, as it is kept and as it is served."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from caraway.caching.results.chunks import Chunk, Chunks
from caraway.model import CacheReading, CacheReport, FlightMessage, ReadingStatus
from caraway.ports import QueryResult


@dataclass(frozen=True, slots=True)
class Served:
    """A `ports.Answered`."""

    schema: FlightMessage
    chunks: Chunks
    rows: int
    report: CacheReport
    readings: tuple[CacheReading, ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """A complete answer whose memory is its own; the ages of `readings` are of `read_at`."""

    schema: FlightMessage
    chunks: Chunks
    rows: int
    readings: tuple[CacheReading, ...] = ()
    read_at: float = 0.0

    def readings_at(self, now: float) -> tuple[CacheReading, ...]:
        """What it was read from, as old as it is now; what was fetched then is not fetched now."""
        passed = now - self.read_at
        return tuple(
            replace(reading, age=reading.age + passed, status=_again(reading.status)) for reading in self.readings
        )

    def served(self, chunks: Chunks, report: CacheReport, readings: tuple[CacheReading, ...]) -> Served:
        """It as an answer, with its chunks unpacked."""
        return Served(self.schema, chunks, self.rows, report, readings)


def _again(status: ReadingStatus) -> ReadingStatus:
    return ReadingStatus.HIT if status is ReadingStatus.MISS else status


class Replay:
    """A whole answer as a `ports.QueryResult`."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._chunks = iter(served.chunks)

    @property
    def schema(self) -> FlightMessage:
        return self._served.schema

    @property
    def rows(self) -> int:
        return self._served.rows

    @property
    def report(self) -> CacheReport:
        return self._served.report

    @property
    def readings(self) -> tuple[CacheReading, ...]:
        return self._served.readings

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


class Passing:
    """Another `ports.QueryResult` that is handed on as it comes, with a report of its own."""

    def __init__(self, result: QueryResult, report: CacheReport) -> None:
        self._result = result
        self._rest = aiter(result)
        self.report = report

    @property
    def schema(self) -> FlightMessage:
        return self._result.schema

    @property
    def rows(self) -> int:
        return self._result.rows

    @property
    def readings(self) -> tuple[CacheReading, ...]:
        return self._result.readings

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._rest
