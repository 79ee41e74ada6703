"""A store as a log: what is held of deletes, what a restart leaves of them, and who shares a read."""

from collections import Counter
from contextlib import aclosing, asynccontextmanager

import pyarrow as pa
import pytest
import trio

from caraway import feed
from caraway.core.checkpoint import Checkpoint, decode, deleted_to, encode, with_deleted_to
from caraway.core.predicate import Compare, Literal
from caraway.dataset import recent
from caraway.dataset.deletions import Deletion, Deletions, deletion_of
from caraway.dataset.log import NEAR, LoggedStore
from caraway.dataset.recent import Recent
from caraway.errors import StoreError
from caraway.model import Append, Cursor, Delete, DeleteWhere, Head, LogEntry, OnConflict, Phase, TableSpec
from support.dataset_world import START
from support.engines import rows_of
from support.fake_accelerator import FakeAccelerator, FakeDisk

SCHEMA = pa.schema([("id", pa.int64()), ("word", pa.string())])
SPEC = TableSpec("orders", SCHEMA, ("id",), OnConflict.UPSERT)
CHECKPOINT = encode(Checkpoint(START, START))


def rows(*ids, word="a"):
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "word": [word for _ in ids]}, schema=SCHEMA)


def keys(*ids):
    return pa.record_batch({"id": pa.array(ids, pa.int64())})


async def told(log, epoch, offset):
    """(what, offset after it) for each entry; None where the log says so."""
    async with log.read(epoch, offset) as entries:
        return None if entries is None else [(_short(entry.change), entry.end) async for entry in entries]


def _short(change):
    batch = change.rows if isinstance(change, Append) else change.keys
    ids = batch.column("id").to_pylist()
    return ids if isinstance(change, Append) else {"gone": ids}


class Counting(FakeAccelerator):
    """Counts the reads of its log by where they begin; `failing` of them fail, and each waits for `gate`."""

    def __post_init__(self):
        super().__post_init__()
        self.tails = Counter()
        self.failing = 0
        self.gate = trio.Event()
        self.gate.set()

    @asynccontextmanager
    async def tail(self, epoch, from_offset):
        self.tails[from_offset] += 1
        await self.gate.wait()
        if self.failing:
            self.failing -= 1
            raise StoreError("unreadable")
        async with super().tail(epoch, from_offset) as batches:
            yield batches


# --- the head --------------------------------------------------------------------------------------------------------


async def test_the_head_is_the_newest_snapshot_until_the_store_is_closed():
    log = LoggedStore(FakeAccelerator(SPEC))
    assert log.head.value == Head()
    first = await log.commit([Append(rows(1))], None)
    assert log.head.value == Head(first)
    async with log.stage(replace=False) as staging:
        await staging.append(rows(2))
        second = await staging.commit(None)
    assert log.head.value == Head(second)
    await log.aclose()
    assert log.head.value == Head(second, closed=True)
    assert await told(log, second.epoch, 0) is None


class Half(FakeAccelerator):
    """Its commits succeed and then raise, as an engine may whose clearing up fails."""

    async def commit(self, changes, cursor):
        await super().commit(changes, cursor)
        raise StoreError("cleared up badly")


async def test_what_was_committed_is_told_though_the_call_failed():
    disk = FakeDisk()
    before = await FakeAccelerator(SPEC, disk).commit([Append(rows(1, 2))], None)
    log = LoggedStore(Half(SPEC, disk))
    with pytest.raises(StoreError):
        await log.commit([Delete(keys(1))], None)
    assert await told(log, before.epoch, 2) == [({"gone": [1]}, 3)]


async def test_a_refused_commit_leaves_no_trace():
    store = FakeAccelerator(SPEC)
    log = LoggedStore(store)
    before = await log.commit([Append(rows(1, 2))], CHECKPOINT)
    store.failures.append(StoreError("full"))
    with pytest.raises(StoreError):
        await log.commit([Delete(keys(1))], CHECKPOINT)
    assert log.head.value == Head(before)
    after = await log.commit([Append(rows(3))], CHECKPOINT)
    assert deleted_to(after.cursor) == 0
    assert await told(log, before.epoch, 2) == [([3], 3)]


