"""One refresh: read the source, leave out what is stored, make rows and checkpoint visible in one commit.

Of a copy that is to replace the rows, a digest is taken on the way. Where it is that of what is stored, the copy is
discarded: only the checkpoint changes, and whoever keeps answers computed from the rows can keep them.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from caraway.config.model import RefreshSql
from caraway.core.checkpoint import Checkpoint, decode, encode
from caraway.core.predicate import Predicate, all_of, relative_columns
from caraway.core.window import TimeAxis, append_bound, watermark, window_bound
from caraway.dataset.dedup import Deduplicator
from caraway.dataset.moments import at_moment
from caraway.kernels import conform
from caraway.kernels.digest import Digest, can_digest
from caraway.model import ReadRequest, Snapshot, TableSpec
from caraway.ports import Accelerator, Source

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Order:
    """What a fetch is to do; `axes` are the time column and the time partition column, where the dataset has them."""

    replace: bool
    refresh_sql: RefreshSql | None = None
    axes: tuple[TimeAxis, ...] = ()
    window: float | None = None
    overlap: float = 0.0
    special: bool = False
    """Asked for with overrides: never skipped, and never what a later one may be skipped for."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """`checkpoint` is stored, or for a skipped fetch (`snapshot` None) what would be."""

    checkpoint: Checkpoint
    snapshot: Snapshot | None = None


Progress = Callable[[pa.RecordBatch], None]
"""Told of each batch that was staged."""

Seal = Callable[[str | None], Checkpoint]
"""The checkpoint of a fetch that is complete, with the digest of what is stored then."""


async def fetch(
    source: Source,
    store: Accelerator,
    order: Order,
    *,
    wall: Callable[[], datetime],
    loading: Callable[[], None],
    progress: Progress,
) -> Fetched:
    """Run the order; `loading` is called once it is known that there is something to fetch.

    Failures are SourceError and StoreError; until the commit nothing of it is visible.
    """
    began = wall()
    version = await source.version()
    stored = decode(store.snapshot.value.cursor) if store.snapshot.value is not None else None
    sql = order.refresh_sql.text if order.refresh_sql is not None else None
    if stored is not None and _unchanged(order, stored, sql, version):
        return Fetched(Checkpoint(wall(), began, sql, version))
    loading()
    order = replace(order, refresh_sql=await at_moment(order.refresh_sql, source, nanos(began)))

    def seal(contents: str | None) -> Checkpoint:
        return Checkpoint(wall(), began, sql, None if order.special else version, contents=contents)

    bring = _replaced if order.replace else _appended
    async with aclosing(_rows(source, store, order, began)) as rows:
        return await bring(store, rows, seal, progress)


async def _replaced(
    store: Accelerator, rows: AsyncGenerator[pa.RecordBatch, None], seal: Seal, progress: Progress
) -> Fetched:
    """Put the rows in the place of those that are stored, unless they are the same."""
    digest = Digest(_meaning(store.spec)) if can_digest(store.spec.schema) else None
    async with store.stage(replace=True) as staging:
        async for batch in rows:
            await staging.append(batch)
            progress(batch)
            if digest is not None:
                digest.update(batch)
        checkpoint = seal(digest.hexdigest() if digest is not None else None)
        if checkpoint.contents is None or checkpoint.contents != _stored_contents(store):
            return Fetched(checkpoint, await staging.commit(encode(checkpoint)))
    return Fetched(checkpoint, await store.commit([], encode(checkpoint)))


async def _appended(
    store: Accelerator, rows: AsyncGenerator[pa.RecordBatch, None], seal: Seal, progress: Progress
) -> Fetched:
    """Add the rows to those that are stored, if there are any."""
    batch = await anext(rows, None)
    if batch is None and store.snapshot.value is not None:
        checkpoint = seal(_stored_contents(store))
        return Fetched(checkpoint, await store.commit([], encode(checkpoint)))
    async with store.stage(replace=False) as staging:
        while batch is not None:
            await staging.append(batch)
            progress(batch)
            batch = await anext(rows, None)
        checkpoint = seal(None)
        return Fetched(checkpoint, await staging.commit(encode(checkpoint)))


def _stored_contents(store: Accelerator) -> str | None:
    snapshot = store.snapshot.value
    checkpoint = decode(snapshot.cursor) if snapshot is not None else None
    return checkpoint.contents if checkpoint is not None else None


def _meaning(spec: TableSpec) -> str:
    """What else than the rows of a copy decides which of them are stored, and as what."""
    return repr((str(spec.schema), spec.primary_key, spec.on_conflict.value, spec.indexes))


def nanos(moment: datetime) -> int:
    """Nanoseconds since 1970 UTC, exact to the microsecond."""
    since = moment - EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def _unchanged(order: Order, stored: Checkpoint, sql: str | None, version: str | None) -> bool:
    """Whether the stored rows are what a fetch would bring; a replaced data window and now() move by themselves."""
    relative = order.refresh_sql is not None and relative_columns(order.refresh_sql.predicate)
    moving = relative or (order.replace and order.window is not None)
    same = version is not None and version == stored.version and sql == stored.refresh_sql
    return same and not moving and not order.special


async def _rows(
    source: Source, store: Accelerator, order: Order, began: datetime
) -> AsyncGenerator[pa.RecordBatch, None]:
    """What is to be added, as batches of the store's schema."""
    old = None if order.replace else store.snapshot.value
    mark = watermark(old.max_time, order.overlap) if old is not None else None
    bound = window_bound(order.axes, nanos(began), order.window) if mark is None else append_bound(order.axes, mark)
    async with (
        source.read(_request(store, order, bound)) as batches,
        aclosing(conformed(batches, store.spec.schema)) as fitted,
        aclosing(_unseen(fitted, store, old, bound)) as unseen,
    ):
        async for batch in unseen:
            if batch.num_rows:
                yield batch


async def _unseen(
    batches: AsyncIterator[pa.RecordBatch], store: Accelerator, old: Snapshot | None, bound: Predicate | None
) -> AsyncGenerator[pa.RecordBatch, None]:
    """The batches without the rows that are stored."""
    if old is None or old.rows == 0:
        async for batch in batches:
            yield batch
        return
    with store.pin() as snapshot:
        fresh = Deduplicator(store, snapshot, bound=bound, time=store.spec.time).fresh(batches)
        async with aclosing(fresh):
            async for batch in fresh:
                yield batch


async def conformed(batches: AsyncIterator[pa.RecordBatch], schema: pa.Schema) -> AsyncGenerator[pa.RecordBatch, None]:
    """The batches brought to a schema; StoreError for what does not fit."""
    async for batch in batches:
        yield conform(batch, schema)


def _request(store: Accelerator, order: Order, bound: Predicate | None) -> ReadRequest:
    condition = order.refresh_sql.predicate if order.refresh_sql is not None else None
    return ReadRequest(tuple(store.spec.schema.names), all_of(condition, bound))
