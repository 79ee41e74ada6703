"""Primary keys and unique indexes: what happens to a batch whose keys are already there, or twice in it.

All of it runs in Arrow: a key is one value a row (rowkeys.py), an index sorted runs of them (runs.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.keys import distinct
from caraway.accelerators.parquet.rowkeys import first_of_each, is_distinct, key
from caraway.accelerators.parquet.runs import Hidden, KeyIndex
from caraway.accelerators.storage import conflict_key, violation
from caraway.model import OnConflict, TableSpec

_NULL = pa.scalar(None, pa.int64())
_WORN = 64 * 1024


@dataclass(frozen=True, slots=True)
class Constraint:
    """Columns whose values are unique together; a row with a null among them conflicts with none."""

    columns: tuple[str, ...]
    on_conflict: OnConflict
    index: KeyIndex = field(default_factory=KeyIndex)


@dataclass(frozen=True, slots=True)
class Keys:
    """The constraints of a table with an index for each; immutable, so that a failed commit leaves no trace."""

    spec: TableSpec
    constraints: tuple[Constraint, ...]
    dead: Hidden = field(default_factory=Hidden)
    """Offsets that stand in the indexes though their rows are no longer there."""

    @classmethod
    def of(cls, spec: TableSpec) -> Keys:
        """Empty indexes for a table's constraints, that of `on_conflict` first."""
        target = conflict_key(spec)
        unique = dict.fromkeys([target, spec.primary_key, *(index.columns for index in spec.indexes if index.unique)])
        policies = [(columns, spec.on_conflict if columns == target else OnConflict.REJECT) for columns in unique]
        return cls(spec, tuple(Constraint(columns, policy) for columns, policy in policies if columns))

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(column for constraint in self.constraints for column in constraint.columns)

    @property
    def is_worn(self) -> bool:
        """Whether so many entries are dead that building the indexes anew is due."""
        return len(self.dead) > _WORN + max((len(one.index) for one in self.constraints), default=0) // 2

    def admit(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Int64Array]:
        """The rows to add and the offsets of live rows that they replace; StoreError where a constraint refuses."""
        replaced = pa.array([], pa.int64())
        batch = distinct(batch, self.spec)
        for constraint in self.constraints:
            batch = self._without_repetitions(constraint, batch)
            found = self._find(constraint, batch)
            match constraint.on_conflict:
                case OnConflict.DROP:
                    batch = batch.filter(found.is_null())
                case OnConflict.REJECT:
                    if not pc.all(pc.is_in(found.drop_null(), replaced), min_count=0).as_py():
                        raise violation(constraint.columns, self.spec.name)
                case OnConflict.UPSERT | OnConflict.UPSERT_DEDUP | OnConflict.UPSERT_LAST:
                    replaced = found.drop_null()
        return batch, replaced

    def find(self, columns: Sequence[str], keys: pa.RecordBatch) -> pa.Int64Array:
        """The offsets of the live rows with these values of a constraint's columns, each once."""
        constraint = next(one for one in self.constraints if one.columns == tuple(columns))
        return pc.unique(self._find(constraint, keys).drop_null())

    def plus(self, batch: pa.RecordBatch, offsets: pa.Int64Array) -> Keys:
        """With the rows of a batch, whose offsets are greater than all here."""
        grown = (replace(one, index=one.index.plus(key(batch, one.columns), offsets)) for one in self.constraints)
        return replace(self, constraints=tuple(grown))

    def less(self, offsets: pa.Int64Array) -> Keys:
        """Without the rows at these offsets, which were live until now."""
        return replace(self, dead=self.dead.plus(offsets)) if self.constraints else self

    def _find(self, constraint: Constraint, batch: pa.RecordBatch) -> pa.Int64Array:
        found = constraint.index.newest(key(batch, constraint.columns))
        return pc.if_else(self.dead.contains(found), _NULL, found)

    def _without_repetitions(self, constraint: Constraint, batch: pa.RecordBatch) -> pa.RecordBatch:
        keys = key(batch, constraint.columns)
        if is_distinct(keys):
            return batch
        if constraint.on_conflict is OnConflict.DROP:
            return batch.take(first_of_each(keys))
        raise violation(constraint.columns, self.spec.name)
