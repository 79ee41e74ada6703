"""Real worker processes: answers, kills, memory, leftovers."""

import os
import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
import trio

from caraway.config.model import QueryLimits
from caraway.errors import QueryError, QueryFailure
from caraway.events import WorkerStarted, WorkerStopped
from caraway.model import FlightMessage, Query, ResultFormat
from caraway.query.actor import QueryActor
from support.query_tables import FileTables, arrow_files, parquet_files

ENDLESS = [
    "select count(*) from t x, t y where x.a + y.a = -1",
    "select count(*) from t x, t y, t z where x.a + y.a + z.a = -1",
    "select x.a from t x cross join t y order by x.a * y.a",
]


@asynccontextmanager
async def engine(tmp_path, rows=100_000, **limits):
    table = pa.table({"a": pa.array(range(rows)), "b": pa.array([f"b{n % 7}" for n in range(rows)])})
    tables = FileTables()
    tables.add("t", table.schema, arrow_files(tmp_path, table, files=2))
    tables.add("p", table.schema, parquet_files(tmp_path, table, parts=3, tail=9, hidden=(1, 2)))
    events = []
    (tmp_path / "spill").mkdir()
    limits = {"memory_limit": 2**31, "temp_directory": tmp_path / "spill"} | limits
    actor = QueryActor(tables, QueryLimits(**limits), events.append, cores=2)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: actor.run(task_status=task_status))
            yield actor, events
            nursery.cancel_scope.cancel()
    assert tables.pins == 0
    assert list((tmp_path / "spill").iterdir()) == []


async def rows(actor, sql, **more):
    async with actor.execute(Query(sql, **more)) as result:
        return orjson.loads(b"".join([chunk async for chunk in result]))


def pids(events):
    return [event.pid for event in events if isinstance(event, WorkerStarted)]


def cpu_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def wait_idle(pid, within):
    """The worker is gone or uses no CPU, within so many seconds."""
    with trio.fail_after(within):
        used = cpu_seconds(pid)
        while used is not None:
            await trio.sleep(0.1)
            now = cpu_seconds(pid)
            if now is None or now - used < 0.02:
                return
            used = now


async def test_every_format_of_one_answer(tmp_path):
    async with engine(tmp_path) as (actor, _):
        sql = "select a, b from p where a between 0 and 4 order by a"
        expected = [{"a": 0, "b": "b0"}, {"a": 3, "b": "b3"}, {"a": 4, "b": "b4"}]
        assert await rows(actor, sql) == expected
        async with actor.execute(Query(sql, format=ResultFormat.ARROW_STREAM)) as result:
            stream = b"".join([chunk async for chunk in result])
            assert (pa.ipc.open_stream(stream).read_all().to_pylist(), result.rows) == (expected, 3)
        async with actor.execute(Query(sql, format=ResultFormat.IPC)) as result:
            messages = [result.schema, *[message async for message in result]]
        assert pa.ipc.open_stream(b"".join(map(framed, messages))).read_all().to_pylist() == expected


def framed(message: FlightMessage) -> bytes:
    return b"\xff\xff\xff\xff" + len(message.header).to_bytes(4, "little") + message.header + message.body


async def test_a_large_answer_streams_in_bounded_chunks(tmp_path):
    async with engine(tmp_path, rows=400_000) as (actor, _):
        async with actor.execute(Query("select a, b, repeat(b, 20) as c from t", format=ResultFormat.IPC)) as result:
            sizes = [len(message.body) async for message in result]
        assert result.rows == 400_000
        assert max(sizes) < 8 * 1024**2
        assert len(sizes) > 4


@pytest.mark.parametrize("sql", ENDLESS)
async def test_whatever_the_query_its_cpu_is_free_two_seconds_after_it_was_cancelled(tmp_path, sql):
    async with engine(tmp_path) as (actor, events):
        await rows(actor, "select 1")
        with trio.move_on_after(0.5):
            await rows(actor, sql)
        cancelled = trio.current_time()
        await wait_idle(pids(events)[0], within=2 - (trio.current_time() - cancelled))
        assert await rows(actor, "select 1 as n") == [{"n": 1}]


async def test_a_timeout_is_an_error_and_the_next_query_is_answered(tmp_path):
    async with engine(tmp_path, timeout=0.5) as (actor, _):
        with pytest.raises(QueryError) as caught:
            await rows(actor, ENDLESS[0], timeout=1.5)
        assert caught.value.failure is QueryFailure.TIMEOUT
        assert await rows(actor, "select 1 as n", timeout=20) == [{"n": 1}]


