"""Messages to clients, in the island: none waits for its client for ever."""

import asyncio
from typing import Any, TypeAlias

import grpc
import grpc.aio

from caraway.servers.flight.status import Code, RefusalError

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Writing:
    """Writes of streams that may go on for ever. A client has `patience` seconds to take each message."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._waits: set[asyncio.Timeout] = set()
        self._stopped = False

    async def write(self, context: Context, message: bytes) -> None:
        """Hand one message over; RefusalError where the client does not take it."""
        try:
            async with asyncio.timeout(0 if self._stopped else self._patience) as wait:
                self._waits.add(wait)
                try:
                    await context.write(message)
                finally:
                    self._waits.discard(wait)
        except TimeoutError as error:
            if self._stopped:
                raise RefusalError(Code.UNAVAILABLE, "The server is stopping. Come again.", retryable=True) from error
            details = f"Nothing was taken for {self._patience:.0f} seconds while messages wait. Come again."
            raise RefusalError(Code.DEADLINE_EXCEEDED, details) from error

    async def stop(self) -> None:
        """Wait for no client any longer."""
        self._stopped = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())
