"""Blocking driver calls from trio: a thread with a limiter, and a stop button for each driver."""

from collections.abc import Callable
from typing import TypeVar

import outcome
import trio

T = TypeVar("T")

THREADS = 32
"""Calls that run at a time, whatever number of limiters there is: a start opens all datasets at once."""
_threads: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("caraway-threads")

PRESS_EVERY = 0.05
"""Seconds. A driver that had not begun when the button was pressed has not noticed; so it is pressed again."""


async def call(
    fn: Callable[..., T],
    *args: object,
    limiter: trio.CapacityLimiter,
    interrupt: Callable[[], None] | None = None,
) -> T:
    """Run `fn(*args)` in a thread. On cancellation press `interrupt`, then wait for the thread to come back.

    Without an `interrupt` the call is short by contract and is simply waited for, so no thread outlives its caller.
    A result that came all the same is given back; the caller meets the cancellation at its next checkpoint. An error
    that follows the button is the driver's way of stopping: the caller gets Cancelled. A call that still waits for
    the limiter is cancelled without having run.
    """
    async with limiter, _all():
        result = await _finish(fn, args, interrupt)
    if isinstance(result, outcome.Error):
        await trio.lowlevel.checkpoint_if_cancelled()
    return result.unwrap()


def _all() -> trio.CapacityLimiter:
    """The bound that all calls of this trio run share."""
    try:
        return _threads.get()
    except LookupError:
        _threads.set(made := trio.CapacityLimiter(THREADS))
        return made


async def _finish(
    fn: Callable[..., T], args: tuple[object, ...], interrupt: Callable[[], None] | None
) -> outcome.Outcome[T]:
    finished = trio.Event()
    async with trio.open_nursery() as nursery:
        if interrupt is not None:
            nursery.start_soon(_press_on_cancel, finished, interrupt)
        with trio.CancelScope(shield=True):
            result = await trio.to_thread.run_sync(lambda: outcome.capture(fn, *args), limiter=trio.CapacityLimiter(1))
        finished.set()
    return result


async def _press_on_cancel(finished: trio.Event, interrupt: Callable[[], None]) -> None:
    try:
        await finished.wait()
    except trio.Cancelled:  # the caller meets it at its next checkpoint, the result in hand
        with trio.CancelScope(shield=True):
            while not finished.is_set():
                interrupt()
                with trio.move_on_after(PRESS_EVERY):
                    await finished.wait()
