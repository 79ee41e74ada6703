"""A view as a source of rows, for views that are accelerated."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import pyarrow as pa

from caraway.errors import QueryError, QueryFailure, SourceError
from caraway.flight.codec import BatchDecoder, FlightData
from caraway.kernels import filter_batch
from caraway.model import SYSTEM, FlightMessage, Query, ReadRequest, ResultFormat
from caraway.ports import QueryEngine, QueryResult

PERMANENT = (QueryFailure.INVALID, QueryFailure.NOT_FOUND, QueryFailure.FORBIDDEN)


class ViewSource:
    """`ports.Source` over the SQL of a view: each read runs it again."""

    def __init__(self, engine: QueryEngine, name: str, sql: str) -> None:
        self._engine = engine
        self._name = name
        self._query = Query(sql, format=ResultFormat.IPC, principal=SYSTEM)

    async def schema(self) -> pa.Schema:
        with _as_source_error(self._name):
            message = await self._engine.plan(self._query)
        return _schema(BatchDecoder(), message)

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        with _as_source_error(self._name):
            async with self._engine.execute(self._query) as result:
                yield self._rows(result, request)

    async def _rows(self, result: QueryResult, request: ReadRequest) -> AsyncGenerator[pa.RecordBatch, None]:
        decoder = BatchDecoder()
        _schema(decoder, result.schema)
        left = request.limit
        async for chunk in result:
            batch = decoder.decode(_data(cast("FlightMessage", chunk)))
            if batch is None:
                continue
            batch = filter_batch(batch, request.predicate)
            batch = batch if request.columns is None else batch.select(list(request.columns))
            if left is not None:
                batch = batch.slice(0, left)
                left -= batch.num_rows
            yield batch
            if left == 0:
                return

    async def version(self) -> str | None:
        return None

    async def aclose(self) -> None:
        """Nothing is held between reads."""


def _data(message: FlightMessage) -> FlightData:
    return FlightData(header=memoryview(message.header), body=memoryview(message.body))


def _schema(decoder: BatchDecoder, message: FlightMessage) -> pa.Schema:
    decoder.decode(_data(message))
    return cast("pa.Schema", decoder.schema)


@contextmanager
def _as_source_error(view: str) -> Iterator[None]:
    try:
        yield
    except QueryError as error:
        raise SourceError(
            f"View {view} can't be computed: {error.message}",
            remedy="Correct the view's SQL." if error.failure in PERMANENT else "It is tried again.",
            transient=error.failure not in PERMANENT,
        ) from error
