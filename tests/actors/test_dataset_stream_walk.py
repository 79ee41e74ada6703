"""Walks at random: a follower among kills, broken connections and full disks ends equal to what it follows.

The upstream is a real log over an accelerator in plain memory, followed as a peer follows it. After each step the edge
holds what the upstream held at the edge's cursor, less what was deleted since; the end is equality, in order.
"""

from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from caraway import feed
from caraway.config.model import RefreshMode
from caraway.core import position
from caraway.core.checkpoint import decode
from caraway.dataset.log import LoggedStore
from caraway.errors import SourceError, StoreError
from caraway.model import OFFSET_COLUMN, Append, Delete, OnConflict, TableSpec
from support.dataset_world import World, wall
from support.fake_accelerator import FakeDisk, open_fake
from support.fake_source import FakeSource
from support.fake_stream import SCHEMA, rows

SEEDS = 80
GONE = SourceError("the connection is gone")
FULL = StoreError("No space left on device.")


class Upstream(FakeSource):
    """A dataset of another process; what is told of it may break off at any word."""

    def __init__(self, chance, key):
        super().__init__(SCHEMA.empty_table())
        self.chance = chance
        self.spec = TableSpec("t", SCHEMA, key, OnConflict.UPSERT_LAST if key else OnConflict.REJECT)
        self.disk = FakeDisk()
        self.history = {}
        """What was held at each position."""
        self.faults = True
        self.next_id = 0

    async def start(self):
        self.log = LoggedStore(await open_fake(self.disk, self.spec))

    async def restart(self):
        await self.log.aclose()
        await self.start()

    @asynccontextmanager
    async def follow(self, cursor):
        async with feed.follow(
            self.log, position.decode(cursor), heartbeat=1.0, clock=lambda: wall().timestamp()
        ) as arrivals:
            yield self._broken(arrivals)

    async def _broken(self, arrivals):
        async for arrival in arrivals:
            if self.faults and self.chance.random() < 0.05:
                raise GONE
            if self.faults and self.chance.random() < 0.1:
                await trio.sleep(self.chance.random() * 2)
            yield arrival

    async def change(self):
        """One commit: rows, updates or deletes; seldom all rows anew."""
        if self.chance.random() < 0.07:
            async with self.log.stage(replace=True) as staging:
                await staging.append(self._rows())
                await staging.commit(None)
        else:
            await self.log.commit([self._change() for _ in range(self.chance.randint(1, 3))], None)
        self._remember()

    def _remember(self):
        snapshot = self.log.snapshot.value
        self.history[snapshot.epoch, snapshot.end_offset] = rows_in(self.disk)

    def _rows(self):
        first, self.next_id = self.next_id, self.next_id + self.chance.randint(1, 4)
        return rows(*range(first, self.next_id), v=str(self.chance.random()))

    def _change(self):
        known = list(range(max(0, self.next_id - 12), self.next_id))
        kind = self.chance.random() if self.spec.primary_key and known else 1.0
        if kind < 0.3:
            return Delete(rows(*self.chance.sample(known, min(3, len(known)))).select(["id"]))
        if kind < 0.5:
            return Append(rows(*self.chance.sample(known, min(3, len(known))), v=str(self.chance.random())))
        return Append(self._rows())


def rows_in(disk):
    return disk.state.table.drop_columns([OFFSET_COLUMN]).to_pylist() if disk.state is not None else []


class Walk:
    """One life after another of the edge, each killed after some steps."""

    def __init__(self, tmp_path, seed):
        self.chance = Random(seed)
        key = ("id",) if seed % 2 else ()
        self.upstream = Upstream(self.chance, key)
        self.world = World(tmp_path, self.upstream).accelerate(refresh_mode=RefreshMode.CHANGES, primary_key=key)
        self.world.chance = 0.1

    async def run(self):
        await self.upstream.start()
        for _ in range(self.chance.randint(2, 6)):
            await self.life()
            if self.chance.random() < 0.3:
                await self.upstream.restart()
        self.upstream.faults = False
        async with self.world.run() as actor:
            with trio.fail_after(600):
                await self.upstream.change()
                while rows_in(self.world.disk) != rows_in(self.upstream.disk):
                    self.check()
                    await trio.sleep(0.5)
                await trio.sleep(3)
            self.check()
            assert actor.current().stream.behind == 0

    async def life(self):
        with trio.CancelScope() as killed:
            async with trio.open_nursery() as nursery:
                actor = self.world.actor()
                nursery.start_soon(self.world.live, actor)
                for _ in range(self.chance.randint(1, 30)):
                    await self.step(actor)
                    self.check()
                killed.cancel()
        self.check()

    async def step(self, actor):
        kind = self.chance.random()
        if kind < 0.5:
            await self.upstream.change()
        elif kind < 0.55:
            await self.upstream.restart()
        elif kind < 0.6 and self.world.store is not None:
            self.world.store.failures = [FULL] * self.chance.randint(1, 3)
            self.world.store.commit_delay = self.chance.choice([0.0, 0.3])
        elif kind < 0.63:
            actor.request_refresh()
        elif kind < 0.9:
            await trio.sleep(self.chance.random() * 3)
        else:
            for _ in range(self.chance.randint(1, 60)):
                await trio.lowlevel.checkpoint()

    def check(self):
        state = self.world.disk.state
        stored = decode(state.cursor) if state is not None else None
        if stored is None or stored.position is None:
            assert state is None
            return
        place = position.decode(stored.position)
        held = self.upstream.history.get((place.epoch, place.offset))
        found = rows_in(self.world.disk)
        if self.upstream.spec.primary_key:  # a delete is told early, before rows that came before it
            assert held is None or all(row in held for row in found), place
        else:
            assert held is None or found == held, place


@pytest.mark.parametrize("part", range(5))
def test_it_ends_equal_and_is_never_wrong(tmp_path, part):
    for seed in range(part, SEEDS, 5):
        walk = Walk(tmp_path, seed)
        walk.world.store = None
        try:
            trio.run(walk.run, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
