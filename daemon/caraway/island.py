"""The asyncio island: one background thread with an asyncio loop, for what speaks only asyncio (grpc.aio).

    trio task ── run(fn) ──────────▶ asyncio task          Harbour.call(fn) ◀── asyncio task
    trio task ◀── stream(produce) ── asyncio task          Harbour.stream(produce) ──▶ asyncio task

Who waits owns what runs on the other side: when the waiting task is cancelled, the running one is cancelled, and
waited for. Values of a stream cross in a `Pipe` of bounded weight, and a side is woken only if it sleeps: waking
costs a system call and a turn of the other loop, a value that is already there costs a lock.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, NamedTuple, NoReturn, TypeAlias, TypeVar

import outcome
import trio

T = TypeVar("T")
Put: TypeAlias = Callable[[T], Awaitable[None]]
Weigh: TypeAlias = Callable[[T], int]

STOP_SECONDS = 10.0
WAITING_CALLS = 1024


class IslandBusyError(Exception):
    """The trio side did not take the call: its queue is full, or it is closed."""


class Signal(NamedTuple):
    """A one-shot event of one world; `wake` may be called from the other one."""

    wake: Callable[[], object]
    wait: Callable[[], Awaitable[object]]


_NOBODY = Signal(lambda: None, trio.sleep_forever)
"""The signal of a side that does not wait."""


class World(NamedTuple):
    """What a pipe's end needs of the loop it lives in: new signals, and a turn for the others."""

    signal: Callable[[], Signal]
    checkpoint: Callable[[], Awaitable[None]]


class Bell:
    """Calls into another loop, those that come together by one call of `post`: each of these is a system call."""

    def __init__(self, post: Callable[[Callable[[], object]], object]) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._due: list[Callable[[], object]] = []

    def ring(self, fn: Callable[[], object]) -> None:
        """Have `fn` called over there; from any thread."""
        with self._lock:
            self._due.append(fn)
            if len(self._due) > 1:
                return
        self._post(self._answer)

    def _answer(self) -> None:
        with self._lock:
            due, self._due = self._due, []
        for fn in due:
            fn()


class Pipe(Generic[T]):
    """Values from one world to the other, first in first out; full once what waits weighs `budget`.

    One task puts and one takes. Both methods come back at once; a side that has to wait leaves its `Signal`.
    """

    def __init__(self, budget: int = 8, weigh: Weigh[T] = lambda _: 1) -> None:
        self._budget = budget
        self._weigh = weigh
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._weight = 0
        self._end: outcome.Outcome[None] | None = None
        self._taken = False
        self._sleeper: Signal | None = None

    def put_nowait(self, item: T, signal: Signal) -> bool:
        """Whether the item went in; if not, the signal comes when half of the room is free."""
        with self._lock:
            if self._weight >= self._budget:
                self._sleeper = signal
                return False
            self._items.append(item)
            self._weight += self._weigh(item)
            self._wake()
            return True

    def take_nowait(self, signal: Signal) -> outcome.Outcome[T] | None:
        """The next value, or the end as an Error (StopAsyncIteration for a good one); None: wait for the signal."""
        with self._lock:
            if not self._items:
                if self._end is None:
                    self._sleeper = signal
                    return None
                return self._end if isinstance(self._end, outcome.Error) else outcome.Error(StopAsyncIteration())
            self._taken = True
            item = self._items.popleft()
            self._weight -= self._weigh(item)
            if self._weight <= self._budget // 2:
                self._wake()
            return outcome.Value(item)

    def end(self, how: outcome.Outcome[None]) -> None:
        """Nothing more comes; the taker meets an error after the values before it."""
        with self._lock:
            self._end = how
            self._wake()

    def retract(self) -> bool:
        """Take back all that was put; False, and nothing done, if the taker has some of it already."""
        with self._lock:
            if not self._taken:
                self._items.clear()
                self._weight = 0
            return not self._taken

    def _wake(self) -> None:
        # One sleeper is enough: both sides never sleep at once, since a full pipe has something to take.
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            sleeper.wake()

    def __repr__(self) -> str:
        return f"<Pipe {self._weight}/{self._budget}{' ended' if self._end is not None else ''}>"