# --- deletes ---------------------------------------------------------------------------------------------------------


async def test_deletes_go_before_the_rows_of_their_commit():
    log = LoggedStore(FakeAccelerator(SPEC))
    first = await log.commit([Append(rows(1, 2, 3))], None)
    await log.commit([Delete(keys(1)), Append(rows(1, 4, word="b")), Delete(keys(4, 2)), Append(rows(4))], None)
    assert await told(log, first.epoch, 3) == [({"gone": [1, 4, 2]}, 3), ([1, 4], 8)]


async def test_deletes_alone_take_the_log_to_its_end():
    log = LoggedStore(FakeAccelerator(SPEC))
    first = await log.commit([Append(rows(1, 2, 3))], None)
    await log.commit([Delete(keys(1))], None)
    await log.commit([Delete(keys(2))], None)
    assert await told(log, first.epoch, 3) == [({"gone": [1]}, 3), ({"gone": [2]}, 5)]
    assert await told(log, first.epoch, 4) == [({"gone": [2]}, 5)]
    assert await told(log, first.epoch, 5) == []
    assert await told(log, first.epoch, 6) is None


async def test_a_delete_that_hit_nothing_and_retention_are_not_told():
    log = LoggedStore(FakeAccelerator(SPEC))
    first = await log.commit([Append(rows(1, 2, 3))], None)
    after = await log.commit([Delete(keys(9)), DeleteWhere(Compare("id", "=", Literal(2, "int64")))], None)
    assert (after.end_offset, after.rows) == (3, 2)
    assert await told(log, first.epoch, 3) == []
    assert await told(log, first.epoch, 0) == [([1, 3], 3)]


async def test_without_a_primary_key_deletes_are_holes():
    log = LoggedStore(FakeAccelerator(TableSpec("orders", SCHEMA)))
    first = await log.commit([Append(rows(1, 2))], None)
    after = await log.commit([Delete(rows(1)), Append(rows(3))], None)
    assert after.cursor is None
    assert await told(log, first.epoch, 2) == [([3], 4)]
    last = await log.commit([Delete(rows(3))], None)
    assert await told(log, first.epoch, 4) == [([], last.end_offset)]


async def test_keys_alone_are_held_in_memory_of_their_own():
    wide = pa.record_batch({"word": ["x" * 1000] * 100, "id": pa.array(range(100), pa.int64())})
    found = deletion_of([Delete(wide.slice(50, 3))], 5, SPEC)
    assert found is not None
    assert (found.position, found.keys.to_pydict()) == (5, {"id": [50, 51, 52]})
    assert found.keys.get_total_buffer_size() < 100
    several = deletion_of([Delete(keys(3, 4)), Append(rows(1)), Delete(keys(4))], 5, SPEC)
    assert several is not None
    assert several.keys.to_pydict() == {"id": [3, 4, 4]}
    assert deletion_of([Append(rows(1)), Delete(keys())], 5, SPEC) is None


async def test_with_too_many_deletes_the_floor_rises():
    log = LoggedStore(FakeAccelerator(SPEC), deletions=2)
    first = await log.commit([Append(rows(*range(10)))], None)
    for key in range(4):
        await log.commit([Delete(keys(key))], None)
    assert await told(log, first.epoch, 11) is None
    assert await told(log, first.epoch, 12) == [({"gone": [2]}, 12), ({"gone": [3]}, 14)]
    assert await told(log, first.epoch, 0) == [([4, 5, 6, 7, 8, 9], 14)]


def test_held_deletes_are_bounded_in_bytes():
    held = Deletions("e", size=200)
    for position in range(100):
        held.add(Deletion(position, keys(*range(5))))
    assert [deletion.position for deletion in held.since(0)] == [95, 96, 97, 98, 99]
    assert (held.floor, held.newest) == (95, 100)
    assert [deletion.position for deletion in held.since(98)] == [98, 99]


# --- restarts --------------------------------------------------------------------------------------------------------


