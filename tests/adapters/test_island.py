"""The island: results, errors and cancellation in both directions, bounded streams, a clean end."""

import asyncio
import threading

import pytest
import trio

from caraway.island import Harbour, IslandBusyError, Pipe, Signal, open_island

BOUND = 5.0


def _deaf() -> Signal:
    return Signal(lambda: None, trio.lowlevel.checkpoint)


@pytest.fixture
async def island():
    async with open_island() as opened:
        yield opened


@pytest.fixture
async def harbour(island, nursery):
    opened = Harbour(island)
    await nursery.start(opened.serve)
    return opened


async def _echo(*args):
    await asyncio.sleep(0)
    return args


async def _fail(error):
    raise error


class Watched:
    """An asyncio function that waits for ever and says how far it came."""

    def __init__(self):
        self.token = trio.lowlevel.current_trio_token()
        self.entered = trio.Event()
        self.left = False

    async def wait(self, *_):
        self.token.run_sync_soon(self.entered.set)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.left = True


# --- the pipe, without any loop --------------------------------------------------------------------------------------


def test_a_full_pipe_refuses_and_wakes_at_half():
    woken = []
    pipe = Pipe(budget=4)
    assert all(pipe.put_nowait(i, _deaf()) for i in range(4))
    assert not pipe.put_nowait(4, Signal(lambda: woken.append("putter"), trio.lowlevel.checkpoint))
    assert pipe.take_nowait(_deaf()).unwrap() == 0
    assert woken == []
    assert pipe.take_nowait(_deaf()).unwrap() == 1
    assert woken == ["putter"]


def test_an_item_heavier_than_the_budget_passes_alone():
    pipe = Pipe(budget=10, weigh=len)
    assert pipe.put_nowait("x" * 100, _deaf())
    assert not pipe.put_nowait("y", _deaf())
    assert len(pipe.take_nowait(_deaf()).unwrap()) == 100
    assert pipe.put_nowait("y", _deaf())


def test_what_was_not_taken_can_be_retracted():
    pipe = Pipe(budget=2)
    pipe.put_nowait("a", _deaf())
    assert pipe.retract()
    assert pipe.take_nowait(_deaf()) is None
    pipe.put_nowait("b", _deaf())
    assert pipe.take_nowait(_deaf()).unwrap() == "b"
    assert not pipe.retract()


# --- trio calls asyncio ----------------------------------------------------------------------------------------------


async def test_results_and_errors_come_back(island):
    assert await island.run(_echo, 1, "two") == (1, "two")
    with pytest.raises(LookupError, match="over there"):
        await island.run(_fail, LookupError("over there"))


async def test_it_runs_on_the_island_thread(island):
    async def where():
        return threading.current_thread().name

    assert await island.run(where) == "caraway-island"


async def test_cancelling_the_caller_cancels_the_task_and_waits_for_it(island):
    watched = Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(island.run, watched.wait)
        await watched.entered.wait()
        nursery.cancel_scope.cancel()
    assert watched.left