class Outlet(Generic[T]):
    """The putting end of a pipe, in its world."""

    def __init__(self, pipe: Pipe[T], world: World) -> None:
        self._pipe = pipe
        self._world = world
        self.retract = pipe.retract

    async def put(self, item: T) -> None:
        """Hand one value over; waits while the pipe is full."""
        await self._world.checkpoint()
        while not self._pipe.put_nowait(item, signal := self._world.signal()):
            await signal.wait()


class Inlet(Generic[T]):
    """The taking end of a pipe, in its world: an async iterator."""

    def __init__(self, pipe: Pipe[T], world: World) -> None:
        self._pipe = pipe
        self._world = world

    def take_nowait(self) -> T | None:
        """The next value if it is there already; the end shows in the iteration alone."""
        taken = self._pipe.take_nowait(_NOBODY)
        return taken.value if isinstance(taken, outcome.Value) else None

    def __aiter__(self) -> "Inlet[T]":
        return self

    async def __anext__(self) -> T:
        await self._world.checkpoint()
        while (taken := self._pipe.take_nowait(signal := self._world.signal())) is None:
            await signal.wait()
        return taken.unwrap()


class Island:
    """The trio side's view of the island. Its methods are called from the trio run that opened it."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.token = token
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self.here = World(self._trio_signal, trio.lowlevel.checkpoint)
        self.there = World(self._asyncio_signal, partial(asyncio.sleep, 0))
        self._trio_bell = Bell(token.run_sync_soon)
        self._asyncio_bell = Bell(self._loop.call_soon_threadsafe)
        self._thread = threading.Thread(target=self._live, name="caraway-island", daemon=True)

    async def run(self, fn: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run `await fn(*args)` on the asyncio side; what it returns or raises comes back.

        Cancellation cancels it and waits for its end; a result that came all the same is given back.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        waiting = trio.lowlevel.current_task()
        raise_cancel: Callable[[], NoReturn] | None = None

        def finish(result: outcome.Outcome[T]) -> None:
            if raise_cancel is not None and _is_cancelled(result):
                result = outcome.capture(raise_cancel)
            trio.lowlevel.reschedule(waiting, result)

        job = _Job(fn, args, lambda result: self.token.run_sync_soon(finish, result))

        def abort(raiser: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            nonlocal raise_cancel
            raise_cancel = raiser
            self._loop.call_soon_threadsafe(job.cancel)
            return trio.lowlevel.Abort.FAILED

        self._loop.call_soon_threadsafe(job.start)
        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    @asynccontextmanager
    async def stream(
        self, produce: Callable[..., Awaitable[None]], *args: object, budget: int = 8, weigh: Weigh[Any] = lambda _: 1
    ) -> AsyncIterator[Inlet[Any]]:
        """Run `await produce(outlet, *args)` on the asyncio side and iterate over what it puts.

        An error of `produce` is raised by the iteration; leaving the context cancels it and waits for its end.
        """
        pipe = Pipe[Any](budget, weigh)
        job = _Job(produce, (Outlet(pipe, self.there), *args), pipe.end)
        self._loop.call_soon_threadsafe(job.start)
        try:
            yield Inlet(pipe, self.here)
        finally:
            with trio.CancelScope(deadline=trio.current_time() + STOP_SECONDS, shield=True):
                await self.run(job.stop)

    def _trio_signal(self) -> Signal:
        event = trio.Event()
        return Signal(partial(self._trio_bell.ring, event.set), event.wait)

    def _asyncio_signal(self) -> Signal:
        event = asyncio.Event()
        return Signal(partial(self._asyncio_bell.ring, event.set), event.wait)

    def _live(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stop.wait())

    def start(self) -> None:
        """Begin to live; once."""
        self._thread.start()

    async def aclose(self) -> None:
        """Cancel what still runs over there, and wait for the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        await trio.to_thread.run_sync(self._thread.join, STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"an asyncio task ignored its cancellation for {STOP_SECONDS:.0f} seconds")