async def test_after_a_restart_whoever_missed_a_delete_takes_a_copy():
    disk = FakeDisk()
    log = LoggedStore(FakeAccelerator(SPEC, disk))
    await log.commit([Append(rows(1, 2, 3))], CHECKPOINT)
    await log.commit([Delete(keys(1))], CHECKPOINT)
    last = await log.commit([Append(rows(4))], CHECKPOINT)
    stored = decode(last.cursor)
    assert stored is not None
    assert (stored.deleted_to, stored.refreshed_at) == (4, START)
    log = LoggedStore(FakeAccelerator(SPEC, disk))
    assert await told(log, last.epoch, 3) is None
    assert await told(log, last.epoch, 4) == [([4], 5)]
    assert await told(log, last.epoch, 0) == [([2, 3, 4], 5)]
    after = await log.commit([Append(rows(5))], CHECKPOINT)
    assert deleted_to(after.cursor) == 4
    async with log.stage(replace=False) as staging:
        assert deleted_to((await staging.commit(CHECKPOINT)).cursor) == 4
    async with log.stage(replace=True) as staging:
        assert deleted_to((await staging.commit(CHECKPOINT)).cursor) == 0


async def test_after_a_restart_a_delete_that_hit_nothing_sends_nobody_back():
    disk = FakeDisk()
    log = LoggedStore(FakeAccelerator(SPEC, disk))
    first = await log.commit([Append(rows(1))], None)
    await log.commit([Delete(keys(9))], None)
    log = LoggedStore(FakeAccelerator(SPEC, disk))
    assert await told(log, first.epoch, 1) == []
    after = await log.commit([Append(rows(2))], None)
    assert await told(log, after.epoch, 1) == [([2], 2)]


async def test_a_cursor_that_tells_nothing_of_deletes_is_not_trusted():
    disk = FakeDisk()
    first = await FakeAccelerator(SPEC, disk).commit([Append(rows(1, 2))], Cursor("[17]"))
    log = LoggedStore(FakeAccelerator(SPEC, disk))
    assert await told(log, first.epoch, 1) is None
    assert await told(log, first.epoch, 2) == []


@pytest.mark.parametrize(
    ("cursor", "offset", "expected"),
    [
        (None, 0, None),
        (None, 3, '{"deleted_to":3}'),
        ('{"a": 1}', 0, '{"a": 1}'),
        ('{"a": 1}', 3, '{"a":1,"deleted_to":3}'),
        ('{"deleted_to":5}', 0, '{"deleted_to":0}'),
        ("[1]", 3, "[1]"),
        ("at 3", 3, "at 3"),
    ],
)
def test_deleted_to_is_one_key_of_a_cursor(cursor, offset, expected):
    assert with_deleted_to(cursor, offset) == expected


@pytest.mark.parametrize(
    ("cursor", "expected"),
    [(None, 0), ("{}", 0), ('{"deleted_to":5}', 5), ('{"deleted_to":"5"}', None), ("[1]", None), ("at 3", None)],
)
def test_deleted_to_is_known_or_not(cursor, expected):
    assert deleted_to(cursor) == expected


# --- shared reads ----------------------------------------------------------------------------------------------------


async def test_many_followers_cost_one_read_a_commit_and_share_what_they_get(autojump_clock):
    store = Counting(SPEC)
    log = LoggedStore(store)
    first = await log.commit([Append(rows(0))], None)
    seen = [[] for _ in range(200)]

    async def listen(into):
        async with feed.follow(log, feed.Position(first.epoch, 1), heartbeat=60, clock=lambda: 0.0) as arrivals:
            while True:
                arrival = await anext(arrivals)
                into.extend(arrival.changes)

    async with trio.open_nursery() as nursery:
        for into in seen:
            nursery.start_soon(listen, into)
        for number in range(1, 6):
            await trio.sleep(0.1)
            await log.commit([Append(rows(number)), Delete(keys(number - 1))], None)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert store.tails == Counter({1: 1, 3: 1, 5: 1, 7: 1, 9: 1})
    assert [_short(change) for change in seen[0]][:4] == [{"gone": [0]}, [1], {"gone": [1]}, [2]]
    assert all(len(into) == 10 and all(map(lambda a, b: a is b, into, seen[0])) for into in seen)


