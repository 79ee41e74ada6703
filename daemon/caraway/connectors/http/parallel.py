"""Several streams at work at once, given out one after the other."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import outcome
import trio

from caraway.errors import QueryError, SourceError, StoreError
from caraway.supervise import bare

T = TypeVar("T")


@asynccontextmanager
async def in_order(
    streams: Iterable[Callable[[], AsyncGenerator[T, None]]], *, width: int, first: int | None = None
) -> AsyncIterator[AsyncGenerator[T, None]]:
    """The items of all streams, those of an earlier one first; at most `width` run, each an item or two ahead.

    At the beginning `first` run, and twice as many after each that ends, for who may need the first alone. What a
    stream raises is raised in its place; those that are left run no further when the context ends.
    """
    waiting = iter(streams)
    try:
        async with trio.open_nursery() as nursery:

            async def items() -> AsyncGenerator[T, None]:
                running: deque[trio.MemoryReceiveChannel[outcome.Outcome[T]]] = deque()
                ahead = width if first is None else first
                while True:
                    while len(running) < ahead and (stream := next(waiting, None)) is not None:
                        sender, receiver = trio.open_memory_channel[outcome.Outcome[T]](1)
                        nursery.start_soon(_pump, stream, sender)
                        running.append(receiver)
                    if not running:
                        return
                    async with running.popleft() as arriving:
                        async for item in arriving:
                            yield item.unwrap()
                    ahead = min(width, 2 * ahead)

            async with aclosing(items()) as found:
                yield found
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise bare(group) from None


async def _pump(
    stream: Callable[[], AsyncGenerator[T, None]], sender: trio.MemorySendChannel[outcome.Outcome[T]]
) -> None:
    async with sender, aclosing(stream()) as items:
        while (item := await _next(items)) is not None:
            try:
                await sender.send(item)
            except trio.BrokenResourceError:  # nobody reads on
                return


async def _next(items: AsyncGenerator[T, None]) -> outcome.Outcome[T] | None:
    try:
        return outcome.Value(await anext(items))
    except StopAsyncIteration:
        return None
    except (SourceError, StoreError, QueryError) as error:
        return outcome.Error(error)
