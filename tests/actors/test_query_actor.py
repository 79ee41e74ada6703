"""The query actor over a worker in memory, on the virtual clock: exact times."""

import itertools
import math
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow as pa
import pytest
import trio

from caraway.config.model import QueryLimits
from caraway.errors import QueryError, QueryFailure
from caraway.events import QueryFinished, WorkerDied, WorkerStarted, WorkerStopped
from caraway.model import ArrowFiles, CacheReading, FlightMessage, PlanFacts, Principal, Query, ReadingStatus
from caraway.query.actor import PAUSED, WAITING_PER_RUNNING, QueryActor
from caraway.query.protocol import ProtocolError
from support.fake_worker import FakeWorker
from support.query_tables import FileTables


class Rig:
    """An actor, what it emitted and what its workers did."""

    def __init__(self, boots=(), **limits):
        self.events, self.log = [], []
        self.tables = FileTables()
        self.tables.add("t", pa.schema([("a", pa.int64())]), ArrowFiles((Path("none"),)))
        boots = iter(boots)
        self.actor = QueryActor(
            self.tables,
            QueryLimits(**{"memory_limit": 2**31, "max_concurrent_queries": 4} | limits),
            self.events.append,
            cores=1,
            start=lambda: FakeWorker(self.log, next(boots, 0.5)),
        )

    async def rows(self, sql, **more):
        async with self.actor.execute(Query(sql, **more)) as result:
            return [chunk async for chunk in result]

    async def outcome(self, sql, into, **more):
        """Append (what came of it, when) to `into`."""
        try:
            came = await self.rows(sql, **more)
        except QueryError as error:
            came = error.failure
        into.append((sql, came, trio.current_time()))

    def outcomes(self):
        return [(event.sql, event.failure) for event in self.events if isinstance(event, QueryFinished)]


@asynccontextmanager
async def running(rig):
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: rig.actor.run(task_status=task_status))
        yield rig
        nursery.cancel_scope.cancel()


async def fails(rig, sql, **more):
    with pytest.raises(QueryError) as caught:
        await rig.rows(sql, **more)
    return caught.value.failure


@pytest.fixture
async def rig(autojump_clock):
    async with running(Rig()) as rig:
        await trio.sleep(1)
        yield rig
    assert rig.tables.pins == 0
    assert "running=0 waiting=0" in repr(rig.actor)


async def test_an_answer_streams_and_counts_its_rows(autojump_clock, rig):
    async with rig.actor.execute(Query("slow 1")) as result:
        assert result.schema == FlightMessage(b"schema", b"")
        assert [chunk async for chunk in result] == [b"0", b"1", b"2"]
        assert [chunk async for chunk in result] == []
        assert result.rows == 3
    assert rig.outcomes() == [("slow 1", "")]


async def test_entering_waits_for_the_first_chunk(autojump_clock, rig):
    began = trio.current_time()
    async with rig.actor.execute(Query("late 3")) as result:
        assert trio.current_time() == began + 3
        assert [chunk async for chunk in result] == [b"0"]


async def test_a_failure_comes_before_entering(autojump_clock, rig):
    assert await fails(rig, "fail resources") is QueryFailure.RESOURCES
    assert rig.outcomes() == [("fail resources", "resources")]


async def test_the_worker_gets_the_catalog_it_lacks(autojump_clock, rig):
    assert await rig.rows("catalog") == [b"%d" % rig.tables.catalog.value.version]


async def test_pins_are_held_until_the_end(autojump_clock, rig):
    async with rig.actor.execute(Query("read t")) as result:
        assert rig.tables.pins == 1
        async for _ in result:
            assert rig.tables.pins == 1
    assert rig.tables.pins == 0


async def test_what_was_read_of_a_cache_is_told_at_once_and_grows_older(autojump_clock, rig):
    rig.tables.readings["t"] = CacheReading("t", ReadingStatus.STALE, 4.0, 2)
    async with rig.actor.execute(Query("read t")) as result:
        assert result.readings == (CacheReading("t", ReadingStatus.STALE, 4.0, 2),)
        await trio.sleep(1)
        assert result.readings == (CacheReading("t", ReadingStatus.STALE, 5.0, 2),)


async def test_a_dataset_that_is_not_ready_fails_the_query(autojump_clock, rig):
    rig.tables.not_ready.add("t")
    assert await fails(rig, "read t") is QueryFailure.NOT_READY


