"""What a Parquet store is at one moment: files, offsets, cursor. Immutable: readers never wait for the writer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from caraway.accelerators.runs import Hidden
from caraway.core.compaction import Size
from caraway.model import Cursor, IpcTail, ParquetFiles, Snapshot


@dataclass(frozen=True, slots=True)
class Part:
    """An immutable Parquet file of rows with first <= offset < end."""

    path: Path
    first: int
    end: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Tail:
    """A write-ahead file of rows with first <= offset < end, valid up to `length` bytes; the last one is written to."""

    path: Path
    first: int
    end: int
    rows: int
    length: int
    marks: list[tuple[int, int]] = field(default_factory=list, compare=False, repr=False)
    """For each commit (end, length) as it left them, in order. Grows in place, so it may be ahead of this value."""

    @property
    def data(self) -> IpcTail:
        return IpcTail(self.path, self.length)

    def extended(self, end: int, rows: int, length: int) -> Tail:
        """With one commit more."""
        self.marks.append((end, length))
        return replace(self, end=end, rows=self.rows + rows, length=length)


@dataclass(frozen=True, slots=True)
class State:
    """One state of the log; `generation` 0 is a store that nothing was ever committed to."""

    epoch: str
    tails: tuple[Tail, ...]
    parts: tuple[Part, ...] = ()
    generation: int = 0
    end_offset: int = 0
    cursor: Cursor | None = None
    max_time: int | None = None
    hidden: Hidden = field(default_factory=Hidden)
    hidden_path: Path | None = None
    """Where `hidden` is, or goes when a reader or the catalog needs it; None where nothing is hidden."""
    saved_hidden: Path | None = None
    """The tombstones that the catalog names, from which `hidden` is recovered with what the tail hid since."""

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts) + sum(tail.rows for tail in self.tails) - len(self.hidden)

    @property
    def size(self) -> Size:
        """All that its files hold."""
        stored = sum(part.bytes for part in self.parts) + sum(tail.length for tail in self.tails)
        return Size(self.rows + len(self.hidden), stored, len(self.hidden))

    @property
    def bytes(self) -> int:
        """What the live rows take on disk: their share of the files that hold them."""
        size = self.size
        return size.bytes * size.live // size.rows if size.live else 0

    @property
    def files(self) -> frozenset[Path]:
        """All files that a reader of this state or its recovery needs."""
        hidden = {path for path in (self.hidden_path, self.saved_hidden) if path}
        return frozenset({part.path for part in self.parts} | {tail.path for tail in self.tails} | hidden)

    @property
    def data(self) -> ParquetFiles:
        return ParquetFiles(
            parts=tuple(part.path for part in self.parts),
            tails=tuple(tail.data for tail in self.tails if tail.rows),
            hidden=self.hidden_path,
        )

    def snapshot(self) -> Snapshot | None:
        """What the world sees of it; None before the first commit."""
        if self.generation == 0:
            return None
        return Snapshot(
            epoch=self.epoch,
            generation=self.generation,
            end_offset=self.end_offset,
            rows=self.rows,
            bytes=self.bytes,
            max_time=self.max_time,
            data=self.data,
            cursor=self.cursor,
        )
