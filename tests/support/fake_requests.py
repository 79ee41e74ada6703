"""An API in memory, as a `RequestSource`: what it answers, when, and whether it fails is what a test says."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product

import pyarrow as pa
import trio

from caraway.core.predicate import And, Compare, In, Literal, Or, all_of
from caraway.errors import QueryError
from caraway.model import Fetched, ReadRequest, Request
from support.dataset_world import wall
from support.fake_source import raise_next

COLUMNS = ("request_path", "request_query", "request_body", "request_headers")
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.utf8(), nullable=False) for name in COLUMNS),
        pa.field("content", pa.utf8(), nullable=False),
        pa.field("response_status", pa.uint16(), nullable=False),
    ]
)
FETCHED = pa.field("_fetched_at", pa.timestamp("ns", "UTC"))


@dataclass(frozen=True)
class Call:
    at: float
    request: Request
    namespace: str
    anew: bool = False


@dataclass
class FakeRequests:
    """`answer` gives the contents for a request; `failures` are raised by the next fetches (None: that one works).

    While `down` is set every fetch fails with it. `age` (seconds) is how old answers are when they come.
    """

    answer: Callable[[Request], Sequence[str]] = lambda request: [f"{request.path}?{request.query}"]
    schema_: pa.Schema = SCHEMA
    down: Exception | None = None
    failures: list[Exception | None] = field(default_factory=list)
    connect_failures: list[Exception | None] = field(default_factory=list)
    delay: float | Callable[[Request], float] = 0.0
    age: float = 0.0
    request_columns: tuple[str, ...] = COLUMNS
    calls: list[Call] = field(default_factory=list)
    connects: list[float] = field(default_factory=list)
    answering: int = 0
    """Which of the calls is being answered, for `answer` to say."""
    cancelled: int = 0
    fetching: int = 0
    most_fetching: int = 0

    async def connect(self) -> "FakeRequests":
        self.connects.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise_next(self.connect_failures)
        return self

    async def schema(self) -> pa.Schema:
        await trio.lowlevel.checkpoint()
        return self.schema_

    @asynccontextmanager
    async def read(self, request: ReadRequest):
        raise NotImplementedError
        yield

    async def version(self) -> None:
        return None

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    # --- requests ----------------------------------------------------------------------------------------------------

    def requests(self, conditions) -> tuple[Request, ...] | None:
        named = [each for condition in conditions if (each := _requests(condition)) is not None]
        if not named:
            return None
        found = tuple(dict.fromkeys(request for each in named for request in each))
        if any(request.path == "/forbidden" for request in found):
            raise QueryError("request_path '/forbidden' is not allowed")
        return found

    async def fetch(self, request: Request, *, namespace: str, anew: bool = False) -> Fetched:
        self.calls.append(Call(round(trio.current_time(), 6), request, namespace, anew))
        number = len(self.calls) - 1
        self.fetching += 1
        self.most_fetching = max(self.most_fetching, self.fetching)
        try:
            await trio.sleep(self.delay(request) if callable(self.delay) else self.delay)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.fetching -= 1
        if self.down is not None:
            raise self.down
        raise_next(self.failures)
        self.answering = number
        at = wall() - timedelta(seconds=self.age)
        return Fetched((self.rows(request, at),), at)

    def rows(self, request: Request, at: datetime) -> pa.RecordBatch:
        known = {
            "request_path": request.path,
            "request_query": request.query,
            "request_body": request.body or "",
            "request_headers": request.headers,
            "response_status": 200,
            "_fetched_at": at.astimezone(UTC),
        }
        rows = [{**known, "content": content} for content in self.answer(request)]
        return pa.RecordBatch.from_pylist(rows, schema=self.schema_)

    # --- what it was asked -------------------------------------------------------------------------------------------

    @property
    def paths(self) -> list[tuple[float, str]]:
        """When it was asked for which path."""
        return [(call.at, call.request.path) for call in self.calls]

    @property
    def asked(self) -> Counter[str]:
        """How often for which path."""
        return Counter(call.request.path for call in self.calls)


def _requests(condition) -> tuple[Request, ...] | None:
    """What the conditions of an AND name; anything else that names a request column is not known here."""
    terms = condition.terms if isinstance(condition, And) else (condition,)
    values = {name: found for term in terms if (named := _values(term)) for name, found in [named] if name in COLUMNS}
    if not values:
        return None
    each = [values.get(name, ("",) if name != "request_body" else (None,)) for name in COLUMNS]
    return tuple(Request(*parts) for parts in product(*each))


def _values(term) -> tuple[str, tuple] | None:
    match term:
        case Compare(name, "=", literal):
            return name, (literal.value,)
        case In(name, literals):
            return name, tuple(literal.value for literal in literals)
        case Or(terms):
            found = [_values(each) for each in terms]
            if all(found) and len({name for name, _ in found}) == 1:
                return found[0][0], tuple(value for _, values in found for value in values)
    return None


# --- conditions ------------------------------------------------------------------------------------------------------


def path(*values: str):
    """A condition on request_path."""
    literals = tuple(Literal(value, "utf8") for value in values)
    return Compare("request_path", "=", literals[0]) if len(literals) == 1 else In("request_path", literals)


def named(**values: str):
    """Conditions on several request columns, by what follows `request_`."""
    return all_of(*(Compare(f"request_{name}", "=", Literal(value, "utf8")) for name, value in values.items()))
