"""A response cache before a scripted origin, and one runner for tables of behaviours on a virtual clock.

The shape is that of the public suite "cache-tests" (github.com/http-tests/cache-tests), whose names the rows carry: a
behaviour is a row of requests; each says what the origin answers to it if it gets there, and what is expected: that it
is `cached` or `not_cached`, or that the origin is asked with the condition of an ETag or a date.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import trio
from trio.testing import wait_all_tasks_blocked

from caraway.caching.responses.cache import ResponseCache
from caraway.caching.responses.file import ResponseFile
from caraway.core.freshness import Policy
from caraway.core.http_dates import http_date
from caraway.errors import SourceError
from caraway.model import HttpRequest, HttpResponse

BEGINNING = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAUSE = 3.0
BASE = "https://origin.example/things"

CACHED, NOT_CACHED, BY_ETAG, BY_DATE = "cached", "not_cached", "etag_validated", "lm_validated"
ANYHOW = "anyhow"
_CONDITION = {BY_ETAG: "if-none-match", BY_DATE: "if-modified-since"}


def wall() -> datetime:
    return BEGINNING + timedelta(seconds=trio.current_time())


@dataclass(frozen=True)
class Step:
    """One request of a row. Headers are "name: value", with "@-5" for the date five seconds ago by the origin."""

    expect: str
    reply: tuple[str, ...] = ()
    status: int = 200
    body: bytes | None = None
    after: float = PAUSE
    method: str = "GET"
    headers: tuple[str, ...] = ()
    content: bytes | None = None
    path: str = ""
    delay: float = 0.0
    disconnects: bool = False
    behind: bool = False
    """The origin is asked in the background."""
    age: float | None = None
    answer: int | None = None
    """The status that the client gets, where it is not the one above."""
    shows: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()
    """What the origin gets to see of the request."""


@dataclass(frozen=True)
class Row:
    name: str
    steps: tuple[Step, ...]
    policy: Policy = field(default_factory=Policy)


def row(name: str, *steps: Step, **policy: float) -> Row:
    return Row(name, steps, Policy(**policy))


def first(*reply: str, **more) -> Step:
    return Step(ANYHOW, reply, after=0.0, **more)


def cached(*reply: str, **more) -> Step:
    return Step(CACHED, reply, **more)


def not_cached(*reply: str, **more) -> Step:
    return Step(NOT_CACHED, reply, **more)


def by_etag(*reply: str, **more) -> Step:
    return Step(BY_ETAG, reply, **more)


def by_date(*reply: str, **more) -> Step:
    return Step(BY_DATE, reply, **more)


class ScriptedOrigin:
    """Answers each request with what its step says; a request with a condition that holds with 304."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.number = 0
        self.seen: list[tuple[int, HttpRequest]] = []
        self.last: dict[str, str] = {}

    async def send(self, request: HttpRequest) -> HttpResponse:
        step = self.steps[self.number]
        self.seen.append((self.number, request))
        await trio.sleep(step.delay)
        if step.disconnects:
            raise SourceError("origin: the connection was closed.")
        headers = (*_pairs(step.reply), ("served", str(self.number)))
        if "date" not in dict(headers):
            headers = (*headers, ("date", http_date(wall().timestamp())))
        sent, known = dict(request.headers), self.last
        self.last = {**known, **dict(headers)}
        if (
            any(name in sent and sent[name] == known.get(what) for name, what in _VALIDATORS)
            and step.expect in _CONDITION
        ):
            return HttpResponse(304, headers, age=step.delay)
        assert step.expect not in _CONDITION, f"no condition that holds in {sent}, {known}"
        return HttpResponse(step.status, headers, self._body(step), age=step.delay)

    def _body(self, step: Step) -> bytes:
        return step.body if step.body is not None else b"body"


_VALIDATORS = (("if-none-match", "etag"), ("if-modified-since", "last-modified"))


