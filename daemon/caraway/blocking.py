"""Blocking driver calls from trio: a thread with a limiter, and a stop button for each driver."""

from collections.abc import Callable
from typing import TypeVar

import outcome
import trio

T = TypeVar("T")


async def call(
    fn: Callable[..., T],
    *args: object,
    limiter: trio.CapacityLimiter,
    interrupt: Callable[[], None] | None = None,
) -> T:
    """Run `fn(*args)` in a thread. On cancellation press `interrupt`, then wait for the thread to come back.

    Without an `interrupt` the call is short by contract and is simply waited for, so no thread outlives its caller.
    A result that came all the same is given back; the caller meets the cancellation at its next checkpoint.
    """
    finished = trio.Event()
    async with trio.open_nursery() as nursery:
        if interrupt is not None:
            nursery.start_soon(_press_on_cancel, finished, interrupt)
        with trio.CancelScope(shield=True):
            result = await outcome.acapture(trio.to_thread.run_sync, lambda: fn(*args), limiter=limiter)
        finished.set()
    return result.unwrap()


async def _press_on_cancel(finished: trio.Event, interrupt: Callable[[], None]) -> None:
    try:
        await finished.wait()
    except trio.Cancelled:
        if not finished.is_set():
            interrupt()
        raise