async def test_a_slow_reader_is_waited_for_and_may_leave(tmp_path):
    async with engine(tmp_path, rows=400_000) as (actor, events):
        async with actor.execute(Query("select a, repeat(b, 50) as c from t", format=ResultFormat.IPC)) as result:
            async for _ in result:
                break
        assert await rows(actor, "select 1 as n") == [{"n": 1}]
        assert len(pids(events)) == 1


async def test_a_worker_killed_from_outside_is_replaced_and_its_query_run_again(tmp_path):
    async with engine(tmp_path) as (actor, events):
        await rows(actor, "select 1")
        came = []

        async def ask():
            came.extend(
                await rows(actor, "select count(*) as n from t x, (select a from t limit 10000) y where x.a + y.a = -1")
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.2)
            os.kill(pids(events)[0], signal.SIGKILL)
        assert came == [{"n": 0}]
        assert len(pids(events)) >= 2


async def test_a_query_beyond_the_memory_limit_fails_alone(tmp_path):
    async with engine(tmp_path, memory_limit=64 * 1024**2) as (actor, _):
        await rows(actor, "select 1")
        with pytest.raises(QueryError) as caught:
            await rows(
                actor, "select array_agg(repeat(x.b, 400) || y.a) as n from t x cross join (select a from t limit 40) y"
            )
        assert caught.value.failure is QueryFailure.RESOURCES
        assert await rows(actor, "select count(*) as n from t") == [{"n": 100_000}]


async def test_memory_that_the_engine_does_not_count_is_refused_by_the_kernel(tmp_path):
    """One value of four gigabytes: no pool sees it coming, so the kernel's limit does."""
    async with engine(tmp_path, memory_limit=64 * 1024**2) as (actor, _):
        await rows(actor, "select 1")
        with pytest.raises(QueryError) as caught:
            await rows(actor, "select length(repeat(b || a, 400000)) as n from t limit 10000")
        assert caught.value.failure in {QueryFailure.RESOURCES, QueryFailure.INVALID}
        assert await rows(actor, "select count(*) as n from t") == [{"n": 100_000}]


async def test_a_sort_larger_than_its_memory_spills(tmp_path):
    async with engine(tmp_path, rows=400_000, memory_limit=48 * 1024**2) as (actor, _):
        sql = "select max(r) as n from (select row_number() over (order by repeat(b, 30), a) as r from t)"

        async def wait_spilled():
            while not list((tmp_path / "spill").glob("caraway-worker-*/.tmp*")):  # noqa: ASYNC110 - of another process
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_spilled)
            assert await rows(actor, sql) == [{"n": 400_000}]


async def test_the_socket_is_found_however_long_the_path_of_the_temp_directory(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with engine(tmp_path, temp_directory=deep) as (actor, _):
        assert await rows(actor, "select 1 as n") == [{"n": 1}]
    assert list(deep.iterdir()) == []


async def test_shutdown_leaves_no_process(tmp_path):
    async with engine(tmp_path) as (actor, events):
        await rows(actor, "select 1")
        with trio.move_on_after(0.3):
            await rows(actor, ENDLESS[1])
    for pid in pids(events):
        assert cpu_seconds(pid) is None
    assert any(isinstance(event, WorkerStopped) for event in events)


async def test_a_worker_ends_with_its_daemon(tmp_path):
    """Its standard input ends when the daemon does, however that dies."""
    async with engine(tmp_path) as (actor, events):
        await rows(actor, "select 1")
        worker = actor._workers.value[0]
        await worker._process.stdin.aclose()
        with trio.fail_after(5):
            await worker.dead.wait()
        assert await rows(actor, "select 1 as n") == [{"n": 1}]
        assert len(pids(events)) == 2


def test_leftovers_of_dead_daemons_are_wiped(tmp_path):
    from caraway.query.process import private_directory, wipe_left_over

    mine = private_directory(tmp_path)
    gone = tmp_path / "caraway-worker-999999999-x"
    gone.mkdir()
    (gone / "spill").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    wipe_left_over(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, tmp_path / "other"])
    assert mine.stat().st_mode & 0o777 == 0o700
    assert time.time() - mine.stat().st_mtime < 60