async def play(row: Row, cache_over: Callable[..., ResponseCache], *, namespace: str = "somebody") -> None:
    """Run a row's requests one after the other, and check each answer and what the origin got to see."""
    origin = ScriptedOrigin(row.steps)
    cache = cache_over(origin.send, row.policy)
    for number, step in enumerate(row.steps):
        await trio.sleep(step.after)
        origin.number = number
        body = step.content
        request = HttpRequest(step.method, f"{BASE}/{row.name}{step.path}", _pairs(step.headers), body)
        try:
            answer = await cache.send(request, namespace=namespace)
        except SourceError:
            assert step.disconnects, f"{row.name}: request {number}"
            assert step.expect == NOT_CACHED, f"{row.name}: request {number} failed"
            continue
        await wait_all_tasks_blocked()
        _check(row, number, answer, [request for at, request in origin.seen if at == number])


def _check(row: Row, number: int, answer: HttpResponse, seen: Sequence[HttpRequest]) -> None:
    step, where = row.steps[number], f"{row.name}: request {number}: {answer}"
    failed = step.status >= 500 and step.expect == CACHED
    if step.expect == CACHED:
        assert step.behind or not seen or failed or step.disconnects, f"{where} was sent"
        assert int(answer.header("served")) < number, where
    elif step.expect != ANYHOW:
        assert seen, f"{where} was not sent"
    if step.expect == NOT_CACHED and step.method == "GET" and answer.status != 504:
        assert answer.header("served") == str(number), where
    if condition := _CONDITION.get(step.expect):
        assert condition in dict(seen[0].headers), f"{where} was sent without a condition"
    expected = 200 if step.expect in _CONDITION else step.status
    assert answer.status == (step.answer or expected), where
    for name, value in _pairs(step.shows):
        assert answer.header(name) == value, where
    assert not set(step.hides) & dict(answer.headers).keys(), where
    assert set(_pairs(step.tells)) <= {header for request in seen for header in request.headers}, where
    assert answer.age >= 0, where
    assert step.age is None or answer.age == step.age, where


def _pairs(lines: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = (line.split(": ", 1) for line in lines)
    return tuple((name, _dated(value)) for name, value in pairs)


def _dated(value: str) -> str:
    return http_date(wall().timestamp() + float(value[1:])) if value.startswith("@") else value


class FileStore:
    """A file without its thread, for which a virtual clock would not wait."""

    def __init__(self, file: ResponseFile) -> None:
        self.file = file

    @property
    def held(self):
        return self.file.held()

    async def find(self, key, headers):
        return self.file.find(key, headers)

    async def put(self, key, stored, *, same_body=False):
        self.file.put(key, stored, same_body=same_body)

    async def remove(self, prefix):
        self.file.remove(prefix)

    async def aclose(self):
        self.file.close()


@dataclass
class Origin:
    """Counts what it is asked; `answer` says what to, `delay` how long that takes."""

    answer: Callable[[HttpRequest], HttpResponse | Exception]
    delay: float = 0.0
    asked: list[tuple[float, HttpRequest]] = field(default_factory=list)

    async def send(self, request: HttpRequest) -> HttpResponse:
        began = trio.current_time()
        self.asked.append((began, request))
        await trio.sleep(self.delay)
        answer = self.answer(request)
        if isinstance(answer, Exception):
            raise answer
        return replace(
            answer, headers=(("date", http_date(wall().timestamp())), *answer.headers), age=trio.current_time() - began
        )


def response(*headers: str, status: int = 200, body: bytes = b"body") -> HttpResponse:
    """An answer as `Origin` gives it, with the Date of then."""
    return HttpResponse(status, _pairs(headers), body)


def get(path: str = "/a", *headers: str) -> HttpRequest:
    return HttpRequest("GET", BASE + path, _pairs(headers))


def post(body: bytes, path: str = "/a", *headers: str) -> HttpRequest:
    return HttpRequest("POST", BASE + path, _pairs(headers), body)
