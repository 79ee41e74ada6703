"""What a follower of a log is told, and when; on the virtual clock."""

import random
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow as pa
import pytest
import trio
from trio.testing import MockClock

from caraway.core import position
from caraway.dataset.log import LoggedStore
from caraway.errors import SourceError, StoreError
from caraway.feed import follow
from caraway.model import Append, Arrival, Delete, Mark, OnConflict, Phase, Position, TableSpec, Truncate
from support.engines import NAMES, EngineUnderTest, rows_of
from support.fake_accelerator import FakeAccelerator
from support.followers import Copy
from support.fuzz import SCALE

SCHEMA = pa.schema([("id", pa.int64()), ("word", pa.string())])
SPEC = TableSpec("orders", SCHEMA, ("id",), OnConflict.UPSERT)
START = 1_000_000.0


def rows(*ids, word="a"):
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "word": [word for _ in ids]}, schema=SCHEMA)


def keys(*ids):
    return pa.record_batch({"id": pa.array(ids, pa.int64())})


def store(spec=SPEC):
    return LoggedStore(FakeAccelerator(spec))


def clock():
    return START + trio.current_time()


@asynccontextmanager
async def following(log, place=None, heartbeat=1.0):
    async with follow(log, place, heartbeat=heartbeat, clock=clock) as arrivals:
        yield arrivals


async def take(arrivals, count):
    return [await anext(arrivals) for _ in range(count)]


async def replace(log, *batches):
    async with log.stage(replace=True) as staging:
        for batch in batches:
            await staging.append(batch)
        return await staging.commit(None)


def place(snapshot, offset=None):
    return Position(snapshot.epoch, snapshot.end_offset if offset is None else offset)


def told(arrivals):
    """Arrivals as (phase, changes in short, offset of the cursor, offset of the mark)."""
    return [
        (
            arrival.phase.value,
            [_short(change) for change in arrival.changes],
            arrival.cursor and position.decode(arrival.cursor).offset,
            arrival.mark and arrival.mark.end.offset,
        )
        for arrival in arrivals
    ]


def _short(change):
    match change:
        case Append(batch):
            return batch.column("id").to_pylist()
        case Delete(batch):
            return {"gone": batch.column("id").to_pylist()}
        case Truncate():
            return "truncate"


# --- copies ----------------------------------------------------------------------------------------------------------


async def test_who_has_nothing_gets_a_copy_and_then_the_news(autojump_clock):
    log = store()
    await log.commit([Append(rows(1, 2))], None)
    snapshot = await log.commit([Append(rows(3))], None)
    async with following(log) as arrivals:
        assert told(await take(arrivals, 3)) == [
            ("snapshot", ["truncate"], None, 3),
            ("snapshot", [[1, 2, 3]], None, 3),
            ("snapshot_end", [], 3, 3),
        ]
        await log.commit([Append(rows(4))], None)
        arrival = await anext(arrivals)
        assert told([arrival]) == [("live", [[4]], 4, 4)]
        assert arrival.cursor == position.encode(Position(snapshot.epoch, 4))
        assert arrival.mark == Mark(START, Position(snapshot.epoch, 4))
        assert trio.current_time() == 0


async def test_an_empty_table_is_a_copy_too(autojump_clock):
    log = store()
    await log.commit([], None)
    async with following(log) as arrivals:
        assert told(await take(arrivals, 2)) == [("snapshot", ["truncate"], None, 0), ("snapshot_end", [], 0, 0)]
        await log.commit([Append(rows(1))], None)
        assert told(await take(arrivals, 1)) == [("live", [[1]], 1, 1)]


async def test_a_copy_goes_on_without_a_gap_where_commits_came_meanwhile(autojump_clock):
    log = store()
    await log.commit([Append(rows(1, 2))], None)
    async with following(log) as arrivals:
        copy = await take(arrivals, 2)
        await log.commit([Append(rows(1, 5, word="b"))], None)
        await log.commit([Delete(keys(2))], None)
        assert told(copy + await take(arrivals, 3)) == [
            ("snapshot", ["truncate"], None, 2),
            ("snapshot", [[1, 2]], None, 2),
            ("snapshot_end", [], 2, 5),
            ("live", [{"gone": [2]}], 2, 5),
            ("live", [[1, 5]], 5, 5),
        ]


async def test_a_copy_whose_epoch_ends_is_told_to_its_end_and_then_the_next_one(autojump_clock):
    log = store()
    await log.commit([Append(rows(1, 2))], None)
    async with following(log) as arrivals:
        await anext(arrivals)
        await replace(log, rows(7))
        assert told(await take(arrivals, 5)) == [
            ("snapshot", [[1, 2]], None, None),
            ("snapshot_end", [], 2, None),
            ("snapshot", ["truncate"], None, 1),
            ("snapshot", [[7]], None, 1),
            ("snapshot_end", [], 1, 1),
        ]


