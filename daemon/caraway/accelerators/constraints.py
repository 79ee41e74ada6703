"""Primary keys and unique indexes: what happens to a batch whose keys are already there, or twice in it.

All of it runs in Arrow: a key is one value a row (rowkeys.py), an index sorted runs of them (runs.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.keys import distinct
from caraway.accelerators.rowkeys import first_of_each, is_distinct, key
from caraway.accelerators.runs import Hidden, KeyIndex
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
    def names(self) -> frozenset[str]:
        """The columns that a constraint names."""
        return frozenset(column for constraint in self.constraints for column in constraint.columns)

    @property
    def is_worn(self) -> bool:
        """Whether so many entries are dead that building the indexes anew is due."""
        return len(self.dead) > _WORN + max((len(one.index) for one in self.constraints), default=0) // 2

    def columns_of(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """The keys of a batch's rows, one column a constraint."""
        return [key(batch, constraint.columns) for constraint in self.constraints]

    def admit(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[pa.Array], pa.Int64Array]:
        """The rows to add, their keys, and the offsets of live rows that they replace; StoreError for a violation."""
        replaced = pa.array([], pa.int64())
        batch, keys = self._without_repetitions(batch)
        for place, constraint in enumerate(self.constraints):
            found = self._find(constraint, keys[place])
            match constraint.on_conflict:
                case OnConflict.DROP:
                    batch, keys = _picked(batch, keys, pc.indices_nonzero(found.is_null()))
                case OnConflict.REJECT:
                    if not pc.all(pc.is_in(found.drop_null(), replaced), min_count=0).as_py():
                        raise violation(constraint.columns, self.spec.name)
                case OnConflict.UPSERT | OnConflict.UPSERT_DEDUP | OnConflict.UPSERT_LAST:
                    replaced = found.drop_null()
        return batch, keys, replaced

    def find(self, columns: Sequence[str], batch: pa.RecordBatch) -> pa.Int64Array:
        """The offsets of the live rows with these values of a constraint's columns, each once."""
        constraint = next(one for one in self.constraints if one.columns == tuple(columns))
        return pc.unique(self._find(constraint, key(batch, columns)).drop_null())

    def plus(self, keys: Sequence[pa.Array], offsets: pa.Int64Array) -> Keys:
        """With more rows, given by `columns_of`, whose offsets are greater than all here."""
        pairs = zip(self.constraints, keys, strict=True)
        grown = (replace(one, index=one.index.plus(column, offsets)) for one, column in pairs)
        return replace(self, constraints=tuple(grown)) if self.constraints else self

    def less(self, offsets: pa.Int64Array) -> Keys:
        """Without the rows at these offsets, which were live until now."""
        return replace(self, dead=self.dead.plus(offsets)) if self.constraints else self

    def _without_repetitions(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[pa.Array]]:
        """A batch in which no key but null is there twice, and its keys."""
        keys = self.columns_of(batch)
        if all(column.null_count == 0 and is_distinct(column) for column in keys):
            return batch, keys
        batch = distinct(batch, self.spec)
        keys = self.columns_of(batch)
        for place, constraint in enumerate(self.constraints):
            if not is_distinct(keys[place]):
                if constraint.on_conflict is not OnConflict.DROP:
                    raise violation(constraint.columns, self.spec.name)
                batch, keys = _picked(batch, keys, first_of_each(keys[place]))
        return batch, keys

    def _find(self, constraint: Constraint, keys: pa.Array) -> pa.Int64Array:
        found = constraint.index.newest(keys)
        return pc.if_else(self.dead.contains(found), _NULL, found) if len(self.dead) else found


def _picked(batch: pa.RecordBatch, keys: list[pa.Array], rows: pa.Array) -> tuple[pa.RecordBatch, list[pa.Array]]:
    return batch.take(rows), [column.take(rows) for column in keys]