async def test_the_plan_is_told_before_anything_is_read(autojump_clock, rig):
    heard = []
    async with rig.actor.execute(Query("planned read t"), lambda facts: heard.append((facts, rig.tables.pins))):
        assert heard == [(PlanFacts("key of read t", ("read t",), cacheable=True), 0)]
        assert rig.tables.pins == 1
    assert await rig.rows("planned ok") == [b"0"]


class FoundElsewhereError(Exception):
    """What a cache raises when it has the answer."""


@pytest.mark.parametrize("end", [FoundElsewhereError(), QueryError("not there", QueryFailure.NOT_CACHED)])
@pytest.mark.parametrize("sql", ["planned read t", "planned late 5"])
async def test_who_hears_of_the_plan_may_end_the_query_and_tells_of_it_alone(autojump_clock, rig, sql, end):
    def planned(facts):
        raise end

    began = trio.current_time()
    with pytest.raises(type(end)) as caught:
        async with rig.actor.execute(Query(sql), planned):
            raise AssertionError
    assert caught.value is end
    assert trio.current_time() == began
    assert rig.outcomes() == []
    assert rig.tables.pins == 0
    assert "running=0" in repr(rig.actor)
    assert await rig.rows("ok") == [b"0"]


async def test_a_plan_is_told_once_however_often_its_worker_dies(autojump_clock, rig):
    heard = []
    with pytest.raises(QueryError):
        async with rig.actor.execute(Query("planned crash"), heard.append):
            raise AssertionError
    assert [facts.key for facts in heard] == ["key of crash"]
    assert rig.outcomes() == [("planned crash", "internal")]


async def test_a_query_that_fails_after_its_plan_is_told_as_failed(autojump_clock, rig):
    with pytest.raises(QueryError):
        async with rig.actor.execute(Query("planned fail resources"), lambda facts: None):
            raise AssertionError
    assert rig.outcomes() == [("planned fail resources", "resources")]


async def test_plan_and_table_schema(autojump_clock, rig):
    assert await rig.actor.plan(Query("ok")) == FlightMessage(b"schema", b"")
    assert await rig.actor.table_schema("ok") == FlightMessage(b"schema", b"")
    assert rig.outcomes() == []


@pytest.mark.parametrize(("bound", "sql", "expected"), [(2, "late 5", 2), (0.5, "slow 1", 1.5), (2, "stuck", 3)])
async def test_the_timeout_covers_all_of_a_query(autojump_clock, rig, bound, sql, expected):
    """One that does not stop takes a second more: that long the worker is given."""
    began = trio.current_time()
    assert await fails(rig, sql, timeout=bound) is QueryFailure.TIMEOUT
    assert trio.current_time() - began == pytest.approx(expected)


async def test_the_configured_timeout_is_the_default(autojump_clock):
    async with running(Rig(timeout=2.0)) as rig:
        began = trio.current_time()
        assert await fails(rig, "late 5") is QueryFailure.TIMEOUT
        assert trio.current_time() - began == pytest.approx(2)


async def test_a_query_that_stops_when_asked_keeps_its_worker(autojump_clock, rig):
    assert await fails(rig, "late 60", timeout=2) is QueryFailure.TIMEOUT
    assert await rig.rows("ok") == [b"0"]
    assert not any("killed" in line for line in rig.log)


async def test_a_query_that_does_not_stop_loses_its_worker_after_a_second(autojump_clock, rig):
    with trio.move_on_after(2):
        await rig.rows("stuck")
    assert trio.current_time() == 4
    assert rig.log[-1] == "killed at 4"
    assert await rig.rows("ok") == [b"0"]
    assert rig.outcomes() == [("stuck", "cancelled"), ("ok", "")]


async def test_a_worker_that_said_it_has_stopped_is_not_waited_for(autojump_clock, rig):
    began = trio.current_time()
    assert await rig.rows("over") == [b"all"]
    assert trio.current_time() == began
    assert not any("killed" in line for line in rig.log)


async def test_what_runs_on_after_its_answer_loses_its_worker_after_a_second(autojump_clock, rig):
    began = trio.current_time()
    assert await rig.rows("lingering") == [b"all"]
    assert trio.current_time() == began + 1
    assert rig.log[-1] == f"killed at {began + 1:g}"
    assert rig.outcomes() == [("lingering", "")]


async def test_leaving_early_is_a_cancellation(autojump_clock, rig):
    async with rig.actor.execute(Query("slow 1")) as result:
        async for _ in result:
            break
    assert rig.outcomes() == [("slow 1", "cancelled")]


