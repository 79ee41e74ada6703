"""One refresh: read the source, leave out what is stored, make rows and checkpoint visible in one commit."""

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
from caraway.model import ReadRequest, Snapshot
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
    async with store.stage(replace=order.replace) as staging:
        async with aclosing(_rows(source, store, order, began)) as rows:
            async for batch in rows:
                await staging.append(batch)
                progress(batch)
        checkpoint = Checkpoint(wall(), began, sql, None if order.special else version)
        return Fetched(checkpoint, await staging.commit(encode(checkpoint)))


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
