"""Messages to clients, in the island: none waits for its client for ever."""

import asyncio
from collections.abc import Iterable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from caraway.servers.flight.status import Code, RefusalError

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
CHECKS = 4
"""How often a write is looked at while its client has time."""


class Writing:
    """Writes of streams that may go on for ever. A client has `patience` seconds to take each message.

    One timer looks after all of them: `asyncio.timeout` around each took a third of the time of a small message.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._began: dict[asyncio.Task[Any], float] = {}
        self._given_up: set[asyncio.Task[Any]] = set()
        self._watching = False
        self._stopped = False

    async def write(self, context: Context, message: bytes) -> None:
        """Hand one message over; RefusalError where the client does not take it, or the server stops."""
        if self._stopped:
            raise self._refusal()
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._began[task] = loop.time()
        if not self._watching:
            self._watch(loop)
        try:
            await context.write(message)
        except asyncio.CancelledError:
            if task in self._given_up and task.uncancel() == 0:
                raise self._refusal() from None
            raise
        finally:
            del self._began[task]
            self._given_up.discard(task)

    async def stop(self) -> None:
        """Wait for no client any longer."""
        self._stopped = True
        self._give_up(list(self._began))

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watching = True
        loop.call_later(self._patience / CHECKS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watching = False
        latest = loop.time() - self._patience
        self._give_up([task for task, began in self._began.items() if began <= latest])
        if self._began:
            self._watch(loop)

    def _give_up(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        for task in tasks:
            if task not in self._given_up:
                self._given_up.add(task)
                task.cancel()

    def _refusal(self) -> RefusalError:
        if self._stopped:
            return RefusalError(Code.UNAVAILABLE, "The server is stopping. Come again.", retryable=True)
        details = f"Nothing was taken for {self._patience:.0f} seconds while messages wait. Come again."
        return RefusalError(Code.DEADLINE_EXCEEDED, details)

    def __repr__(self) -> str:
        return f"<Writing {len(self._began)} at a time>"