@asynccontextmanager
async def open_island() -> AsyncIterator[Island]:
    """Start the island's thread; on leaving, cancel what still runs there and end the thread."""
    island = Island(trio.lowlevel.current_trio_token())
    island.start()
    try:
        yield island
    finally:
        with trio.CancelScope(shield=True):
            await island.aclose()


class Harbour:
    """The asyncio side's way into trio, open while `serve` runs; `call` and `stream` are for tasks of the island."""

    def __init__(self, island: Island) -> None:
        self._island = island
        self._arrivals, self._quay = trio.open_memory_channel["_Visit"](WAITING_CALLS)

    async def serve(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run what the asyncio side asks for, each call a task of its own, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                async for visit in self._quay:
                    nursery.start_soon(visit.run)
        finally:
            self._refuse_waiting()

    async def call(self, fn: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run `await fn(*args)` in trio; cancelling the caller cancels it and waits for its end. IslandBusyError."""
        visit = _Visit(fn, args)
        self._island.token.run_sync_soon(self._arrive, visit)
        try:
            await asyncio.wait([visit.answer])
        finally:
            if not visit.answer.done():
                self._island.token.run_sync_soon(visit.scope.cancel)
                await asyncio.wait([visit.answer])
        result: T = visit.answer.result().unwrap()
        return result

    @asynccontextmanager
    async def stream(
        self, produce: Callable[..., Awaitable[None]], *args: object, budget: int = 8, weigh: Weigh[Any] = lambda _: 1
    ) -> AsyncIterator[Inlet[Any]]:
        """Run `await produce(outlet, *args)` in trio and iterate over what it puts; the mirror of Island.stream."""
        pipe = Pipe[Any](budget, weigh)
        call = asyncio.create_task(self.call(produce, Outlet(pipe, self._island.here), *args))
        call.add_done_callback(lambda task: pipe.end(_outcome_of(task)))
        try:
            yield Inlet(pipe, self._island.there)
        finally:
            call.cancel()
            await asyncio.wait([call])

    def _arrive(self, visit: "_Visit") -> None:
        try:
            self._arrivals.send_nowait(visit)
        except (trio.WouldBlock, trio.BrokenResourceError):
            visit.refuse()

    def _refuse_waiting(self) -> None:
        try:
            while True:
                self._quay.receive_nowait().refuse()
        except trio.WouldBlock:
            self._quay.close()


class _Job:
    """One asyncio task on behalf of trio; `start`, `cancel` and `stop` run in the island, in the order of posting."""

    def __init__(
        self,
        fn: Callable[..., Awaitable[Any]],
        args: tuple[object, ...],
        done: Callable[[outcome.Outcome[Any]], object],
    ) -> None:
        self._fn = fn
        self._args = args
        self._done = done
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._await())
        self._task.add_done_callback(lambda task: self._done(_outcome_of(task)))

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        self.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _await(self) -> Any:
        return await self._fn(*self._args)


class _Visit:
    """One trio task on behalf of the asyncio task that made this object."""

    def __init__(self, fn: Callable[..., Awaitable[Any]], args: tuple[object, ...]) -> None:
        self._fn = fn
        self._args = args
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[outcome.Outcome[Any]] = self._loop.create_future()
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        answer = await outcome.acapture(self._stay)
        if self.scope.cancelled_caught or (isinstance(answer, outcome.Error) and not _expected(answer.error)):
            answer = outcome.Error(asyncio.CancelledError())
        self._loop.call_soon_threadsafe(self.answer.set_result, answer)

    def refuse(self) -> None:
        self._loop.call_soon_threadsafe(self.answer.set_result, outcome.Error(IslandBusyError("the server is busy")))

    async def _stay(self) -> Any:
        with self.scope:
            return await self._fn(*self._args)


def _expected(error: BaseException) -> bool:
    return isinstance(error, Exception)


def _outcome_of(task: asyncio.Task[Any]) -> outcome.Outcome[Any]:
    if task.cancelled():
        return outcome.Error(asyncio.CancelledError())
    error = task.exception()
    return outcome.Error(error) if error is not None else outcome.Value(task.result())


def _is_cancelled(result: outcome.Outcome[Any]) -> bool:
    return isinstance(result, outcome.Error) and isinstance(result.error, asyncio.CancelledError)
