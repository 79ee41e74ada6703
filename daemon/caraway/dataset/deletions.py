"""The deletes of an epoch that followers of its log may not have been told yet; a store forgets what it deleted."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from caraway.kernels import conform, take
from caraway.model import Change, Delete, TableSpec

MAX_COMMITS = 4096
MAX_BYTES = 8 * 1024**2
"""What is kept of them; whoever is further behind takes a copy."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """The primary keys that one commit deleted. To be told to who is at `position`, where it began, or before.

    It goes before the rows of its commit: of those with its keys only the ones that came after it are left.
    """

    position: int
    keys: pa.RecordBatch


def deletion_of(changes: Sequence[Change], position: int, spec: TableSpec) -> Deletion | None:
    """What a commit deletes by key; None where it does not, or where the table has no key that a follower could use."""
    schema = pa.schema([spec.schema.field(name).with_nullable(True) for name in spec.primary_key])
    deletes = [conform(change.keys, schema) for change in changes if isinstance(change, Delete)] if len(schema) else []
    if not any(keys.num_rows for keys in deletes):
        return None
    keys = pa.concat_batches(deletes)
    return Deletion(position, take(keys, pa.arange(0, keys.num_rows)))  # a copy: a slice would keep all it is cut from


class Deletions:
    """Those of one epoch, as many as fit; `floor` is the lowest offset from which all are still here."""

    def __init__(self, epoch: str = "", floor: int = 0, *, commits: int = MAX_COMMITS, size: int = MAX_BYTES) -> None:
        self.epoch = epoch
        self.floor = self.newest = floor
        self._commits = commits
        self._size = size
        self._held: deque[Deletion] = deque()
        self._bytes = 0

    def add(self, deletion: Deletion) -> None:
        self._held.append(deletion)
        self._bytes += deletion.keys.nbytes
        self.newest = deletion.position + 1
        while len(self._held) > self._commits or self._bytes > self._size:
            dropped = self._held.popleft()
            self._bytes -= dropped.keys.nbytes
            self.floor = dropped.position + 1

    def since(self, offset: int) -> tuple[Deletion, ...]:
        """What is to be told from an offset on."""
        newer = []
        for deletion in reversed(self._held):
            if deletion.position < offset:
                break
            newer.append(deletion)
        return tuple(reversed(newer))

    def __repr__(self) -> str:
        return f"Deletions({self.epoch!r}, floor {self.floor}, {len(self._held)} commits, {self._bytes} bytes)"
