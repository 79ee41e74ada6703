"""One subscription to a change stream, in the island: read, decode, notice a peer that went silent."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio

from caraway.core.stream_words import Wish, write_wish
from caraway.errors import SourceError
from caraway.flight.changes import ChangeDecoder
from caraway.flight.codec import decode, encode
from caraway.flight.flight_pb2 import FlightDescriptor
from caraway.model import Arrival, FlightMessage, Phase, Truncate

Put: TypeAlias = Callable[[Arrival], Awaitable[None]]
Count: TypeAlias = Callable[[], Awaitable[int]]
Patience: TypeAlias = Callable[[float], float]

COUNT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Subscription:
    """What is subscribed to; `count` as in `FlightClient.subscribe`."""

    path: str
    wish: Wish
    count: str | None = None

    @property
    def request(self) -> bytes:
        """The one message that asks for it."""
        descriptor = FlightDescriptor(type=FlightDescriptor.PATH, path=[self.path])
        return encode(
            FlightMessage(b"", b""), app_metadata=write_wish(self.wish), descriptor=descriptor.SerializeToString()
        )

    @property
    def action(self) -> str:
        """For error messages."""
        return f"subscribe to {self.path}"


async def listen(call: Any, put: Put, gone: Callable[[], SourceError], silence: float, count: Count | None) -> None:
    """Hand the arrivals of a call to `put` until the server ends it, or goes silent; SourceError, AioRpcError.

    A server that speaks our words promised heartbeats: where nothing comes for `silence` seconds, it is `gone`.
    """
    decoder = ChangeDecoder()
    counter = _Counter(count, put)
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(None) as limit:
            while True:
                limit.reschedule(now() + silence if decoder.spoken else None)
                wire = await call.read()
                limit.reschedule(None)  # while `put` waits, the silence is ours
                if wire is grpc.aio.EOF:
                    return
                if (arrival := decoder.decode(decode(wire))) is not None:
                    await put(arrival)
                    counter.follow(arrival)
    except TimeoutError as error:
        raise gone() from error
    finally:
        call.cancel()  # gRPC itself notices a call that nobody reads only when it is garbage-collected
        await counter.stop()


class _Counter:
    """Asks for the rows of a copy whose sender doesn't tell them, and puts the answer beside the stream."""

    def __init__(self, count: Count | None, put: Put) -> None:
        self._count = count
        self._put = put
        self._task: asyncio.Task[None] | None = None

    def follow(self, arrival: Arrival) -> None:
        """Count once a copy, from its first message on; once there is news, the copy is complete anyhow."""
        begins = arrival.phase is None and (self._task is None or Truncate() in arrival.changes)
        if self._task is not None and (begins or arrival.phase is Phase.LIVE):
            self._task.cancel()
        if begins and self._count is not None:
            self._task = asyncio.create_task(self._tell(self._count))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _tell(self, count: Count) -> None:
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                rows = await count()
        except (SourceError, grpc.aio.AioRpcError, TimeoutError):
            return  # whoever waits for the copy finds its end by the quiet after it
        await self._put(Arrival(expected=rows))