async def test_who_is_far_behind_reads_for_himself(autojump_clock):
    store = Counting(TableSpec("orders", SCHEMA))
    log = LoggedStore(store)
    snapshot = await log.commit([Append(rows(1, 2))], None)
    many = pa.record_batch([pa.array(range(NEAR)), pa.nulls(NEAR, pa.string())], schema=SCHEMA)
    await log.commit([Append(many)], None)
    for _ in range(2):
        async with log.read(snapshot.epoch, 1) as entries:
            assert [entry.end async for entry in entries][-1] == NEAR + 2
    for _ in range(2):
        async with log.read(snapshot.epoch, NEAR) as entries:
            assert [entry.end async for entry in entries] == [NEAR + 2]
    assert store.tails == Counter({1: 2, NEAR: 1})


async def test_a_reader_that_goes_away_leaves_the_reading_to_another(autojump_clock):
    store = Counting(SPEC)
    log = LoggedStore(store)
    snapshot = await log.commit([Append(rows(1))], None)
    await log.commit([Append(rows(2))], None)
    store.gate = trio.Event()
    seen = []

    async def listen():
        seen.append(await told(log, snapshot.epoch, 1))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as first:
                first.start_soon(listen)
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(3):
                    nursery.start_soon(listen)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert store.tails == Counter({1: 2})
        store.gate.set()
    assert seen == [[([2], 2)]] * 3
    assert store.tails == Counter({1: 2})


async def test_a_failed_read_is_tried_by_each_who_waited(autojump_clock):
    store = Counting(SPEC)
    log = LoggedStore(store)
    snapshot = await log.commit([Append(rows(1))], None)
    await log.commit([Append(rows(2))], None)
    store.failing, store.gate = 2, trio.Event()
    outcomes = []

    async def listen():
        try:
            outcomes.append(await told(log, snapshot.epoch, 1))
        except StoreError as error:
            outcomes.append(error.message)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        store.gate.set()
    assert sorted(map(str, outcomes)) == ["[([2], 2)]", "[([2], 2)]", "unreadable", "unreadable"]
    assert store.tails == Counter({1: 3})


async def test_a_new_epoch_shares_nothing_with_the_old_one():
    log = LoggedStore(FakeAccelerator(SPEC))
    first = await log.commit([Append(rows(1))], None)
    await log.commit([Append(rows(2))], None)
    assert await told(log, first.epoch, 1) == [([2], 2)]
    async with log.stage(replace=True) as staging:
        await staging.append(rows(7, 8))
        second = await staging.commit(None)
    assert await told(log, first.epoch, 1) is None
    assert await told(log, second.epoch, 1) == [([8], 2)]


async def test_an_epoch_that_ends_in_mid_read_ends_the_read():
    log = LoggedStore(FakeAccelerator(SPEC))
    first = await log.commit([Append(rows(1))], None)
    await log.commit([Append(rows(2)), Delete(keys(1))], None)
    async with log.read(first.epoch, 1) as entries:
        assert (await anext(entries)).end == 1
        async with log.stage(replace=True) as staging:
            await staging.commit(None)
        assert [entry.end async for entry in entries] == [3]


async def entries_of(offsets, size):
    """Steps of one row each."""
    for offset in offsets:
        row = pa.record_batch({"x": pa.array([b"x" * size], pa.large_binary())})
        yield (LogEntry(Append(row), offset + 1),)


async def test_what_is_kept_for_others_is_bounded():
    reads = []

    @asynccontextmanager
    async def read(offset):
        reads.append(offset)
        async with aclosing(entries_of(range(offset, 100), 1000)) as steps:
            yield steps

    shared = Recent(read, size=6000, stretch=3000)
    ends = []
    at = 0
    while at < 100:
        step = await shared.step(at)
        assert step is not None
        at = step[-1].end
        ends.append(at)
        assert shared._bytes <= 6000
    assert ends == list(range(1, 101))
    assert reads == list(range(0, 100, 3))
    assert await shared.step(99) is step
    await shared.step(0)
    assert reads[-1] == 0


