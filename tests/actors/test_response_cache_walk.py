"""A random walk: an origin that changes its mind, clients that ask at any time, and what must hold whatever happens.

The origin remembers every answer that it gave or confirmed: when, and what it allowed. An answer that a client gets
says which of them it is, and is judged by that alone.
"""

import random
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from caraway.caching.responses.cache import ResponseCache
from caraway.caching.responses.file import ResponseFile
from caraway.caching.responses.store import MemoryStore
from caraway.core.http_dates import http_date
from caraway.errors import SourceError
from caraway.model import HttpResponse
from support.response_cache import FileStore, get, wall

NAMESPACES = ("a", "b")
PATHS = ("/1", "/2", "/3")
LANGUAGES = ("accept-language: en", "accept-language: de")
STEPS = 150
EPSILON = 1e-6


@dataclass(frozen=True)
class Promise:
    """What one answer was, and allowed; times in seconds from when it was given, or last confirmed."""

    number: int
    namespace: str
    path: str
    language: str
    varies: bool
    at: float
    no_store: bool
    no_cache: bool
    must_revalidate: bool
    lifetime: float
    behind: float
    on_error: float

    def control(self) -> str:
        parts = [f"max-age={self.lifetime:.0f}"]
        parts += [f"stale-while-revalidate={self.behind:.0f}"] * (self.behind > 0)
        parts += [f"stale-if-error={self.on_error:.0f}"] * (self.on_error > 0)
        parts += ["no-store"] * self.no_store + ["no-cache"] * self.no_cache
        parts += ["must-revalidate"] * self.must_revalidate
        return ", ".join(parts)


class Fickle:
    """`down` it fails; else it confirms what it is asked about, or gives something new."""

    def __init__(self, chance):
        self.chance = chance
        self.book = {}
        self.past = []
        self.down_since = None
        self.last_up = 0.0

    async def send_for(self, namespace, request):
        await trio.sleep(self.chance.choice([0.0, 0.25, 1.0]))
        if self.down_since is not None:
            if self.chance.random() < 0.5:
                raise SourceError("down")
            return HttpResponse(self.chance.choice([500, 503]), (("number", "0"),), b"0")
        headers = dict(request.headers)
        known = self.book.get(int(headers.get("if-none-match", '"0"').strip('"')))
        if known is not None and self.chance.random() < 0.6:
            return self._answer(304, self._promise(known.number, namespace, request))
        return self._answer(200, self._promise(max(self.book, default=0) + 1, namespace, request))

    def _promise(self, number, namespace, request):
        pick = self.chance
        promise = Promise(
            number=number,
            namespace=namespace,
            path=request.url[-2:],
            language=dict(request.headers)["accept-language"],
            varies=pick.random() < 0.7,
            at=trio.current_time(),
            no_store=pick.random() < 0.1,
            no_cache=pick.random() < 0.1,
            must_revalidate=pick.random() < 0.2,
            lifetime=pick.choice([0.0, 2.0, 10.0]),
            behind=pick.choice([0.0, 5.0]),
            on_error=pick.choice([0.0, 20.0]),
        )
        self.book[number] = promise
        self.past.append(promise)
        return promise

    def _answer(self, status, promise):
        headers = (
            ("date", http_date(wall().timestamp())),
            ("cache-control", promise.control()),
            ("etag", f'"{promise.number}"'),
            ("number", str(promise.number)),
            ("version", str(len(self.past) - 1)),
            *((("vary", "accept-language"),) if promise.varies else ()),
        )
        return HttpResponse(status, headers, str(promise.number).encode() if status == 200 else b"")


class Walk:
    def __init__(self, origin, store, chance):
        self.origin = origin
        self.chance = chance
        self.caches = {
            name: ResponseCache(lambda request, name=name: origin.send_for(name, request), store, wall=wall)
            for name in NAMESPACES
        }
        self.served = {}
        self.answers = 0

    async def ask(self):
        namespace, path, language = (self.chance.choice(each) for each in (NAMESPACES, PATHS, LANGUAGES))
        began = trio.current_time()
        try:
            answer = await self.caches[namespace].send(get(path, language), namespace=namespace)
        except SourceError:
            return
        self.answers += 1
        if answer.status == 200:
            self.check(answer, namespace, path, language.split(": ")[1], began)

    def check(self, answer, namespace, path, language, began):
        promise = self.origin.past[version := int(answer.header("version"))]
        assert answer.body == str(promise.number).encode(), "a body of another answer"
        assert (promise.namespace, promise.path) == (namespace, path)
        assert answer.age >= self.served.get(version, 0.0), "it got younger"
        self.served[version] = answer.age
        asked_since = promise.at >= began
        assert asked_since or allows(promise, language, answer.age), f"{answer} {promise}"


def allows(promise, language, age):
    """Whether the origin allowed this answer to be served so long after it, without having been asked."""
    if promise.no_store or promise.no_cache or (promise.varies and promise.language != language):
        return False
    windows = 0.0 if promise.must_revalidate else max(promise.behind, promise.on_error)
    return trio.current_time() - promise.at - EPSILON <= min(age, promise.lifetime + windows)


async def walk(store, chance):
    origin = Fickle(chance)
    trip = Walk(origin, store, chance)
    async with trio.open_nursery() as background:
        for cache in trip.caches.values():
            await background.start(cache.run)
        async with trio.open_nursery() as clients:
            for _ in range(STEPS):
                for _ in range(chance.randrange(4)):
                    clients.start_soon(trip.ask)
                await trio.sleep(chance.choice([0.0, 0.5, 1.0, 3.0, 7.0]))
                if chance.random() < 0.15:
                    origin.down_since = None if origin.down_since is not None else trio.current_time()
        background.cancel_scope.cancel()
    return trip


def outcome(store, seed):
    """Walk by the seed alone: it also chooses in which order tasks run, as trio's plugin for hypothesis has it."""
    run = trio._core._run
    before = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    try:
        return trio.run(walk, store, random.Random(seed), clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        run._r.setstate(before[1])


def assert_worth_it(trip):
    counted = [cache.statistics() for cache in trip.caches.values()]
    assert trip.answers > 100
    for name in ("hits", "stale", "misses", "failures", "revalidations"):
        assert sum(getattr(each, name) for each in counted) > 0, name
    assert not any(cache._flights for cache in trip.caches.values())


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_served_that_nobody_allowed(seed):
    assert_worth_it(outcome(MemoryStore(1_000_000), seed))


def test_nor_by_a_store_that_forgets_most():
    assert_worth_it(outcome(MemoryStore(5000), 100))


@pytest.mark.parametrize("max_bytes", [5000, 1_000_000])
def test_nor_out_of_a_file(max_bytes, tmp_path):
    file = ResponseFile(tmp_path / "responses.db", max_bytes)
    assert_worth_it(outcome(FileStore(file), 200))
    file.close()
