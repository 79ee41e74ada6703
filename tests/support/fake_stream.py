"""A source that tells of changes: of each connection, what a test says in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import trio

from caraway.core import position
from caraway.model import Append, Arrival, Cursor, Delete, Mark, Phase, Position, Truncate
from support.dataset_world import wall
from support.fake_source import FakeSource, raise_next

END = object()
"""Said to end a stream without an error."""


@dataclass
class FakeStream(FakeSource):
    """`say` puts words into the connection that stands, or the next one; a word is an Arrival, an error, or END.

    `scripts` are said at once by the next connections, one each.
    """

    scripts: list[list[object]] = field(default_factory=list)
    follow_failures: list[BaseException | None] = field(default_factory=list)
    follows: list[tuple[float, Cursor | None]] = field(default_factory=list)
    taken: int = 0
    following: int = 0
    _said: list[object] = field(default_factory=list)
    _news: trio.Event = field(default_factory=trio.Event)

    def say(self, *words: object) -> None:
        self._said += words
        self._news.set()

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[Arrival]]:
        assert self.open > 0, "followed after close"
        self.follows.append((round(trio.current_time(), 6), cursor))
        await trio.lowlevel.checkpoint()
        raise_next(self.follow_failures)
        if self.scripts:
            self.say(*self.scripts.pop(0))
        self.following += 1
        try:
            yield self._arrivals()
        finally:
            self.following -= 1
            self._said = []

    async def _arrivals(self) -> AsyncIterator[Arrival]:
        while True:
            while not self._said:
                self._news = trio.Event()
                await self._news.wait()
            await trio.lowlevel.checkpoint()
            word = self._said.pop(0)
            if word is END:
                return
            if isinstance(word, BaseException):
                raise word
            if isinstance(word, float):
                await trio.sleep(word)
                continue
            self.taken += 1
            yield word


SCHEMA = pa.schema({"id": pa.int64(), "v": pa.string()})


def rows(*ids: int, v: str = "a", schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    """A batch of (id, v)."""
    columns = [pa.array(ids, pa.int64()), pa.array([v] * len(ids), pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def append(*ids: int, v: str = "a") -> Append:
    return Append(rows(*ids, v=v))


def delete(*ids: int) -> Delete:
    return Delete(rows(*ids).select(["id"]))


def at(offset: int, epoch: str = "e") -> Cursor:
    return position.encode(Position(epoch, offset))


# --- a caraway upstream: it tells phases, cursors and marks ----------------------------------------------------------


def mark(end: int, epoch: str = "e", *, skew: float = 0.0) -> Mark:
    return Mark(wall().timestamp() + skew, Position(epoch, end))


def copied(*changes: Append | Truncate, end: int, epoch: str = "e") -> list[Arrival]:
    """A complete copy: its beginning, its rows, its end."""
    parts = [Arrival((change,), Phase.SNAPSHOT, None, mark(end, epoch)) for change in (Truncate(), *changes)]
    return [*parts, Arrival((), Phase.SNAPSHOT_END, at(end, epoch), mark(end, epoch))]


def live(*changes: Append | Delete, end: int, head: int | None = None, epoch: str = "e") -> Arrival:
    return Arrival(changes, Phase.LIVE, at(end, epoch), mark(end if head is None else head, epoch))


def heartbeat(end: int, epoch: str = "e", *, skew: float = 0.0) -> Arrival:
    return Arrival((), Phase.HEARTBEAT, at(end, epoch), mark(end, epoch, skew=skew))


UNLOADED = Arrival((), Phase.HEARTBEAT)
"""What a caraway says while it has nothing itself."""


# --- a Spice upstream: rows that may be a copy or news ---------------------------------------------------------------


def told(*changes: Append | Delete | Truncate, expected: int | None = None) -> Arrival:
    return Arrival(changes, None, expected=expected)


def news(*changes: Append | Delete) -> Arrival:
    return Arrival(changes, Phase.LIVE)