async def test_a_new_epoch_is_a_copy_for_who_is_live(autojump_clock):
    log = store()
    snapshot = await log.commit([Append(rows(1))], None)
    async with following(log, place(snapshot)) as arrivals:
        assert told(await take(arrivals, 1)) == [("heartbeat", [], 1, 1)]
        await log.commit([Append(rows(2))], None)
        await replace(log)
        assert told(await take(arrivals, 2)) == [("snapshot", ["truncate"], None, 0), ("snapshot_end", [], 0, 0)]


# --- resuming --------------------------------------------------------------------------------------------------------


async def test_who_was_here_before_gets_what_is_missing(autojump_clock):
    log = store()
    first = await log.commit([Append(rows(1, 2, 3))], None)
    await log.commit([Append(rows(4)), Delete(keys(2)), Append(rows(5))], None)
    async with following(log, place(first)) as arrivals:
        assert told(await take(arrivals, 2)) == [("live", [{"gone": [2]}], 3, 6), ("live", [[4, 5]], 6, 6)]
    async with following(log, place(first, 1)) as arrivals:
        assert told(await take(arrivals, 2)) == [("live", [{"gone": [2]}], 1, 6), ("live", [[3, 4, 5]], 6, 6)]
    async with following(log, place(first, 0)) as arrivals:
        assert told(await take(arrivals, 1)) == [("live", [[1, 3, 4, 5]], 6, 6)]


@pytest.mark.parametrize("strange", [Position("another", 1), Position("", 0)])
async def test_a_place_in_another_epoch_is_a_copy(autojump_clock, strange):
    log = store()
    await log.commit([Append(rows(1))], None)
    async with following(log, strange) as arrivals:
        assert told(await take(arrivals, 1)) == [("snapshot", ["truncate"], None, 1)]


async def test_a_place_beyond_the_end_is_a_copy(autojump_clock):
    log = store()
    snapshot = await log.commit([Append(rows(1))], None)
    async with following(log, place(snapshot, 2)) as arrivals:
        assert told(await take(arrivals, 1)) == [("snapshot", ["truncate"], None, 1)]


async def test_holes_move_the_cursor(autojump_clock):
    log = store(TableSpec("orders", SCHEMA))
    snapshot = await log.commit([Append(rows(1, 2))], None)
    await log.commit([Delete(rows(1))], None)
    async with following(log, place(snapshot)) as arrivals:
        assert told(await take(arrivals, 1)) == [("live", [], 3, 3)]


# --- heartbeats ------------------------------------------------------------------------------------------------------


async def test_silence_is_told_by_heartbeats_at_multiples_of_their_interval(autojump_clock):
    log = store()
    snapshot = await log.commit([Append(rows(1))], None)
    seen = []

    async def listen():
        async with following(log, place(snapshot), heartbeat=2.0) as arrivals:
            while True:
                arrival = await anext(arrivals)
                seen.append((trio.current_time(), arrival.phase, arrival.mark.at - START))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.sleep(3)
        await log.commit([Append(rows(2))], None)
        await trio.sleep(4.5)
        nursery.cancel_scope.cancel()
    beat, live = Phase.HEARTBEAT, Phase.LIVE
    assert seen == [(0, beat, 0), (2, beat, 2), (3, live, 3), (4, beat, 4), (6, beat, 6)]


async def test_before_a_first_load_heartbeats_say_nothing_more(autojump_clock):
    log = store()
    async with following(log) as arrivals:
        assert await take(arrivals, 2) == [Arrival(phase=Phase.HEARTBEAT)] * 2
        assert trio.current_time() == 1
        await log.commit([Append(rows(1))], None)
        assert told(await take(arrivals, 1)) == [("snapshot", ["truncate"], None, 1)]
        assert trio.current_time() == 1


async def test_maintenance_and_other_cursors_are_no_news(autojump_clock):
    log = store()
    snapshot = await log.commit([Append(rows(1))], None)
    async with following(log, place(snapshot)) as arrivals:
        await anext(arrivals)
        await log.commit([], None)
        await log.maintain()
        assert told(await take(arrivals, 1)) == [("heartbeat", [], 1, 1)]
        assert trio.current_time() == 1


async def test_who_stands_still_is_told_all_when_he_goes_on(autojump_clock):
    log = store()
    snapshot = await log.commit([Append(rows(1))], None)
    async with following(log, place(snapshot)) as arrivals:
        await anext(arrivals)
        for number in range(2, 200):
            await trio.sleep(1)
            await log.commit([Append(rows(number))], None)
        arrival = await anext(arrivals)
        assert arrival.changes[0].rows.column("id").to_pylist() == list(range(2, 200))
        assert told(await take(arrivals, 1)) == [("heartbeat", [], 199, 199)]


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loaded", [False, True])
async def test_a_closed_log_says_to_begin_anew(autojump_clock, loaded):
    log = store()
    if loaded:
        await log.commit([Append(rows(1))], None)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _():
            await trio.sleep(1.5)
            await log.aclose()

        async with following(log) as arrivals:
            with pytest.raises(SourceError, match="orders was reloaded or removed") as caught:
                await take(arrivals, 10)
    assert trio.current_time() == 1.5
    assert (caught.value.code, caught.value.transient) == ("LogClosed", True)


