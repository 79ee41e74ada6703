"""Primary keys and unique indexes: what happens to a batch whose keys are already there, or twice in it.

All of it runs in Arrow: a key is one value a row (rowkeys.py), an index sorted runs of them (runs.py). For deletes by
values of an indexed column the places of its rows are known too (places.py), from the first such delete on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.keys import distinct
from caraway.accelerators.places import Asked, Places
from caraway.accelerators.rowkeys import first_of_each, is_distinct, key
from caraway.accelerators.runs import Hidden, KeyIndex
from caraway.accelerators.storage import conflict_key, violation
from caraway.model import OFFSET_COLUMN, OnConflict, TableSpec

_NULL = pa.scalar(None, pa.int64())
_WORN = 64 * 1024


@dataclass(frozen=True, slots=True)
class Constraint:
    """Columns whose values are unique together; a row with a null among them conflicts with none."""

    columns: tuple[str, ...]
    on_conflict: OnConflict
    index: KeyIndex = field(default_factory=KeyIndex)


@dataclass(frozen=True, slots=True)
class Lookup:
    """A column by whose values rows are deleted, and the places of the rows that have each."""

    column: str
    places: Places = field(default_factory=Places)


@dataclass(frozen=True, slots=True)
class Keys:
    """The constraints of a table with an index for each; immutable, so that a failed commit leaves no trace."""

    spec: TableSpec
    constraints: tuple[Constraint, ...]
    lookups: tuple[Lookup, ...] = ()
    dead: Hidden = field(default_factory=Hidden)
    """Offsets that stand in the indexes though their rows are no longer there."""

    @classmethod
    def of(cls, spec: TableSpec) -> Keys:
        """Empty indexes for a table's constraints, that of `on_conflict` first."""
        target = conflict_key(spec)
        unique = dict.fromkeys([target, spec.primary_key, *(index.columns for index in spec.indexes if index.unique)])
        policies = [(columns, spec.on_conflict if columns == target else OnConflict.REJECT) for columns in unique]
        return cls(spec, tuple(Constraint(columns, policy) for columns, policy in policies if columns))

    def emptied(self) -> Keys:
        """The same indexes without entries."""
        fresh = Keys.of(self.spec)
        return replace(fresh, lookups=tuple(Lookup(lookup.column) for lookup in self.lookups))

    @property
    def names(self) -> frozenset[str]:
        """The columns that an entry is made of."""
        columns = [column for constraint in self.constraints for column in constraint.columns]
        return frozenset([*columns, *(lookup.column for lookup in self.lookups)])

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep entries of."""
        return not self.constraints and not self.lookups

    @property
    def is_worn(self) -> bool:
        """Whether so many entries are dead that building the indexes anew is due."""
        sizes = [len(one.index) for one in self.constraints] + [len(one.places) for one in self.lookups]
        return len(self.dead) > _WORN + max(sizes, default=0) // 2

    def columns_of(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """The keys of a batch's rows, one column a constraint, then one a lookup."""
        columns = [constraint.columns for constraint in self.constraints]
        return [key(batch, names) for names in (*columns, *((lookup.column,) for lookup in self.lookups))]

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

    def has_lookup(self, column: str) -> bool:
        return any(lookup.column == column for lookup in self.lookups)

    def look_up(self, asked: Asked) -> pa.Int64Array:
        """The offsets of the live rows that have one of the values, ascending; there has to be a lookup for them."""
        lookup = next(one for one in self.lookups if one.column == asked.column)
        values = pa.RecordBatch.from_arrays([asked.values], [asked.column])
        found = lookup.places.find(key(values, values.schema.names))
        return found.filter(pc.invert(self.dead.contains(found))) if len(self.dead) else found

    def looking_up(self, column: str, rows: Iterable[pa.RecordBatch]) -> Keys:
        """With a lookup by a column, made of all live rows, of which that and the offset are read."""
        places = Places()
        for batch in rows:
            places = places.plus(key(batch, (column,)), batch.column(OFFSET_COLUMN))
        return replace(self, lookups=(*self.lookups, Lookup(column, places)))

    def plus(self, keys: Sequence[pa.Array], offsets: pa.Int64Array) -> Keys:
        """With more rows, given by `columns_of`, whose offsets are greater than all here."""
        if self.is_empty:
            return self
        many = len(self.constraints)
        indexed = zip(self.constraints, keys[:many], strict=True)
        placed = zip(self.lookups, keys[many:], strict=True)
        return replace(
            self,
            constraints=tuple(replace(one, index=one.index.plus(column, offsets)) for one, column in indexed),
            lookups=tuple(replace(one, places=one.places.plus(column, offsets)) for one, column in placed),
        )

    def less(self, offsets: pa.Int64Array) -> Keys:
        """Without the rows at these offsets, which were live until now."""
        return self if self.is_empty else replace(self, dead=self.dead.plus(offsets))

    def _without_repetitions(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[pa.Array]]:
        """A batch in which no key but null is there twice, and its keys."""
        keys = self.columns_of(batch)
        unique = keys[: len(self.constraints)]
        if all(column.null_count == 0 and is_distinct(column) for column in unique):
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
