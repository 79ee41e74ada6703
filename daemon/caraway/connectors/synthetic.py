"""`from: synthetic:<table>`: generated rows for demonstrations, tests and benchmarks, which may grow with the clock."""

import math
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import trio

from caraway.config.model import Dataset, RefreshMode
from caraway.config.params import ConnectorParams
from caraway.connectors.draw import draw, needed_columns
from caraway.connectors.synthetic_rows import TABLES, Rows, Table
from caraway.core.predicate import And, Compare, Literal, Predicate, all_of
from caraway.errors import ConfigError, ConfigProblem
from caraway.model import ReadRequest

BATCH = 65_536
DEFAULT_ROWS = 100_000
DEFAULT_START = datetime(2025, 1, 1, tzinfo=UTC)
MOST_PER_SECOND = 100_000
_PER_MICROSECOND = {"s": 1e-6, "ms": 1e-3, "us": 1.0, "ns": 1e3}


@dataclass(frozen=True, slots=True)
class Growth:
    """Which rows exist when: row i comes at `start + i / rate`; a rate of 0 is a table that stands still.

    A row is the same whenever it's asked for. `rows` is how many the table shows when it is opened: the newest
    ones of a growing table (None: all since `start`), the first ones of a still one.
    """

    rows: int | None
    rate: float
    seed: int
    start: datetime

    @property
    def origin(self) -> int:
        """`start` in microseconds since 1970."""
        return round(self.start.timestamp() * 1e6)

    @property
    def period(self) -> float:
        """Microseconds from a row to the next; a still table has one a second."""
        return 1e6 / (self.rate or 1.0)

    def count(self, now: datetime) -> int:
        """How many rows there are at `now`, row 0 included."""
        if not self.rate:
            return self.rows or 0
        passed = now.timestamp() * 1e6 - self.origin
        return max(0, math.floor(passed / self.period) + 1)

    def first(self, opened: datetime) -> int:
        if not self.rate or self.rows is None:
            return 0
        return max(0, self.count(opened) - self.rows)


class SyntheticSource:
    """A generated table; `now` tells the time that a growing one has grown to."""

    def __init__(self, table: Table, growth: Growth, *, now: Callable[[], datetime], dataset: str) -> None:
        self._table = table
        self._growth = growth
        self._now = now
        self._dataset = dataset
        self._first = growth.first(now())
        self._limiter = trio.CapacityLimiter(1)

    async def schema(self) -> pa.Schema:
        return self._table.schema

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        return self._read(request)

    @asynccontextmanager
    async def _read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        columns = needed_columns(self._table.schema, request, dataset=self._dataset)
        end = self._growth.count(self._now())
        low, high = row_range(request.predicate, self._growth)
        batches = self._batches(max(self._first, low), min(end, high), columns)
        async with aclosing(draw(batches, request, self._limiter, dataset=self._dataset)) as rows:
            yield rows

    def _batches(self, first: int, end: int, columns: tuple[str, ...]) -> Generator[pa.RecordBatch, None, None]:
        growth = self._growth
        for at in range(first, end, BATCH):
            rows = Rows(at, min(at + BATCH, end), growth.seed, growth.origin, growth.period)
            yield self._table.rows(rows, columns)

    async def version(self) -> str | None:
        return f"{self._growth.seed}:{self._first}:{self._growth.count(self._now())}"

    async def aclose(self) -> None:
        pass

    def __repr__(self) -> str:
        return f"SyntheticSource({self._dataset!r}, {self._growth!r})"


_ANY = 2**62


def row_range(predicate: Predicate | None, growth: Growth) -> tuple[int, int]:
    """Row numbers (first, end) outside which `predicate` can't hold; wide by a row or two, so filter all the same."""
    whole = all_of(predicate)
    terms = whole.terms if isinstance(whole, And) else (whole,)
    ranges = [_range_of(term, growth) for term in terms]
    return max(low for low, _ in ranges), min(high for _, high in ranges)


def _range_of(term: Predicate | None, growth: Growth) -> tuple[int, int]:
    match term:
        case Compare("id", op, Literal(int() as value)):
            at = float(value)
        case Compare("time", op, Literal(int() as value, kind)) if kind.startswith("timestamp["):
            unit = kind.removeprefix("timestamp[").split(",")[0].rstrip("]")
            at = (value / _PER_MICROSECOND[unit] - growth.origin) / growth.period
        case _:
            return 0, _ANY
    low = math.floor(at) - 1 if op in {"=", ">", ">="} else 0
    high = math.ceil(at) + 2 if op in {"=", "<", "<="} else _ANY
    return max(0, min(low, _ANY)), max(0, min(high, _ANY))


async def open_synthetic_source(
    dataset: Dataset, params: ConnectorParams, *, now: Callable[[], datetime] | None = None
) -> SyntheticSource:
    """The generated table that `from: synthetic:<table>` names; ConfigError for one that is not there.

    Parameters: `rows` (how many at the beginning), `rate` (rows a second from then on), `seed`, `start` (the moment of
    row 0, ISO 8601). Without a rate a table stands still, except under refresh_mode append.
    """
    name = dataset.from_.path.strip("/").lower() or "orders"
    if name not in TABLES:
        known = f"there is no synthetic table {name!r}; there are {', '.join(TABLES)}"
        raise ConfigError(ConfigProblem(known, f"datasets[{dataset.name}].from"))
    appends = dataset.acceleration is not None and dataset.acceleration.refresh_mode is RefreshMode.APPEND
    growth = _growth(params, rate="10" if appends else "0")
    return SyntheticSource(TABLES[name], growth, now=now or _utc_now, dataset=dataset.name)


def _growth(params: ConnectorParams, *, rate: str) -> Growth:
    per_second = _rate(params, rate)
    start = params.text("start", "")
    rows = params.integer("rows", None if start and per_second else DEFAULT_ROWS)
    if rows is not None and rows < 0:
        raise params.wrong("rows", f"found {rows}; allowed: 0 or more")
    return Growth(rows, per_second, params.integer("seed", 0), _moment(params, start) if start else DEFAULT_START)


def _rate(params: ConnectorParams, default: str) -> float:
    text = params.text("rate", default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST_PER_SECOND:
        raise params.wrong("rate", f"found {text!r}; allowed: a number from 0 to {MOST_PER_SECOND:,}")
    return value


def _moment(params: ConnectorParams, text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise params.wrong("start", f"found {text!r}; allowed: a moment like 2025-01-31T00:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _utc_now() -> datetime:
    return datetime.now(UTC)