async def test_innocent_queries_run_again_and_streaming_ones_are_told(autojump_clock, rig):
    came = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.outcome, "late 4", came)
        nursery.start_soon(rig.outcome, "begun", came)
        with trio.move_on_after(1):
            await rig.rows("stuck")
    assert [(sql, what) for sql, what, _ in came] == [("begun", QueryFailure.UNAVAILABLE), ("late 4", [b"0"])]
    assert came[0][2] == 3
    assert came[1][2] == pytest.approx(3 + 0.5 + 4)


@pytest.mark.parametrize(("sql", "failure"), [("eat", QueryFailure.RESOURCES), ("crash", QueryFailure.INTERNAL)])
async def test_the_guilty_is_found_by_running_suspects_alone(autojump_clock, rig, sql, failure):
    came = []
    async with trio.open_nursery() as nursery:
        for innocent in ("late 1", "late 2", "late 3"):
            nursery.start_soon(rig.outcome, innocent, came)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(rig.outcome, sql, came)
    assert {what: came_of for what, came_of, _ in came} == {
        "late 1": [b"0"],
        "late 2": [b"0"],
        "late 3": [b"0"],
        sql: failure,
    }
    assert sum("crash" in line or "memory" in line for line in rig.log if " at " in line and "'" not in line) == 2


async def test_a_crash_while_planning_is_tried_again_then_reported(autojump_clock, rig):
    with pytest.raises(QueryError) as caught:
        await rig.actor.plan(Query("crash"))
    assert caught.value.failure is QueryFailure.INTERNAL


async def test_queries_wait_for_a_place_and_too_many_are_turned_away(autojump_clock):
    async with running(Rig(max_concurrent_queries=1)) as rig:
        came = []
        async with trio.open_nursery() as nursery:
            for _ in range(1 + WAITING_PER_RUNNING + 3):
                nursery.start_soon(rig.outcome, "late 1", came)
        turned_away = [when for _, what, when in came if what is QueryFailure.OVERLOADED]
        answered = [when for _, what, when in came if what == [b"0"]]
        assert (turned_away, len(answered)) == ([0, 0, 0], 1 + WAITING_PER_RUNNING)
        assert answered == pytest.approx([1.5 + n for n in range(1 + WAITING_PER_RUNNING)])


async def test_a_modest_principal_is_served_between_a_greedy_one_s_queries(autojump_clock):
    async with running(Rig(max_concurrent_queries=2)) as rig:
        came = []
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(lambda: rig.outcome("late 1", came, principal=Principal("greedy")))
            await trio.sleep(0.1)
            nursery.start_soon(lambda: rig.outcome("late 1.0", came, principal=Principal("modest")))
        assert next(when for sql, _, when in came if sql == "late 1.0") == pytest.approx(2.5)


async def test_zero_means_no_bound(autojump_clock):
    async with running(Rig(max_concurrent_queries=0)) as rig:
        came = []
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(rig.outcome, "late 1", came)
        assert {when for _, _, when in came} == {1.5}


async def test_who_waits_for_a_source_lends_the_place_and_is_the_next_to_get_one(autojump_clock):
    async with running(Rig(max_concurrent_queries=1)) as rig:
        rig.tables.seconds["t"] = 9
        came = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.outcome, "read t", came)
            await trio.sleep(1)
            for n in range(9):
                nursery.start_soon(rig.outcome, f"late 3.{n}", came)
        ends = {sql: when for sql, _, when in came}
        assert min(ends.values()) == pytest.approx(1 + 3, abs=0.9)
        at = [sql for sql, _, _ in came].index("read t")
        began = max(when for sql, _, when in came[:at])
        assert ends["read t"] == pytest.approx(began + 2), "as soon as the one that ran was done"
        assert 9.5 < ends["read t"] < 9.5 + 4 + 2
        assert "running=0 waiting=0 paused=0" in repr(rig.actor)


async def test_so_many_lend_their_places_and_more_keep_them(autojump_clock):
    async with running(Rig(max_concurrent_queries=2)) as rig:
        rig.tables.seconds["t"] = 1000
        came = []
        async with trio.open_nursery() as nursery:
            for _ in range(PAUSED + 1):
                nursery.start_soon(rig.outcome, "read t", came)
            await trio.sleep(10)
            assert "running=1 waiting=0 paused=64" in repr(rig.actor)
            assert await rig.rows("ok") == [b"0"]
            nursery.start_soon(rig.outcome, "read t", came)
            await trio.sleep(10)
            with trio.move_on_after(100) as waiting:
                await rig.rows("ok")
            assert waiting.cancelled_caught
            nursery.cancel_scope.cancel()
        assert "running=0 waiting=0 paused=0" in repr(rig.actor)


