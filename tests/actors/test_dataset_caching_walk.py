"""Random lives of a dataset in caching mode: whatever happens, nobody sees what he must not, nor older than he may."""

import random
from contextlib import contextmanager

import pytest
import trio

from caraway.config.model import StorageMode
from caraway.errors import QueryError, QueryFailure, SourceError, StoreError
from caraway.model import Principal
from support.caching_world import CachingWorld
from support.dataset_world import settle
from support.fake_requests import FakeRequests

PRINCIPALS = [Principal(), Principal("apikey:a"), Principal("apikey:b")]
TTL, SWR, SIE = 10.0, 8.0, 30.0
QUERIES = 80


class Walk:
    """One dataset, many queries at random times; the origin and the store fail and are slow at random."""

    def __init__(self, tmp_path, seed):
        self.chance = random.Random(seed)
        self.world = CachingWorld(tmp_path, FakeRequests(answer=self.answer, delay=self.delay))
        budget = self.chance.choice([{}, {"max_items": 8}, {"max_size": 9000}])
        self.world.caching(mode=StorageMode.FILE, ttl=TTL, stale_while_revalidate=SWR, stale_if_error=SIE, **budget)
        self.budget = budget
        self.served = 0

    def answer(self, request):
        """Between none and three rows, which tell of which call they are."""
        number = self.world.source.answering
        rows = self.chance.choice([0, 1, 1, 2, 3])
        return [f"{number} {request.path} {row}" for row in range(rows)]

    def delay(self, request):
        if self.chance.random() < 0.2:
            self.world.source.failures = [SourceError("HTTP 503")]
        return self.chance.choice([0.0, 0.5, 3.0])

    async def query(self, actor):
        await trio.sleep(self.chance.random() * 80)
        who = self.chance.choice(PRINCIPALS)
        paths = self.chance.sample([f"/{n}" for n in range(9)], self.chance.choice([1, 1, 2, 4]))
        asked = trio.current_time()
        with trio.move_on_after(self.chance.choice([1.0, 100.0])):
            with self.failing():
                self.check(await self.world.get(actor, *paths, principal=who), who, paths, asked)

    @contextmanager
    def failing(self):
        """A query may fail because the source did, and for no other reason."""
        try:
            yield
        except QueryError as error:
            if error.failure is not QueryFailure.SOURCE:
                raise

    def check(self, shown, who, paths, asked):
        self.served += 1
        calls = {int(content.split()[0]): content.split()[1] for content in shown.contents}
        for number, path in calls.items():
            call = self.world.source.calls[number]
            assert call.namespace == who.id
            assert call.request.path == path
            assert path in paths
            window = SIE if shown.status == "stale-if-error" else SWR
            assert call.at + 3.5 + TTL + window >= asked  # no answer is slower
        assert len(set(calls.values())) == len(calls)  # one answer to each request, and not parts of two

    async def trouble(self):
        """The store fails and is slow now and then."""
        while True:
            await trio.sleep(5 * self.chance.random())
            self.world.store.commit_delay = self.chance.choice([0.0, 0.0, 1.0])
            if self.chance.random() < 0.2:
                self.world.store.failures = [StoreError("full")]

    def check_held(self, actor):
        """What the index says is what the store has, within the budget."""
        status = actor.current().caching
        assert status.rows == actor.store.snapshot.value.rows
        assert status.bytes <= self.budget.get("max_size", status.bytes)
        assert status.rows <= self.budget.get("max_items", status.rows)
        answers = actor._driver._answers
        assert not answers.shelf.index._leases
        assert not answers.shelf.index._leaving
        assert not answers.flights._flights
        assert actor._driver._revalidations.running == 0
        assert self.world.source.fetching == 0


@pytest.mark.parametrize("seed", range(4))
async def test_a_random_life_and_another_after_it(tmp_path, seed, autojump_clock):
    walk = Walk(tmp_path, seed)
    for _ in range(2):
        async with walk.world.run() as actor:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(walk.trouble)
                async with trio.open_nursery() as queries:
                    for _ in range(QUERIES // 2):
                        queries.start_soon(walk.query, actor)
                nursery.cancel_scope.cancel()
            walk.world.store.commit_delay = 0.0
            await trio.sleep(10)  # revalidations and commits come to their end
            await settle()
            walk.check_held(actor)
        await trio.sleep(walk.chance.random() * 20)
    assert walk.served > QUERIES // 5
    assert list((tmp_path / "spool").iterdir()) == []
