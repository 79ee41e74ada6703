"""Pinned snapshots as tables of the engine: Parquet natively, Arrow memory-mapped, SQLite as a stream."""

import contextlib
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
from datafusion import DataFrame, Expr, SessionContext, col, lit
from datafusion.catalog import Table

from caraway.core.predicate import Predicate
from caraway.core.sqltext import split
from caraway.errors import QueryError, QueryFailure
from caraway.model import (
    OFFSET_COLUMN,
    ArrowFiles,
    ParquetFiles,
    Pinned,
    ScanRequest,
    SnapshotData,
    SqliteTable,
)
from caraway.query.worker.stored import BATCH_ROWS, LIVE_COLUMN, Stored, mapped, read

FEW_ROWS = 262_144
"""What one thread reads in less time than it takes to share out."""


class Links:
    """A folder of symbolic links to part files, gone with the last table that reads it.

    Links, not hard ones: the temp directory may be on another file system, and a cached table then holds no disk
    space. Reading is safe while the snapshot is pinned, and a snapshot is pinned whenever a query is given it.
    """

    def __init__(self, parts: Sequence[Path], parent: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="parts-", dir=parent))
        for number, part in enumerate(parts):
            (self.path / f"{number:06}.parquet").symlink_to(part)

    def __del__(self) -> None:
        # The whole temp directory is wiped at the next start; here it only must not grow.
        with contextlib.suppress(OSError):
            for link in self.path.iterdir():
                link.unlink()
            self.path.rmdir()


@dataclass(frozen=True, slots=True)
class Opened:
    """A table of the engine and what must live as long as it is read.

    Where not all rows may be shown, `stored` has those columns of the files too that are none of the table's, and
    `columns` are the table's.
    """

    table: Table
    data: SnapshotData
    schema: pa.Schema
    links: Links | None = None
    stored: DataFrame | None = None
    columns: Sequence[Expr] = ()
    read: Stored = field(default_factory=Stored)

    @property
    def is_empty(self) -> bool:
        """Whether its files never had a row."""
        return self.links is None and not any(file.rows for file in self.read.files.values())


class Tables:
    """Opens snapshots; keeps the newest of each table open, since the files of an equal snapshot are equal."""

    def __init__(self, context: SessionContext, directory: Path, partitions: int) -> None:
        self._context = context
        self._directory = directory
        self._partitions = partitions
        self._opened: dict[str, Opened] = {}
        self._used: dict[str, float] = {}

    def open(self, request: ScanRequest, pinned: Pinned, schema: pa.Schema) -> Opened:
        """The rows of a snapshot that may be shown, under the table's own columns, in their order and types."""
        snapshot = pinned.snapshot
        if isinstance(snapshot.data, SqliteTable):
            return Opened(_sqlite_table(request, pinned, schema), snapshot.data, schema)
        opened = self._opened.get(request.table)
        if opened is None or opened.data != snapshot.data or opened.schema != schema or not _suits(opened, pinned.only):
            before = opened.read if opened is not None else Stored()
            opened = self._files(snapshot.data, schema, before, everything=pinned.only is not None)
            self._opened[request.table] = opened
        self._used[request.table] = time.monotonic()
        if pinned.only is None or opened.is_empty:  # without rows nothing tells of the columns to judge them by
            return opened
        return _admitted(opened, pinned.only, request.predicate if snapshot.rows > BATCH_ROWS else None)

    def is_open(self, request: ScanRequest, pinned: Pinned) -> bool:
        """Whether `open` would find it."""
        opened = self._opened.get(request.table)
        return opened is not None and opened.data == pinned.snapshot.data and _suits(opened, pinned.only)

    def forget(self, since: float) -> None:
        """Close what no query used since then; what still runs keeps its own."""
        for name in [name for name, used in self._used.items() if used < since]:
            self._used.pop(name, None)
            self._opened.pop(name, None)

    def keep(self, names: Iterable[str]) -> None:
        """Forget tables that are no longer in the catalog."""
        for name in set(self._opened).difference(names):
            self._opened.pop(name, None)

    def _files(self, data: ArrowFiles | ParquetFiles, schema: pa.Schema, before: Stored, *, everything: bool) -> Opened:
        rows, links = read(data, before), None
        pieces: list[DataFrame] = []
        if isinstance(data, ParquetFiles) and data.parts:
            links = Links(data.parts, self._directory)
            parts = self._frame(parquet_table(links.path, data.parts[-1]))
            pieces.append(parts if data.hidden is None else self._without(parts, data.hidden))
        pieces += [self._memory(batches, live=rows.hides) for batches in rows.batches()]
        if not everything:
            return Opened(self._union(pieces, schema).into_view(), data, schema, links, read=rows)
        wanted = _with_stored(schema, pieces)
        stored = pieces[0] if len(pieces) == 1 and _has(pieces[0], wanted) else self._union(pieces, wanted)
        columns = columns_of(stored.schema(), schema)
        return Opened(stored.select(*columns).into_view(), data, schema, links, stored, columns, rows)

    def _union(self, pieces: list[DataFrame], schema: pa.Schema) -> DataFrame:
        if not pieces:
            return self._frame(memory_table(schema, [[]]))
        shown = [project(piece, schema) for piece in pieces]
        whole = shown[0]
        for more in shown[1:]:
            whole = whole.union(more)
        return whole

    def _without(self, rows: DataFrame, hidden: Path) -> DataFrame:
        """The rows whose offset is not among the hidden ones."""
        gone = [batch.rename_columns(["hidden"]) for batch in mapped(hidden)]
        if not gone:
            return rows
        offsets = self._frame(memory_table(gone[0].schema, [gone]))
        return rows.join(offsets, left_on=OFFSET_COLUMN, right_on="hidden", how="anti")

    def _memory(self, batches: list[pa.RecordBatch], *, live: bool) -> DataFrame:
        rows = self._frame(memory_table(batches[0].schema, spread(batches, self._partitions)))
        return rows.filter(_quoted(LIVE_COLUMN)) if live else rows

    def _frame(self, table: Table) -> DataFrame:
        return self._context.read_table(table)


