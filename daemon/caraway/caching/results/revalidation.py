"""Stale answers are computed anew in the background: one execution for a key, and a bounded number of them."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import trio

from caraway.caching.results.entry import Entry
from caraway.caching.results.executions import Executions
from caraway.caching.results.reports import Counts
from caraway.caching.results.run import Asked
from caraway.core.results_cache import Outcome
from caraway.errors import QueryError
from caraway.model import ANYTHING, Query

INTERNAL = "internal"
"""The door that revalidations come through."""
AT_A_TIME = 8
"""What is beyond stays stale until it is asked for again."""


class Revalidation:
    """Takes entries while `run` runs."""

    def __init__(self, executions: Executions, ask: Callable[[Query], Asked], counts: Counts) -> None:
        self._executions = executions
        self._ask = ask
        self._counts = counts
        self._under_way: set[bytes] = set()
        self._idle: trio.MemorySendChannel[Entry] | None = None

    def __repr__(self) -> str:
        return f"<Revalidation of {len(self._under_way)} entries>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Revalidate what `soon` is given, until cancelled."""
        send, receive = trio.open_memory_channel[Entry](0)  # which takes no more than tasks wait for
        async with send, receive, trio.open_nursery() as nursery:
            for _ in range(AT_A_TIME):
                nursery.start_soon(self._each, receive)
            self._idle = send
            task_status.started()

    def soon(self, entry: Entry) -> None:
        """Revalidate an entry, unless that is under way, or as many are as may be."""
        if not self._started(entry):
            self._counts.skipped += 1

    def _started(self, entry: Entry) -> bool:
        if self._idle is None or entry.key in self._under_way or entry.key in self._executions.flights:
            return False
        try:
            self._idle.send_nowait(entry)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self._under_way.add(entry.key)
        return True

    async def _each(self, stale: trio.MemoryReceiveChannel[Entry]) -> None:
        async for entry in stale:
            try:
                await self._revalidate(entry)
            finally:
                self._under_way.discard(entry.key)

    async def _revalidate(self, entry: Entry) -> None:
        run = self._executions.note(self._ask(replace(entry.query, directives=ANYTHING, protocol=INTERNAL)))
        async with AsyncExitStack() as stack:
            try:
                if (answer := await self._executions.lead(run, entry.key, stack)) is not None:
                    async for _ in answer:
                        pass
            except QueryError:  # the engine has told of it; what is there is served until its time is up
                run.outcome = Outcome.QUERY_FAILED
        self._counts.revalidated(run.outcome or Outcome.UNBOUNDABLE)