async def test_a_step_that_is_greater_than_what_is_kept_is_told_all_the_same():
    @asynccontextmanager
    async def read(offset):
        async with aclosing(entries_of([offset], 2 * recent.MAX_BYTES)) as steps:
            yield steps

    shared = Recent(read)
    step = await shared.step(5)
    assert step is not None
    assert (step[-1].end, shared._bytes) == (6, 0)


async def test_whoever_follows_is_told_of_commits_without_a_read_of_the_store():
    store = Counting(SPEC)
    log = LoggedStore(store)
    epoch = (await log.commit([Append(rows(1))], None)).epoch
    await log.commit([Append(rows(2))], None)
    assert await told(log, epoch, 1) == [([2], 2)]  # nobody followed before
    store.tails.clear()
    await log.commit([Append(rows(3, 4))], None)
    await log.commit([Append(rows(5).select(["word", "id"]))], None)
    assert await told(log, epoch, 2) == [([3, 4], 4), ([5], 5)]
    assert not store.tails


async def test_commits_that_hold_other_than_new_rows_are_read():
    store = Counting(SPEC)
    log = LoggedStore(store)
    epoch = (await log.commit([Append(rows(1))], None)).epoch
    await log.commit([Append(rows(2))], None)
    await told(log, epoch, 1)
    for changes, expected in (
        ([Append(rows(2, 3))], [([2, 3], 4)]),  # one of them instead of another
        ([Append(rows(4)), Append(rows(5))], [([4, 5], 6)]),
        ([Delete(keys(1)), Append(rows(6))], [({"gone": [1]}, 6), ([6], 8)]),
        ([Append(rows())], []),
        ([], []),
    ):
        store.tails.clear()
        at = log.head.value.snapshot.end_offset
        await log.commit(changes, None)
        assert await told(log, epoch, at) == expected
        assert store.tails == Counter([at] if expected else [])


async def test_of_commits_that_nobody_asks_for_few_and_small_ones_are_kept():
    log = LoggedStore(Counting(SPEC))
    epoch = (await log.commit([Append(rows(0))], None)).epoch
    await log.commit([Append(rows(1))], None)
    assert log._recent._bytes == 0
    await told(log, epoch, 1)
    await log.commit([Append(rows(2, word="x" * recent.ADDED_BYTES))], None)
    before = len(log._recent._steps)
    for number in range(3, 2 * recent.ADDED):
        await log.commit([Append(rows(number))], None)
    assert len(log._recent._steps) - before == recent.ADDED
    assert (await told(log, epoch, 3))[-1][1] == 2 * recent.ADDED


async def test_small_commits_are_told_together():
    log = LoggedStore(FakeAccelerator(SPEC))
    first = await log.commit([Append(rows(0))], None)
    for number in range(1, 50):
        await log.commit([Append(rows(number))], None)
    assert await told(log, first.epoch, 1) == [(list(range(1, 50)), 50)]


async def test_words_of_a_dictionary_are_told_as_they_came():
    words = pa.dictionary(pa.int8(), pa.string())
    log = LoggedStore(FakeAccelerator(TableSpec("orders", pa.schema([("word", words)]))))
    for word in "abc":
        await log.commit([Append(pa.record_batch({"word": pa.array([word]).dictionary_encode().cast(words)}))], None)
    snapshot = log.head.value.snapshot
    assert snapshot is not None
    async with log.read(snapshot.epoch, 0) as entries:
        assert [entry.end async for entry in entries] == [1, 2, 3]


async def test_a_copy_is_of_one_moment(autojump_clock):
    log = LoggedStore(FakeAccelerator(SPEC))
    await log.commit([Append(rows(*range(8), word="old"))], None)
    async with feed.follow(log, None, heartbeat=60, clock=lambda: 0.0) as arrivals:
        await anext(arrivals)
        await log.commit([Append(rows(0, 7, word="new"))], None)
        await log.commit([Delete(keys(3))], None)
        copy = await anext(arrivals)
        assert copy.phase is Phase.SNAPSHOT
        assert copy.changes[0].rows.column("word").to_pylist() == ["old"] * 8
    assert len(await rows_of(log)) == 7
