"""Snapshots for queries: of the store, or of what the source answers, read in full into a temporary one."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager

import pyarrow as pa

from caraway.dataset.fetch import conformed
from caraway.dataset.link import Link
from caraway.dataset.spool import Spool, SpoolFile
from caraway.errors import QueryError, QueryFailure, SourceError, StoreError, unnamed
from caraway.model import ReadRequest, ScanRequest, Snapshot
from caraway.ports import Accelerator, Source


@contextmanager
def stored_snapshot(store: Accelerator) -> Iterator[Snapshot]:
    """What the store holds, until the context ends; QueryError UNAVAILABLE where it can't be read now."""
    with ExitStack() as held:
        try:
            snapshot = held.enter_context(store.pin())
        except StoreError as error:
            raise QueryError(str(error), QueryFailure.UNAVAILABLE) from error
        yield snapshot


@asynccontextmanager
async def source_snapshot(link: Link, scan: ScanRequest, schema: pa.Schema, spool: Spool) -> AsyncIterator[Snapshot]:
    """The rows that the scan asks for, of the columns of `schema` that it names, until the context ends.

    QueryError SOURCE or RESOURCES. The source is let go before the rows are used.
    """
    columns = _projection(schema, scan.columns)
    with spool.file(columns) as file:
        try:
            async with link.use() as source:
                snapshot = await _read(source, scan, columns, file)
        except (SourceError, StoreError) as error:
            told = unnamed(str(error), scan.table)
            raise QueryError(f"The source of dataset {scan.table} failed: {told}", QueryFailure.SOURCE) from error
        yield snapshot


async def _read(source: Source, scan: ScanRequest, columns: pa.Schema, file: SpoolFile) -> Snapshot:
    request = ReadRequest(tuple(columns.names), scan.predicate, scan.limit, scan.each, scan.principal)
    async with source.read(request) as batches, aclosing(conformed(batches, columns)) as rows:
        return await file.fill(rows, scan.limit)


def _projection(schema: pa.Schema, columns: tuple[str, ...] | None) -> pa.Schema:
    """The columns in question; one of them where only rows are counted, since a source can't be asked for none."""
    names = schema.names if columns is None else columns or schema.names[:1]
    return pa.schema([schema.field(name) for name in names])
