"""A log in plain memory, a `ports.Log`: what a test does to it shows at once."""

from bisect import bisect_right
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import trio

from caraway.latest import Latest
from caraway.model import Append, ArrowFiles, Delete, Head, LogEntry, Snapshot, TableSpec

FILES = ArrowFiles((Path("none"),))


@dataclass(eq=False)
class FakeLog:
    """Entries are the objects that `append` and `delete` were given; `reading` counts the reads under way.

    `retained` is the least offset from which a follower can go on; `loaded` false is a log before its first load;
    `fails` is what the next reads raise.
    """

    spec: TableSpec
    loaded: bool = True
    epoch: str = "epoch-1"
    retained: int = 0
    fails: Exception | None = None
    reading: int = 0
    reads: int = 0
    generation: int = 0
    entries: list[LogEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.head = Latest(Head())
        self._publish()

    @property
    def end(self) -> int:
        return self.entries[-1].end if self.entries else 0

    def append(self, *batches: pa.RecordBatch) -> None:
        for rows in batches:
            self.entries.append(LogEntry(Append(rows), self.end + rows.num_rows))
        self._publish()

    def delete(self, keys: pa.RecordBatch) -> None:
        self.entries.append(LogEntry(Delete(keys), self.end + 1))
        self._publish()

    def replace(self, epoch: str, *batches: pa.RecordBatch) -> None:
        """A new epoch, with these rows."""
        self.epoch, self.entries, self.loaded = epoch, [], True
        self.append(*batches)

    def close(self) -> None:
        self.head.publish(Head(self.head.value.snapshot, closed=True))

    def _publish(self) -> None:
        self.generation += 1
        rows = sum(entry.change.rows.num_rows for entry in self.entries if isinstance(entry.change, Append))
        snapshot = Snapshot(self.epoch, self.generation, self.end, rows, rows, None, FILES)
        self.head.publish(Head(snapshot if self.loaded else None))

    @asynccontextmanager
    async def read(self, epoch, offset):
        await trio.lowlevel.checkpoint()
        if epoch != self.epoch or not (offset == 0 or self.retained <= offset <= self.end):
            yield None
            return
        if self.fails is not None:
            raise self.fails
        self.reads += 1
        self.reading += 1
        try:
            newer = self.entries[bisect_right(self.entries, offset, key=lambda entry: entry.end) :]
            async with aclosing(_since(newer, offset)) as entries:
                yield entries
        finally:
            self.reading -= 1


async def _since(entries, offset):
    for entry in entries:
        await trio.lowlevel.checkpoint()
        yield _from(entry, offset)


def _from(entry, offset):
    """What of an entry is at an offset and later."""
    if isinstance(entry.change, Delete) or entry.end - entry.change.rows.num_rows >= offset:
        return entry
    return LogEntry(Append(entry.change.rows.slice(entry.change.rows.num_rows - (entry.end - offset))), entry.end)
