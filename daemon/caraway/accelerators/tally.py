"""The counters of a dataset's newest generation, which every engine keeps with its rows."""

from dataclasses import dataclass, replace

from caraway.model import Cursor, Snapshot, SnapshotData


@dataclass(frozen=True, slots=True)
class Tally:
    """One generation of a dataset without its rows; the fields are those of `model.Snapshot`."""

    epoch: str
    generation: int = 1
    end_offset: int = 0
    rows: int = 0
    bytes: int = 0
    max_time: int | None = None
    cursor: Cursor | None = None

    def grown(self, rows: int, size: int, end_offset: int, max_time: int | None) -> "Tally":
        """After `rows` rows of `size` bytes came, the newest below `end_offset`."""
        if not rows:
            return self
        return replace(
            self,
            rows=self.rows + rows,
            bytes=self.bytes + size,
            end_offset=end_offset,
            max_time=later(self.max_time, max_time),
        )

    def shrunk(self, rows: int) -> "Tally":
        """After `rows` rows went; they are taken to have been of average size."""
        if not rows:
            return self
        left = self.rows - rows
        return replace(self, rows=left, bytes=self.bytes * left // max(self.rows, 1))

    def deleted(self, rows: int) -> "Tally":
        """After a delete by key: if rows went, it has an offset of its own, so that a position in the log covers it."""
        return replace(self.shrunk(rows), end_offset=self.end_offset + 1) if rows else self

    def snapshot(self, data: SnapshotData) -> Snapshot:
        return Snapshot(
            epoch=self.epoch,
            generation=self.generation,
            end_offset=self.end_offset,
            rows=self.rows,
            bytes=self.bytes,
            max_time=self.max_time,
            data=data,
            cursor=self.cursor,
        )


def later(left: int | None, right: int | None) -> int | None:
    """The greater of two moments, either of which may be missing."""
    return max((moment for moment in (left, right) if moment is not None), default=None)