async def test_a_result_that_came_despite_cancellation_is_given_back(island):
    entered = trio.Event()

    async def stubborn(token):
        token.run_sync_soon(entered.set)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "kept"

    got = []

    async def call():
        got.append(await island.run(stubborn, trio.lowlevel.current_trio_token()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await entered.wait()
        nursery.cancel_scope.cancel()
    assert got == ["kept"]


async def test_a_cancelled_caller_does_not_start_anything(island):
    started = []

    async def note():
        started.append(1)

    with trio.CancelScope() as scope:
        scope.cancel()
        await island.run(note)
    assert scope.cancelled_caught
    assert started == []


async def test_an_asyncio_cancellation_of_its_own_is_an_error_of_the_call(island):
    with pytest.raises(asyncio.CancelledError):
        await island.run(_fail, asyncio.CancelledError())


async def test_many_calls_at_once(island):
    results = []

    async def call(i):
        results.append((await island.run(_echo, i))[0])

    async with trio.open_nursery() as nursery:
        for i in range(200):
            nursery.start_soon(call, i)
    assert sorted(results) == list(range(200))


# --- asyncio streams to trio -----------------------------------------------------------------------------------------


async def _count(outlet, n):
    for i in range(n):
        await outlet.put(i)


async def test_a_stream_arrives_in_order(island):
    async with island.stream(_count, 1000, budget=7) as items:
        assert [item async for item in items] == list(range(1000))


async def test_a_stream_raises_its_error_after_its_values(island):
    async def produce(outlet):
        await outlet.put("one")
        raise LookupError("then this")

    async with island.stream(produce) as items:
        assert await anext(items) == "one"
        with pytest.raises(LookupError, match="then this"):
            await anext(items)


async def test_a_stream_is_bounded_by_its_reader(island):
    put = []
    full = trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def produce(outlet):
        for i in range(100):
            if i == 5:
                token.run_sync_soon(full.set)
            await outlet.put(i)
            put.append(i)

    async with island.stream(produce, budget=5) as items:
        with trio.fail_after(BOUND):
            await full.wait()
        await island.run(_echo)
        await trio.testing.wait_all_tasks_blocked()
        assert len(put) == 5
        assert [item async for item in items] == list(range(100))


async def test_leaving_a_stream_early_ends_its_producer(island):
    watched = Watched()
    async with island.stream(watched.wait):
        await watched.entered.wait()
    assert watched.left


async def test_an_error_of_the_reader_comes_out_bare(island):
    watched = Watched()

    async def read():
        async with island.stream(watched.wait):
            await watched.entered.wait()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await read()
    assert watched.left


async def test_cancelling_a_blocked_reader_ends_the_producer(island):
    watched = Watched()

    async def read():
        async with island.stream(watched.wait) as items:
            async for _ in items:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await watched.entered.wait()
        nursery.cancel_scope.cancel()
    assert watched.left


async def test_a_stalled_stream_does_not_hold_up_another(island):
    async with island.stream(_count, 100, budget=1), island.stream(_count, 100, budget=1) as other:
        assert len([item async for item in other]) == 100


# --- asyncio calls trio ----------------------------------------------------------------------------------------------


async def test_asyncio_gets_results_and_errors_of_trio(island, harbour):
    async def double(x):
        await trio.lowlevel.checkpoint()
        return 2 * x

    async def refuse():
        raise LookupError("in trio")

    async def over_there():
        with pytest.raises(LookupError, match="in trio"):
            await harbour.call(refuse)
        return await harbour.call(double, 21)

    assert await island.run(over_there) == 42


async def test_cancelling_the_asyncio_side_cancels_the_trio_task(island, harbour):
    entered, left = trio.Event(), trio.Event()

    async def wait_in_trio():
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            left.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(island.run, harbour.call, wait_in_trio)
        await entered.wait()
        nursery.cancel_scope.cancel()
    assert left.is_set()


async def test_a_nested_nursery_that_is_cancelled_ends_as_a_cancellation(island, harbour):
    entered = trio.Event()

    async def nested():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            entered.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(island.run, harbour.call, nested)
        await entered.wait()
        nursery.cancel_scope.cancel()


async def test_trio_streams_to_asyncio(island, harbour):
    async def over_there():
        async with harbour.stream(_count, 500, budget=3) as items:
            return [item async for item in items]

    assert await island.run(over_there) == list(range(500))


async def test_leaving_a_stream_of_trio_cancels_it(island, harbour):
    left = trio.Event()

    async def produce(outlet):
        try:
            for i in range(1000):
                await outlet.put(i)
        finally:
            left.set()

    async def over_there():
        async with harbour.stream(produce, budget=2) as items:
            return await anext(items)

    assert await island.run(over_there) == 0
    assert left.is_set()


async def test_an_error_in_a_stream_of_trio_reaches_asyncio(island, harbour):
    async def produce(outlet):
        await outlet.put(1)
        raise LookupError("half way")

    async def over_there():
        async with harbour.stream(produce) as items:
            return [item async for item in items]

    with pytest.raises(LookupError, match="half way"):
        await island.run(over_there)


async def test_a_closed_harbour_refuses(island):
    harbour = Harbour(island)
    async with trio.open_nursery() as nursery:
        await nursery.start(harbour.serve)
        nursery.cancel_scope.cancel()
    with pytest.raises(IslandBusyError):
        await island.run(harbour.call, _echo)


async def test_closing_the_harbour_cancels_what_it_runs(island):
    entered = trio.Event()
    harbour = Harbour(island)

    async def wait_in_trio():
        entered.set()
        await trio.sleep_forever()

    async def call():
        with pytest.raises(asyncio.CancelledError):
            await island.run(harbour.call, wait_in_trio)

    async with trio.open_nursery() as callers, trio.open_nursery() as nursery:
        await nursery.start(harbour.serve)
        callers.start_soon(call)
        await entered.wait()
        nursery.cancel_scope.cancel()


# --- its end ---------------------------------------------------------------------------------------------------------


async def test_closing_cancels_what_still_runs_and_ends_the_thread():
    left = []

    async def linger():
        try:
            await asyncio.Event().wait()
        finally:
            left.append(True)

    async def leave_behind():
        asyncio.get_running_loop().keep = asyncio.create_task(linger())
        await asyncio.sleep(0)

    async with open_island() as island:
        await island.run(leave_behind)
    assert left == [True]
    assert "caraway-island" not in {thread.name for thread in threading.enumerate()}


async def test_an_error_in_the_body_comes_out_bare():
    with pytest.raises(ZeroDivisionError):
        async with open_island():
            raise ZeroDivisionError
    assert "caraway-island" not in {thread.name for thread in threading.enumerate()}


async def test_cancelling_the_body_with_a_call_in_flight():
    with trio.CancelScope() as scope:
        async with open_island() as island:
            watched = Watched()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(island.run, watched.wait)
                await watched.entered.wait()
                scope.cancel()
    assert watched.left
    assert scope.cancelled_caught


async def test_an_inlet_gives_what_is_there_without_waiting(island):
    there, go_on = asyncio.Event(), asyncio.Event()

    async def produce(outlet):
        await outlet.put("a")
        await outlet.put("b")
        there.set()
        await go_on.wait()

    async with island.stream(produce) as inlet:
        assert await anext(inlet) == "a"
        await island.run(there.wait)
        assert inlet.take_nowait() == "b"
        assert inlet.take_nowait() is None
        await island.run(_set, go_on)
        with pytest.raises(StopAsyncIteration):
            await anext(inlet)
        assert inlet.take_nowait() is None


async def _set(event):
    event.set()
