"""Rows of a SQLite dataset as Arrow batches: in log order, as of one snapshot, with what SQLite can filter filtered."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from caraway.accelerators.sqlite.chunks import gathered
from caraway.accelerators.sqlite.database import Database
from caraway.accelerators.sqlite.layout import GONE, OFFSET, Layout, chunk_table
from caraway.accelerators.sqlite.sql import Condition, Value, condition, quoted
from caraway.core.predicate import Predicate, columns_of
from caraway.errors import StoreError
from caraway.kernels import filter_batch
from caraway.model import OFFSET_COLUMN, Snapshot, SqliteTable

_BATCH_BYTES = 8 * 1024**2
_BATCH_ROWS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """Which rows: offsets in [start, end), as of a generation; `row_bytes` is what a row takes on average."""

    path: Path
    table: str
    schema: pa.Schema
    end: int
    generation: int
    start: int = 0
    columns: Sequence[str] | None = None
    predicate: Predicate | None = None
    limit: int | None = None
    row_bytes: int = 0

    @property
    def batch_rows(self) -> int:
        return max(256, min(_BATCH_ROWS, _BATCH_BYTES // max(self.row_bytes, 1)))

    @property
    def wanted(self) -> list[str]:
        return list(self.schema.names if self.columns is None else self.columns)


def request_of(
    snapshot: Snapshot,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    predicate: Predicate | None = None,
    *,
    limit: int | None = None,
    start: int = 0,
) -> Request:
    """What to read of a snapshot whose data is a SqliteTable."""
    if not isinstance(snapshot.data, SqliteTable):
        raise TypeError(snapshot.data)
    return Request(
        snapshot.data.path,
        snapshot.data.table,
        schema,
        snapshot.end_offset,
        snapshot.generation,
        start,
        columns,
        predicate,
        limit,
        snapshot.bytes // max(snapshot.rows, 1),
    )


def read_rows(request: Request) -> Generator[pa.RecordBatch, None, None]:
    """Batches of the wanted columns, then the offset; a connection of its own lives as long as the iterator."""
    database = Database(request.path, read_only=True)
    try:
        if request.predicate is None:
            yield from _pages(database, request)
        else:
            with database.reading():
                yield from rows_from(database, request)
    finally:
        database.close()


def _pages(database: Database, request: Request) -> Iterator[pa.RecordBatch]:
    """All rows, a page a transaction: however slow the reader, the file's log does not have to wait for it.

    The pages belong together since rows that the snapshot has are marked and not deleted while it is pinned.
    """
    start, left = request.start, request.limit
    while left is None or left > 0:
        limit = request.batch_rows if left is None else min(left, request.batch_rows)
        with database.reading():
            page = list(rows_from(database, replace(request, start=start, limit=limit)))
        if not page:
            return
        yield from page
        start = page[-1].column(page[-1].num_columns - 1)[-1].as_py() + 1
        left = None if left is None else left - sum(batch.num_rows for batch in page)


def rows_from(database: Database, request: Request) -> Iterator[pa.RecordBatch]:
    """The same over an open connection, which sees its own uncommitted rows too."""
    layout = _layout(request)
    pushed = condition(request.predicate, layout.types) if request.predicate else None
    residual = None if pushed and pushed.exact else request.predicate
    left = request.limit
    for batch in _batches(database, request, layout, pushed, limit=None if residual else left):
        rows = filter_batch(batch, residual).select([*request.wanted, OFFSET_COLUMN])
        rows = rows if left is None else rows.slice(0, left)
        left = None if left is None else left - rows.num_rows
        if rows.num_rows:
            yield rows
        if left == 0:
            return


def _layout(request: Request) -> Layout:
    """The columns to fetch: those wanted and those that the predicate reads."""
    wanted = {*request.wanted, *columns_of(request.predicate)}
    unknown = sorted(wanted - set(request.schema.names))
    if unknown:
        raise StoreError(f"{request.table} has no column {', '.join(map(repr, unknown))}.", transient=False)
    return Layout(pa.schema([field for field in request.schema if field.name in wanted]))


def _batches(
    database: Database, request: Request, layout: Layout, pushed: Condition | None, *, limit: int | None
) -> Iterator[pa.RecordBatch]:
    later = _has_removed_since(database, request)
    sql, values = select(request, layout, pushed, later=later, limit=limit)
    with database.read(sql, values, request.batch_rows) as reader:
        first = True
        for batch in reader:
            stored = batch.slice(1) if first else batch
            first = False
            if stored.num_rows:
                yield from _decoded(database, request, layout, stored)


def _has_removed_since(database: Database, request: Request) -> bool:
    sql = f"SELECT 1 FROM {quoted(request.table)} WHERE {GONE} > ? LIMIT 1"
    return bool(database.execute(sql, (request.generation,)))


def select(
    request: Request, layout: Layout, pushed: Condition | None, *, later: bool, limit: int | None
) -> tuple[str, tuple[Value, ...]]:
    """The query, whose first row is not data: the driver takes the types of the columns from the rows it sees first.

    `later` says that rows of the snapshot were removed after it; if none was, the indexes can be used, which know
    only the rows that are there.
    """
    types = "".join(f", {layout.codecs[name].stored.value}" for name in layout.in_table)
    where = f"{OFFSET} >= ? AND {OFFSET} < ? AND ({GONE} IS NULL{f' OR {GONE} > ?' if later else ''})"
    values: tuple[Value, ...] = (request.start, request.end, *((request.generation,) if later else ()))
    if pushed:
        where, values = f"{where} AND ({pushed.sql})", (*values, *pushed.values)
    limited = "" if limit is None else f" LIMIT {limit + 1}"
    rows = f"SELECT {layout.columns()} FROM {quoted(request.table)} WHERE {where}"
    return f"SELECT -1{types} UNION ALL {rows} ORDER BY 1{limited}", values


def _decoded(database: Database, request: Request, layout: Layout, stored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in Arrow's types; in halves where a dictionary outgrew its index."""
    offsets = stored.column(0)
    try:
        columns = dict(zip(layout.in_table, _columns(layout, stored), strict=True))
    except pa.ArrowInvalid:
        if stored.num_rows == 1:
            raise
        half = stored.num_rows // 2
        yield from _decoded(database, request, layout, stored.slice(0, half))
        yield from _decoded(database, request, layout, stored.slice(half))
        return
    if layout.in_chunks:
        nested = pa.schema([layout.schema.field(name) for name in layout.in_chunks])
        found = gathered(database, chunk_table(request.table), offsets, nested)
        columns |= dict(zip(layout.in_chunks, found.columns, strict=True))
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(stored.num_rows, field.type)
        for field in layout.schema
    ]
    schema = layout.schema.append(pa.field(OFFSET_COLUMN, pa.int64()))
    yield pa.RecordBatch.from_arrays([*arrays, offsets], schema=schema)


def _columns(layout: Layout, stored: pa.RecordBatch) -> list[pa.Array]:
    return [
        layout.codecs[name].decode(column) for name, column in zip(layout.in_table, stored.columns[1:], strict=True)
    ]
