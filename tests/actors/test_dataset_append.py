import math
import random
from collections import Counter

import pyarrow as pa
import pytest
import trio

from caraway.config.model import RefreshMode
from caraway.core.predicate import Compare, Literal
from caraway.core.window import Grain
from caraway.dataset.claims import counted, occurrence
from caraway.dataset.dedup import Deduplicator
from caraway.dataset.fitting import partition_axis, time_axis
from caraway.errors import ConfigError, SourceError
from caraway.model import Append, RefreshOverrides, TableSpec, TimeColumn, TimeFormat
from support.dataset_world import World, at, table, timed
from support.engines import NAMES, EngineUnderTest, rows_of
from support.fake_accelerator import FakeAccelerator
from support.fake_source import FakeSource

TIME = TimeColumn("time")


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path, FakeSource(timed((1, 0), (2, 10))))
    return world.keys(time_column=TIME).accelerate(refresh_mode=RefreshMode.APPEND, refresh_check_interval=60.0)


async def ids(world):
    return [row["id"] for row in await world.rows()]


def rows_in(status):
    return status.snapshot.rows if status.snapshot is not None else 0


def bounds(world):
    return [request.predicate for _, request in world.source.reads]


async def test_rows_that_share_the_watermark_and_come_late_are_not_missed(world, autojump_clock):
    async with world.run():
        await trio.sleep(1)
        world.source.table = timed((1, 0), (2, 10), (3, 10), (4, 20))
        await trio.sleep(60)
        assert sorted(await ids(world)) == [1, 2, 3, 4]
    micros = pa.scalar(at(10), pa.timestamp("us")).cast(pa.int64()).as_py()
    assert bounds(world) == [None, Compare("time", ">=", Literal(micros, "timestamp[us]"))]


async def test_late_rows_inside_the_overlap_come_in_once(world, autojump_clock):
    world.accelerate(refresh_mode=RefreshMode.APPEND, refresh_check_interval=60.0, refresh_append_overlap=15.0)
    world.source.table = timed((1, 0), (2, 100))
    async with world.run():
        await trio.sleep(1)
        world.source.table = timed((1, 0), (2, 100), (3, 90), (4, 50))
        await trio.sleep(130)
        assert sorted(await ids(world)) == [1, 2, 3]  # 4 is older than the overlap


async def test_equal_rows_are_counted_not_merged(world, autojump_clock):
    world.source.table = timed((1, 0), (2, 10), (2, 10), (2, 10))
    async with world.run():
        await trio.sleep(1)
        world.source.table = timed((1, 0), *[(2, 10)] * 5)
        await trio.sleep(120)
        assert Counter(await ids(world)) == {1: 1, 2: 5}


