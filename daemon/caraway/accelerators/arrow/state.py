"""What a dataset in memory is at one moment; immutable, so that a failed change leaves no trace."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from caraway.accelerators.arrow.files import LogFile, live, read_file
from caraway.accelerators.constraints import Keys
from caraway.accelerators.places import asked
from caraway.accelerators.runs import Hidden
from caraway.accelerators.tally import Tally
from caraway.core.compaction import Size
from caraway.core.predicate import Predicate, columns_of
from caraway.kernels import conform, filter_batch, max_nanos
from caraway.kernels.rowkeys import row_keys
from caraway.model import OFFSET_COLUMN, ArrowFiles, TableSpec


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that a log takes in, with their offsets."""

    rows: pa.RecordBatch
    offsets: pa.Int64Array


@dataclass(frozen=True, slots=True)
class State:
    tally: Tally
    keys: Keys
    files: tuple[LogFile, ...] = ()
    hidden: Hidden = field(default_factory=Hidden)
    hidden_path: Path | None = None

    @property
    def paths(self) -> frozenset[Path]:
        return frozenset([file.path for file in self.files] + ([self.hidden_path] if self.hidden_path else []))

    @property
    def data(self) -> ArrowFiles:
        return ArrowFiles(tuple(file.path for file in self.files), self.hidden_path)

    def admit(self, rows: pa.RecordBatch, spec: TableSpec) -> tuple["State", Batch]:
        """The rows of a batch that come in, and the state that has them once they are in a file."""
        chosen, keys, replaced = self.keys.admit(conform(rows, spec.schema))
        first = self.tally.end_offset
        offsets = pa.arange(first, first + chosen.num_rows)
        state = self.hide(replaced)
        end = first + chosen.num_rows
        tally = state.tally.grown(chosen.num_rows, chosen.nbytes, end, max_nanos(chosen, spec.time))
        return replace(state, tally=tally, keys=state.keys.plus(keys, offsets)), Batch(chosen, offsets)

    def hide(self, offsets: pa.Int64Array) -> "State":
        """Without the rows at these offsets, which are there."""
        if not len(offsets):
            return self
        ordered = offsets.take(pc.sort_indices(offsets))
        return replace(
            self,
            tally=self.tally.shrunk(len(ordered)),
            hidden=self.hidden.plus(ordered),
            keys=self.keys.less(ordered),
        )

    def delete(self, keys: pa.RecordBatch, spec: TableSpec) -> "State":
        """Without the rows of these primary keys, or of these values where there is no primary key."""
        columns = list(spec.primary_key or spec.schema.names)
        wanted = conform(keys, pa.schema([spec.schema.field(name).with_nullable(True) for name in columns]))
        if spec.primary_key:
            return self._deleted(self.keys.find(spec.primary_key, wanted))
        values = row_keys(wanted)
        matching = [
            batch.column(OFFSET_COLUMN).filter(pc.is_in(row_keys(batch.select(columns)), values))
            for batch in self.batches(columns=columns)
        ]
        return self._deleted(_joined(matching))

    def _deleted(self, offsets: pa.Int64Array) -> "State":
        tally = self.tally.deleted(len(offsets))
        return replace(self.hide(offsets), tally=tally) if len(offsets) else self

    def delete_where(self, predicate: Predicate, spec: TableSpec) -> "State":
        wanted = asked(predicate, spec)
        if wanted is not None:
            keys = self.keys
            if not keys.has_lookup(wanted.column):
                keys = keys.looking_up(wanted.column, self.batches(columns=(wanted.column,)))
            return replace(self, keys=keys).hide(keys.look_up(wanted))
        batches = self.batches(columns=sorted(columns_of(predicate)))
        return self.hide(_joined([filter_batch(batch, predicate).column(OFFSET_COLUMN) for batch in batches]))

    def batches(
        self, files: Sequence[LogFile] | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows that are there, with their offsets; of these files and columns, or of all."""
        hidden = self.hidden.sorted()
        for file in self.files if files is None else files:
            batches = read_file(file.path)
            if columns is not None:
                batches = (batch.select([*columns, OFFSET_COLUMN]) for batch in batches)
            yield from live(batches, hidden)

    @property
    def size(self) -> Size:
        """All that its files hold."""
        hidden = len(self.hidden)
        return Size(self.tally.rows + hidden, sum(file.bytes for file in self.files), hidden)

    def sizes(self) -> list[Size]:
        return [
            Size(file.rows, file.bytes, len(self.hidden.between(file.first, file.end)) if len(self.hidden) else 0)
            for file in self.files
        ]


def _joined(arrays: list[pa.Int64Array]) -> pa.Int64Array:
    return pa.concat_arrays([pa.array([], pa.int64()), *arrays])