async def test_a_log_that_is_closed_in_the_middle_of_a_copy_ends_it(autojump_clock):
    log = store()
    await log.commit([Append(rows(1))], None)
    async with following(log) as arrivals:
        await anext(arrivals)
        await log.aclose()
        with pytest.raises(SourceError) as caught:
            await anext(arrivals)
    assert caught.value.code == "LogClosed"


class Broken(FakeAccelerator):
    @asynccontextmanager
    async def tail(self, epoch, from_offset):
        await trio.lowlevel.checkpoint()
        raise StoreError("the disk is gone", transient=False)
        yield


@pytest.mark.parametrize("offset", [0, 1])
async def test_a_store_that_cannot_be_read_is_a_source_error(autojump_clock, offset):
    log = LoggedStore(Broken(SPEC))
    snapshot = await log.commit([Append(rows(1, 2))], None)
    async with following(log, place(snapshot, offset)) as arrivals:
        with pytest.raises(SourceError, match="orders can't be read: the disk is gone") as caught:
            await anext(arrivals)
    assert not caught.value.transient


@pytest.mark.parametrize("steps", range(6))
async def test_a_follower_may_be_cancelled_anywhere(autojump_clock, steps):
    log = store()
    await log.commit([Append(rows(1, 2))], None)
    with trio.CancelScope() as scope:
        async with following(log) as arrivals:
            for _ in range(steps):
                await anext(arrivals)
            scope.cancel()
            while True:
                await anext(arrivals)
    assert scope.cancelled_caught
    await log.commit([Append(rows(3))], None)
    assert len(await rows_of(log)) == 3


# --- random walks ----------------------------------------------------------------------------------------------------


class Walk:
    """A store that anything happens to, and a copy that follows it with interruptions."""

    def __init__(self, engine, seed):
        self.engine = engine
        self.chance = random.Random(seed)
        self.log = None
        self.copy = Copy()
        self.number = 0

    async def run(self, steps):
        while steps > 0:
            async with self.engine.open(SPEC) as opened:
                self.log = LoggedStore(opened, deletions=4)
                for _ in range(self.chance.randint(1, 6)):
                    steps -= 1
                    await self._follow_and_write()
                if steps <= 0 or not self.engine.persistent or self.chance.random() < 0.3:
                    await self._catch_up()
            if not self.engine.persistent:
                return
        self.log = None

    async def _follow_and_write(self):
        """One stream, with writes between its arrivals and behind the back of it."""
        async with following(self.log, position.decode(self.copy.interrupted())) as arrivals:
            for _ in range(self.chance.randint(0, 6)):
                await self._write()
                for _ in range(self.chance.randint(0, 3)):
                    self._take(await anext(arrivals))
        for _ in range(self.chance.randint(0, 2)):
            await self._write()

    def _take(self, arrival):
        self.copy.take(arrival)
        at, snapshot = position.decode(self.copy.cursor), self.log.head.value.snapshot
        if at is not None and snapshot is not None and at.epoch == snapshot.epoch:
            assert at.offset <= snapshot.end_offset

    async def _catch_up(self):
        async with following(self.log, position.decode(self.copy.interrupted())) as arrivals:
            async for arrival in arrivals:
                self._take(arrival)
                if arrival.phase is Phase.HEARTBEAT:
                    break
        stored = await rows_of(self.log) if self.log.head.value.snapshot is not None else []
        assert self.copy.rows == {row["id"]: (row["id"], row["word"]) for row in stored}

    async def _write(self):
        kind = self.chance.choices(["commit", "stage", "replace", "maintain", "nothing"], [12, 2, 1, 1, 2])[0]
        if kind == "commit":
            await self.log.commit([self._change() for _ in range(self.chance.randint(0, 3))], None)
        elif kind == "maintain":
            await self.log.maintain()
        elif kind != "nothing":
            async with self.log.stage(replace=kind == "replace") as staging:
                for _ in range(self.chance.randint(0, 2)):
                    await staging.append(self._rows())
                if self.chance.random() < 0.8:
                    await staging.commit(None)

    def _change(self):
        if self.chance.random() < 0.4:
            return Delete(keys(*self.chance.sample(range(12), self.chance.randint(0, 3))))
        return Append(self._rows())

    def _rows(self):
        self.number += 1
        return rows(*self.chance.sample(range(12), self.chance.randint(0, 4)), word=f"w{self.number}")


def walk(name, directory, seed, steps):
    trio.run(Walk(EngineUnderTest(name, directory), seed).run, steps, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("tens", range(8 * SCALE))
def test_a_copy_ends_equal_to_the_log_whatever_happens(tens):
    for seed in range(tens * 10, tens * 10 + 10):
        walk("fake", Path(), seed, 25)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", [name for name in NAMES if name != "fake"])
def test_a_copy_ends_equal_to_the_log_of_an_engine(name, seed, tmp_path: Path):
    walk(name, tmp_path / "orders", seed, 8)