async def test_nothing_new_changes_nothing_but_the_checkpoint(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(1)
        before = actor.status.value
        await trio.sleep(60)
        after = actor.status.value
        assert after.snapshot.generation == before.snapshot.generation
        assert after.last_refresh > before.last_refresh


async def test_an_append_that_dies_half_way_leaves_no_gap(world, autojump_clock):
    world.source.batch_rows, world.source.fail_after = 1, 2
    async with world.run():
        await trio.sleep(1)
        world.source.table = timed((1, 0), (2, 10), (3, 30), (4, 20))
        world.source.failures = [SourceError("broken pipe")]
        await trio.sleep(59.5)
        assert await ids(world) == [1, 2]
        await trio.sleep(2)
        assert sorted(await ids(world)) == [1, 2, 3, 4]


async def test_a_kill_between_refreshes_repeats_and_loses_nothing(world, autojump_clock):
    for life in range(5):
        world.source.table = timed(*((n, n // 2) for n in range(4 * (life + 1))))
        async with world.run() as actor:
            await actor.status.wait_until(lambda status, life=life: rows_in(status) == 4 * (life + 1))
    store = FakeAccelerator(world.disk.spec, world.disk)
    assert sorted(row["id"] for row in await rows_of(store)) == list(range(20))


async def test_a_restart_appends_at_once(world, autojump_clock):
    async with world.run():
        await trio.sleep(1)
    async with world.run():
        await trio.sleep(1)
    assert len(world.reads) == 2


async def test_the_data_window_bounds_the_first_load_alone(world, autojump_clock):
    world.accelerate(refresh_mode=RefreshMode.APPEND, refresh_check_interval=60.0, refresh_data_window=5.0)
    world.source.table = timed((1, -10), (2, 10))
    async with world.run():
        await trio.sleep(61)
        assert await ids(world) == [2]
    assert [predicate.op for predicate in bounds(world)] == [">", ">="]


async def test_a_full_reload_by_request_replaces(world, autojump_clock):
    async with world.run() as actor:
        await trio.sleep(1)
        epoch = actor.status.value.snapshot.epoch
        world.source.table = timed((7, 0))
        actor.request_refresh(RefreshOverrides(refresh_mode="full"))
        await trio.sleep(1)
        assert await ids(world) == [7]
        assert actor.status.value.snapshot.epoch != epoch


async def test_an_append_by_request_without_time_column_adds_what_is_not_there(tmp_path, autojump_clock):
    world = World(tmp_path, FakeSource(timed((1, 0), (2, None)))).accelerate()
    async with world.run() as actor:
        await trio.sleep(1)
        world.source.table = timed((2, None), (3, None), (1, 0))
        actor.request_refresh(RefreshOverrides(refresh_mode="append"))
        await trio.sleep(1)
        assert sorted(await ids(world)) == [1, 2, 3]


async def test_rows_without_a_time_are_not_loaded_twice(world, autojump_clock):
    world.source.table = timed((1, None), (2, None))
    async with world.run():
        await trio.sleep(130)
        assert await ids(world) == [1, 2]


@pytest.mark.parametrize(
    ("kind", "time_format", "early", "late"),
    [
        (pa.int64(), TimeFormat.UNIX_SECONDS, 1000, 1001),
        (pa.int64(), TimeFormat.UNIX_MILLIS, 1000, 1001),
        (pa.float64(), TimeFormat.UNIX_SECONDS, 1000.25, 1000.5),
        (pa.timestamp("s", "UTC"), TimeFormat.TIMESTAMPTZ, at(0), at(1)),
        (pa.date32(), TimeFormat.DATE, at(0).date(), at(86400).date()),
        (pa.string(), TimeFormat.ISO8601, "2026-03-01T12:00:00Z", "2026-03-01 14:00:00+01:00"),
    ],
)
async def test_every_kind_of_time_column_appends(world, autojump_clock, kind, time_format, early, late):
    world.keys(time_column=TimeColumn("time", time_format))

    def rows(*times):
        return table(*({"id": n, "time": moment} for n, moment in enumerate(times)), id=pa.int64(), time=kind)

    world.source.table = rows(early, early)
    async with world.run() as actor:
        await trio.sleep(1)
        world.source.table = rows(early, early, early, late, late)
        await trio.sleep(120)
        assert actor.status.value.problem is None
        assert sorted(await ids(world)) == [0, 1, 2, 3, 4]
    assert world.source.reads[-1][1].predicate.op == ">="


async def test_the_partition_column_is_bound_by_days(world, autojump_clock):
    world.keys(time_partition_column=TimeColumn("day", TimeFormat.DATE))
    columns = {"id": pa.int64(), "time": pa.timestamp("us"), "day": pa.date32()}
    world.source.table = table({"id": 1, "time": at(0), "day": at(0).date()}, **columns)
    async with world.run():
        await trio.sleep(61)
    assert [term.column for term in bounds(world)[-1].terms] == ["time", "day"]


@pytest.mark.parametrize(
    ("kind", "time_format", "fits"),
    [
        (pa.timestamp("us"), TimeFormat.TIMESTAMP, True),
        (pa.timestamp("us", "UTC"), TimeFormat.TIMESTAMP, True),
        (pa.date32(), TimeFormat.TIMESTAMP, True),
        (pa.timestamp("us"), TimeFormat.UNIX_MILLIS, False),
        (pa.string(), TimeFormat.ISO8601, True),
        (pa.string(), TimeFormat.TIMESTAMP, False),
        (pa.int64(), TimeFormat.UNIX_NANOS, True),
        (pa.int64(), TimeFormat.TIMESTAMP, False),
        (pa.bool_(), TimeFormat.TIMESTAMP, False),
    ],
)
def test_a_time_format_that_does_not_fit_is_an_error_naming_the_column(kind, time_format, fits):
    schema = pa.schema({"time": kind})
    if fits:
        assert time_axis(schema, TimeColumn("time", time_format), "t").column == "time"
    else:
        with pytest.raises(ConfigError, match="column 'time' of dataset t"):
            time_axis(schema, TimeColumn("time", time_format), "t")


def test_a_time_column_that_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match="Columns: id"):
        time_axis(pa.schema({"id": pa.int64()}), TIME, "t")


def test_a_partition_is_coarse_whatever_its_type():
    schema = pa.schema({"time": pa.timestamp("us")})
    assert partition_axis(schema, TIME, "t").grain is Grain.DAY


# --- de-duplication by itself --------------------------------------------------------------------------------------


def test_occurrence_counts_equal_elements_before():
    draw = random.Random(2)
    values = [draw.choice("abcd") for _ in range(500)]
    seen, expected = Counter(), []
    for value in values:
        expected.append(seen[value])
        seen[value] += 1
    assert occurrence(pa.array(values)).to_pylist() == expected
    assert occurrence(pa.array([], pa.string())).to_pylist() == []


def test_counted():
    assert counted(pa.array([0, 2, 0], pa.int32()), 4).to_pylist() == [2, 0, 1, 0]
    assert counted(pa.array([], pa.int32()), 1).to_pylist() == [0]


SCHEMA = pa.schema(
    {"time": pa.timestamp("us"), "f": pa.float64(), "l": pa.list_(pa.int64()), "s": pa.struct({"a": pa.string()})}
)


def wild(draw, count, newest):
    return [
        {
            "time": at(draw.randint(0, newest)),
            "f": draw.choice([math.nan, 0.0, None]),
            "l": draw.choice([[], [1], [None], None]),
            "s": draw.choice([{"a": "x"}, {"a": None}, None]),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("held_bytes", [1, 300, 10_000, 10**9])
@pytest.mark.parametrize("seed", range(6))
async def test_what_comes_through_is_the_difference(seed, held_bytes):
    """However equal rows are spread over batches and over steps of the comparison."""
    draw = random.Random(seed)
    store = FakeAccelerator(TableSpec("t", SCHEMA, time=TIME))
    old = wild(draw, 400, 20)
    for start in range(0, 400, 90):
        await store.commit([Append(pa.RecordBatch.from_pylist(old[start : start + 90], SCHEMA))], None)
    new = old[: draw.randint(0, 400)] + wild(draw, 200, draw.choice([3, 25]))
    draw.shuffle(new)

    async def arriving():
        rest = new
        while rest:
            count = draw.randint(0, 40)
            yield pa.RecordBatch.from_pylist(rest[:count], SCHEMA)
            rest = rest[count:]

    time = draw.choice([TIME, None])
    unseen = Deduplicator(store, store.snapshot.value, bound=None, time=time, held_bytes=held_bytes)
    came = [row async for batch in unseen.fresh(arriving()) for row in batch.to_pylist()]
    assert Counter(map(repr, came)) == Counter(map(repr, new)) - Counter(map(repr, old))


@pytest.mark.parametrize("name", NAMES)
async def test_repeats_in_separate_steps_come_in_from_every_engine(name, tmp_path):
    engine = EngineUnderTest(name, tmp_path)
    stored, again = timed(*[(1, 0)] * 3, (2, 0)), timed(*[(1, 0)] * 5, (2, 0))
    async with engine.open(TableSpec("t", stored.schema, time=TIME)) as store:
        for batch in stored.to_batches(max_chunksize=2):
            await store.commit([Append(batch)], None)

        async def arriving():
            for batch in again.to_batches(max_chunksize=1):
                yield batch

        with store.pin() as snapshot:
            unseen = Deduplicator(store, snapshot, bound=None, time=TIME, held_bytes=1)
            came = [value async for batch in unseen.fresh(arriving()) for value in batch["id"].to_pylist()]
    assert came == [1, 1]


async def test_large_comparisons_run_in_a_thread_and_are_as_exact():
    store = FakeAccelerator(TableSpec("t", timed().schema, time=TIME))
    old, new = timed(*((n, n // 100) for n in range(30_000))), timed(*((n, n // 100) for n in range(20_000, 40_000)))
    for batch in old.to_batches():
        await store.commit([Append(batch)], None)

    async def arriving():
        for batch in new.to_batches(max_chunksize=7_000):
            yield batch

    unseen = Deduplicator(store, store.snapshot.value, bound=None, time=TIME)
    came = [value async for batch in unseen.fresh(arriving()) for value in batch["id"].to_pylist()]
    assert sorted(came) == list(range(30_000, 40_000))


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_no_row_is_lost_and_none_comes_twice(world, autojump_clock, seed):
    draw = random.Random(seed)
    world.accelerate(refresh_mode=RefreshMode.APPEND, refresh_check_interval=20.0, refresh_append_overlap=30.0)
    world.chance = draw.random()
    world.source.batch_rows, world.source.delay = 3, 0.5
    expected = []
    for _ in range(8):
        async with world.run() as actor:
            for _ in range(draw.randint(1, 6)):
                seconds = round(trio.current_time()) - draw.randint(0, 5)
                expected += [(len(expected) + n, seconds) for n in range(draw.randint(0, 8))]
                world.source.table = timed(*expected)
                world.source.fail_after = draw.randint(0, 4)
                world.source.failures = draw.choices([None, SourceError("lost")], k=3)
                if draw.random() < 0.3:
                    actor.request_refresh()
                await trio.sleep(draw.choice([0.1, 0.6, 5, 15]))
    world.source.failures.clear()
    async with world.run() as actor:
        await trio.sleep(5)
        actor.request_refresh()
        await trio.sleep(25)
        assert Counter(await ids(world)) == Counter(id_ for id_, _ in expected)
        assert len(expected) > 30
