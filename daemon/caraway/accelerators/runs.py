"""Immutable sorted runs in memory: which offset a key has, and which offsets are hidden.

A run is searched by bisection in Arrow. New entries make a new small run; runs of like size merge, so there are
O(log CAP) small ones and full ones of CAP entries. Merging needs memory for one more run of at most CAP entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from caraway.core.compaction import runs_to_merge

CAP = 2 * 1024**2


@dataclass(frozen=True, slots=True)
class Run:
    """Keys in ascending order, equal ones by age, and the offset of each."""

    keys: pa.Array
    offsets: pa.Int64Array

    @classmethod
    def of(cls, keys: pa.Array, offsets: pa.Int64Array) -> Run:
        if _ascends(keys):
            return cls(keys, offsets)
        order = pc.sort_indices(keys)  # stable
        return cls(keys.take(order), offsets.take(order))

    def newest(self, keys: pa.Array) -> pa.Int64Array:
        """The greatest offset of each key, null where it is not in this run."""
        after = pc.search_sorted(self.keys, keys, side="right").cast(pa.int64())
        place = pc.if_else(pc.greater(after, 0), pc.subtract(after, 1), pa.scalar(None, pa.int64()))
        found = pc.equal(self.keys.take(place), keys)
        return pc.if_else(found, self.offsets.take(place), pa.scalar(None, pa.int64()))

    def may_hold(self, low: object, high: object) -> bool:
        return bool(self.keys[0].as_py() <= high and low <= self.keys[-1].as_py())


@dataclass(frozen=True, slots=True)
class KeyIndex:
    """Keys of stored rows to offsets: 16 bytes a row for integer keys, 25 and the length of the key for others.

    Entries of rows that were hidden since stay until the index is built anew; the caller checks what it finds.
    """

    runs: tuple[Run, ...] = ()

    def __len__(self) -> int:
        return sum(len(run.keys) for run in self.runs)

    def plus(self, keys: pa.Array, offsets: pa.Int64Array) -> KeyIndex:
        """With more entries, whose offsets are greater than all here; null keys are left out."""
        if keys.null_count:
            valid = keys.is_valid()
            keys, offsets = keys.filter(valid), offsets.filter(valid)
        if len(keys) == 0:
            return self
        runs = (*self.runs, Run.of(keys, offsets))
        count = runs_to_merge([len(run.keys) for run in runs], CAP)
        return KeyIndex((*runs[:-count], _merged(runs[-count:])) if count else runs)

    def newest(self, keys: pa.Array) -> pa.Int64Array:
        """The greatest offset that each key ever had, null for unknown and null keys."""
        found = pa.nulls(len(keys), pa.int64())
        bounds = pc.min_max(keys).as_py() if len(keys) else {"min": None}
        if bounds["min"] is None:
            return found
        for run in self.runs:
            if run.may_hold(bounds["min"], bounds["max"]):
                found = pc.coalesce(run.newest(keys), found)
        return found


def _ascends(keys: pa.Array) -> bool:
    """As numbers from a sequence do, which need no sorting."""
    return len(keys) < 2 or bool(pc.all(pc.less_equal(keys[:-1], keys[1:])).as_py())


def _merged(runs: Iterable[Run]) -> Run:
    pairs = [(run.keys, run.offsets) for run in runs]
    return Run.of(pa.concat_arrays([keys for keys, _ in pairs]), pa.concat_arrays([offsets for _, offsets in pairs]))


@dataclass(frozen=True, slots=True)
class Hidden:
    """Offsets of rows that are no longer there though their file still holds them (tombstones)."""

    index: KeyIndex = field(default_factory=KeyIndex)

    def __len__(self) -> int:
        return len(self.index)

    def plus(self, offsets: pa.Int64Array) -> Hidden:
        """With more offsets, none of which is here."""
        return Hidden(self.index.plus(offsets, offsets)) if len(offsets) else self

    def contains(self, offsets: pa.Int64Array) -> pa.BooleanArray:
        """Which of the offsets are hidden; false for null."""
        return self.index.newest(offsets).is_valid()

    def between(self, first: int, end: int) -> pa.Int64Array:
        """The hidden offsets from `first` up to before `end`, ascending."""
        bounds = pa.array([first, end], pa.int64())
        pieces = [pa.array([], pa.int64())]
        for run in self.index.runs:
            low, high = pc.search_sorted(run.keys, bounds).to_pylist()
            pieces.append(run.keys.slice(low, high - low))
        found = pa.concat_arrays(pieces)
        return found if len(pieces) == 2 else found.take(pc.sort_indices(found))

    def without(self, first: int, end: int) -> Hidden:
        """Less those from `first` up to before `end`, whose rows are gone for good."""
        everything = self.sorted()
        keep = pc.or_(pc.less(everything, first), pc.greater_equal(everything, end))
        return Hidden.of(everything.filter(keep))

    def sorted(self) -> pa.Int64Array:
        """All of them, ascending."""
        return self.between(0, 2**63 - 1)

    @classmethod
    def of(cls, offsets: pa.Int64Array) -> Hidden:
        """From offsets in ascending order."""
        pieces = (offsets.slice(start, CAP) for start in range(0, len(offsets), CAP))
        return cls(KeyIndex(tuple(Run(piece, piece) for piece in pieces)))
