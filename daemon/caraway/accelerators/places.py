"""Where the rows of a key are that many rows may have: sorted runs in memory of stretches of neighbouring offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.runs import CAP
from caraway.core.compaction import runs_to_merge
from caraway.core.predicate import Compare, In, Literal, Predicate
from caraway.model import TableSpec

_NONE = pa.array([], pa.int64())


@dataclass(frozen=True, slots=True)
class Run:
    """Keys in ascending order; each has rows at `counts` offsets from `firsts` on."""

    keys: pa.Array
    firsts: pa.Int64Array
    counts: pa.Int64Array

    @classmethod
    def of(cls, keys: pa.Array, firsts: pa.Int64Array, counts: pa.Int64Array) -> Run:
        order = pc.sort_indices(keys)
        return cls(keys.take(order), firsts.take(order), counts.take(order))

    def find(self, keys: pa.Array) -> pa.Int64Array:
        """The offsets of the rows with these keys, each of which is asked for once."""
        low, high = (pc.search_sorted(self.keys, keys, side=side).cast(pa.int64()) for side in ("left", "right"))
        found = _spread(low, pc.subtract(high, low))
        return _spread(self.firsts.take(found), self.counts.take(found))


@dataclass(frozen=True, slots=True)
class Places:
    """16 bytes and the key for each stretch. Rows that went stay until it is built anew; the caller leaves them out."""

    runs: tuple[Run, ...] = ()

    def __len__(self) -> int:
        return sum(len(run.keys) for run in self.runs)

    def plus(self, keys: pa.Array, offsets: pa.Int64Array) -> Places:
        """With more rows, in the order of their offsets; null keys are left out."""
        if keys.null_count:
            valid = keys.is_valid()
            keys, offsets = keys.filter(valid), offsets.filter(valid)
        if len(keys) == 0:
            return self
        runs = (*self.runs, Run.of(*_stretches(keys, offsets)))
        count = runs_to_merge([len(run.keys) for run in runs], CAP)
        return Places((*runs[:-count], _merged(runs[-count:])) if count else runs)

    def find(self, keys: pa.Array) -> pa.Int64Array:
        """The offsets of all rows that ever had one of the keys."""
        wanted = pc.unique(keys.drop_null())
        found = pa.concat_arrays([_NONE, *(run.find(wanted) for run in self.runs)])
        return found.take(pc.sort_indices(found))


@dataclass(frozen=True, slots=True)
class Asked:
    """The rows whose column has one of these values, none of which is null."""

    column: str
    values: pa.Array


def asked(predicate: Predicate, spec: TableSpec) -> Asked | None:
    """What a predicate asks for that is true for some texts of an indexed column and no other rows; None for others."""
    match predicate:
        case Compare(column, "=", literal):
            literals: tuple[Literal, ...] = (literal,)
        case In(column, literals):
            pass
        case _:
            return None
    texts = [literal.value for literal in literals if literal.value is not None]
    kind = spec.schema.field(column).type if column in spec.schema.names else None
    is_text = kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))
    indexed = any(index.columns == (column,) for index in spec.indexes)
    if not is_text or not indexed or not all(isinstance(text, str) for text in texts):
        return None
    return Asked(column, pa.array(texts, kind))


def _stretches(keys: pa.Array, offsets: pa.Int64Array) -> tuple[pa.Array, pa.Int64Array, pa.Int64Array]:
    """The first row of each run of equal keys at neighbouring offsets, its offset, and how many rows follow."""
    goes_on = pc.and_(pc.equal(keys[1:], keys[:-1]), pc.equal(pc.subtract(offsets[1:], offsets[:-1]), 1))
    begins = pc.add(pc.indices_nonzero(pc.invert(goes_on)).cast(pa.int64()), 1)
    starts = pa.concat_arrays([pa.array([0], pa.int64()), begins])
    ends = pa.concat_arrays([begins, pa.array([len(keys)], pa.int64())])
    return keys.take(starts), offsets.take(starts), pc.subtract(ends, starts)


def _spread(firsts: pa.Int64Array, counts: pa.Int64Array) -> pa.Int64Array:
    """All the numbers of the ranges that begin at `firsts` and have so many each."""
    some = pc.greater(counts, 0)
    firsts, counts = firsts.filter(some), counts.filter(some)
    if not len(counts):
        return _NONE
    ends = pc.cumulative_sum(counts)
    shifts = pc.add(pc.subtract(firsts, ends), counts)  # what makes of the places in the result the numbers
    decoded = pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(ends, shifts))
    return pc.add(decoded, pa.arange(0, ends[-1].as_py()))


def _merged(runs: Sequence[Run]) -> Run:
    keys, firsts, counts = zip(*((run.keys, run.firsts, run.counts) for run in runs), strict=True)
    return Run.of(pa.concat_arrays(keys), pa.concat_arrays(firsts), pa.concat_arrays(counts))