@pytest.mark.parametrize("end", [0.5, 0.52, 0.6, 5, 9.6])
async def test_whoever_leaves_while_the_place_is_lent_leaves_nothing(autojump_clock, end):
    async with running(Rig(max_concurrent_queries=1)) as rig:
        rig.tables.seconds["t"] = 9
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.outcome, "read t", [])
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(rig.outcome, "late 30", [])
            await trio.sleep(end)
            nursery.cancel_scope.cancel()
        assert "running=0 waiting=0 paused=0" in repr(rig.actor)
        assert rig.tables.pins == 0
        assert await rig.rows("ok") == [b"0"]


async def test_a_waiting_query_that_leaves_frees_its_place(autojump_clock):
    async with running(Rig(max_concurrent_queries=1)) as rig:
        came = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.outcome, "late 5", came)
            await trio.sleep(1)
            with trio.move_on_after(1):
                await rig.rows("ok")
            assert "waiting=0" in repr(rig.actor)
        assert len(came) == 1


async def test_a_worker_that_cannot_start_is_tried_again_ever_more_slowly(autojump_clock):
    async with running(Rig(boots=[None] * 9)) as rig:
        assert await rig.rows("ok") == [b"0"]
        starts = [float(line.split()[-1]) for line in rig.log if line.startswith("start")]
        pauses = [round(after - before, 3) for before, after in itertools.pairwise(starts)]
        assert pauses == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]


async def test_with_little_memory_the_first_query_starts_the_worker(autojump_clock):
    async with running(Rig(memory_limit=2**28)) as rig:
        await trio.sleep(10)
        assert rig.log == []
        assert await rig.rows("ok") == [b"0"]
        assert rig.log[0] == "start at 10"


async def test_two_workers_take_turns_and_a_kill_spares_the_other(autojump_clock):
    async with running(Rig(workers=2)) as rig:
        came = []
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.outcome, "late 4", came)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(1):
                await rig.rows("stuck")
        assert came == [("late 4", [b"0"], 5)]


async def test_shutdown_ends_queries_as_unavailable(autojump_clock):
    rig, came = Rig(), []
    async with trio.open_nursery() as nursery:
        async with running(rig):
            nursery.start_soon(rig.outcome, "late 9", came)
            nursery.start_soon(rig.outcome, "begun", came)
            await trio.sleep(1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(rig.outcome, "ok", came)
    assert {sql: what for sql, what, _ in came} == dict.fromkeys(("late 9", "begun", "ok"), QueryFailure.UNAVAILABLE)


async def test_garbage_from_a_worker_is_a_bug_not_an_answer(autojump_clock, rig):
    with pytest.raises(ProtocolError):
        await rig.rows("garbage")


async def test_workers_report_their_lives(autojump_clock):
    async with running(Rig()) as rig:
        await rig.rows("ok")
        with trio.move_on_after(1):
            await rig.rows("stuck")
        await trio.sleep(1)
    kinds = [type(event) for event in rig.events if isinstance(event, WorkerStarted | WorkerStopped)]
    assert kinds == [WorkerStarted, WorkerStopped, WorkerStarted, WorkerStopped]
    assert [event.reason for event in rig.events if isinstance(event, WorkerStopped)] == ["killed", "shutdown"]
    assert next(event.seconds for event in rig.events if isinstance(event, WorkerStarted)) == 0.5


async def test_a_worker_that_dies_of_itself_is_told_with_its_last_words(autojump_clock, rig):
    with pytest.raises(QueryError):
        await rig.rows("crash")
    died = [event for event in rig.events if isinstance(event, WorkerDied)]
    assert [(event.reason, event.last_words) for event in died] == [("crashed", "what it said last")] * 2


@pytest.mark.parametrize("sql", ["late 9", "read t", "catalog", "slow 3", "stuck", "planned read t"])
@pytest.mark.parametrize("after", [0, 0.2, 0.7, 1.5, 4.0])
async def test_cancelled_anywhere_nothing_stays_behind(autojump_clock, sql, after):
    async with running(Rig()) as rig:
        began = trio.current_time()
        with trio.move_on_after(after):
            await rig.rows(sql)
        assert trio.current_time() - began <= after + 1 or math.isclose(trio.current_time() - began, after + 1)
        assert rig.tables.pins == 0
        assert "running=0 waiting=0" in repr(rig.actor)
        assert await rig.rows("ok") == [b"0"]