def _suits(opened: Opened, only: Predicate | None) -> bool:
    """Whether it has the columns that tell which rows may be shown, if not all may."""
    return only is None or opened.stored is not None


def _with_stored(schema: pa.Schema, pieces: Sequence[DataFrame]) -> pa.Schema:
    """The table's columns and those that only its files have; the newest file tells of a column last."""
    own = {*schema.names, OFFSET_COLUMN, LIVE_COLUMN}
    extra = {field.name: field for piece in pieces for field in piece.schema()}
    return pa.schema([*schema, *(field for name, field in extra.items() if name not in own)])


def _has(rows: DataFrame, schema: pa.Schema) -> bool:
    """Whether they have these columns in these types, among others."""
    have = rows.schema()
    return all(wanted.name in have.names and have.field(wanted.name).type == wanted.type for wanted in schema)


def _admitted(opened: Opened, only: Predicate, hint: Predicate | None) -> Opened:
    """The table with those rows alone that `only` admits; the base stays open for other queries.

    The query's own condition stands first if it is given, though the engine applies it again: it is mostly the cheaper
    one, and only the rows that it leaves are compared further (1.2 against 2.6 ms for a key among 1 M rows in memory).
    """
    wanted, _ = split(hint)
    admitted, rest = split(only)
    if opened.stored is None or admitted is None or rest is not None:
        raise QueryError(f"The rows that {only} admits can't be told apart.", QueryFailure.INTERNAL)
    shown = opened.stored.filter(admitted if wanted is None else f"({wanted}) AND {admitted}")
    return replace(opened, table=shown.select(*opened.columns).into_view())


def project(rows: DataFrame, schema: pa.Schema) -> DataFrame:
    """The columns of `schema`, in order and type; one that a partial answer of a source lacks is NULL."""
    return rows.select(*columns_of(rows.schema(), schema))


def columns_of(have: pa.Schema, schema: pa.Schema) -> list[Expr]:
    """The columns of `schema`, of rows that have these."""
    columns = []
    for wanted in schema:
        if have.get_field_index(wanted.name) < 0:
            columns.append(lit(None).cast(wanted.type).alias(wanted.name))
        elif have.field(wanted.name).type != wanted.type:
            columns.append(_quoted(wanted.name).cast(wanted.type).alias(wanted.name))
        else:
            columns.append(_quoted(wanted.name))
    return columns


def _quoted(name: str) -> Expr:
    escaped = name.replace('"', '""')
    return col(f'"{escaped}"')


def memory_table(schema: pa.Schema, partitions: list[list[pa.RecordBatch]]) -> Table:
    """A table over batches that stay where they are."""
    context = SessionContext()
    nothing = pa.RecordBatch.from_pylist([], schema=schema)
    context.register_record_batches("t", [batches or [nothing] for batches in partitions])
    return context.table_provider("t")


def parquet_table(folder: Path, sample: Path) -> Table:
    """A table over all Parquet files of a folder; `sample` is the newest one, which has each column that has values.

    Rows of a file that was written before a column was added have null there.
    """
    import pyarrow.parquet as pq

    context = SessionContext()
    context.register_parquet("t", str(folder), schema=pq.read_schema(sample), skip_metadata=True)
    return context.table_provider("t")


def spread(batches: list[pa.RecordBatch], partitions: int) -> list[list[pa.RecordBatch]]:
    """The batches in up to `partitions` contiguous runs; in one where that is quicker."""
    if sum(batch.num_rows for batch in batches) <= FEW_ROWS:
        return [batches]
    share = -(-len(batches) // partitions)
    return [batches[start : start + share] for start in range(0, len(batches), share)]


def _sqlite_table(request: ScanRequest, pinned: Pinned, schema: pa.Schema) -> Table:
    from caraway.query.worker.streamed import streamed_table

    return streamed_table(request, pinned, schema)
