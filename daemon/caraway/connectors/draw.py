"""Rows from a blocking iterator, drawn a batch at a time in threads and shaped as a request wants them."""

from collections.abc import AsyncGenerator, Generator

import pyarrow as pa
import trio

from caraway import blocking
from caraway.core.predicate import columns_of, has_raw, raw_terms
from caraway.errors import SourceError, StoreError
from caraway.kernels import filter_batch
from caraway.model import ReadRequest


def needed_columns(schema: pa.Schema, request: ReadRequest, *, dataset: str) -> tuple[str, ...]:
    """The columns to read for `request`, in schema order; SourceError names one that the source does not have."""
    if has_raw(request.predicate):
        raise SourceError(
            f"{dataset}: this source can't evaluate {', '.join(raw_terms(request.predicate))} of refresh_sql.",
            remedy="Use comparisons of columns with constants, IN, LIKE, IS NULL, AND, OR and NOT.",
            transient=False,
        )
    wanted = set(schema.names if request.columns is None else request.columns) | columns_of(request.predicate)
    missing = sorted(wanted - set(schema.names))
    if missing:
        raise SourceError(
            f"{dataset}: the source has no column {missing[0]!r}; it has {', '.join(schema.names)}.",
            remedy="Correct the column's name, or restart to take over a changed schema.",
            transient=False,
        )
    return tuple(name for name in schema.names if name in wanted)


async def draw(
    batches: Generator[pa.RecordBatch, None, None],
    request: ReadRequest,
    limiter: trio.CapacityLimiter,
    *,
    dataset: str,
) -> AsyncGenerator[pa.RecordBatch, None]:
    """The rows of `batches` that `request` asks for; the generator is run, and closed, in threads only."""
    left = request.limit
    try:
        while left is None or left > 0:
            rows = await blocking.call(_next, batches, request, dataset, limiter=limiter)
            if rows is None:
                return
            if left is not None:
                rows = rows.slice(0, left)
                left -= rows.num_rows
            if rows.num_rows:
                yield rows
    finally:
        with trio.CancelScope(shield=True):  # closing a file is short
            await blocking.call(batches.close, limiter=limiter)


def _next(batches: Generator[pa.RecordBatch, None, None], request: ReadRequest, dataset: str) -> pa.RecordBatch | None:
    try:
        batch = next(batches, None)
        if batch is None:
            return None
        batch = filter_batch(batch, request.predicate)
    except StoreError as error:
        raise SourceError(f"{dataset}: {error.message}", remedy=error.remedy, transient=False) from error
    return batch if request.columns is None else batch.select(list(request.columns))
