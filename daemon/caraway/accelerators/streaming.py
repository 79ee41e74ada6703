"""Blocking iterators of batches driven from trio: one thread at a time, one batch ahead of nobody."""

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Generic, TypeAlias, TypeVar

import pyarrow as pa
import trio

from caraway import blocking

T = TypeVar("T")
Batches: TypeAlias = Generator[pa.RecordBatch, None, None]


class Stream(Generic[T]):
    """What a generator yields, each item fetched in a thread when it is asked for."""

    def __init__(self, items: Generator[T, None, None], limiter: trio.CapacityLimiter) -> None:
        self._items = items
        self._limiter = limiter

    def __aiter__(self) -> "Stream[T]":
        return self

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        item = await blocking.call(self._next, limiter=self._limiter)
        if item is None:
            raise StopAsyncIteration
        return item

    def _next(self) -> T | None:
        return next(self._items, None)

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await blocking.call(self._items.close, limiter=self._limiter)


@asynccontextmanager
async def streamed(start: Callable[[], Generator[T, None, None]]) -> AsyncIterator[Stream[T]]:
    """The items of a generator that blocks; leaving the context closes it."""
    stream = Stream(start(), trio.CapacityLimiter(1))
    try:
        yield stream
    finally:
        await stream.aclose()


def projected(
    batches: Generator[pa.RecordBatch, None, None], columns: list[str]
) -> Generator[pa.RecordBatch, None, None]:
    """The batches without the columns that were read beside those asked for."""
    with_closing = batches
    try:
        for batch in with_closing:
            yield batch.select(columns)
    finally:
        with_closing.close()
