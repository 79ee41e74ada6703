"""A table of another Spice or caraway as a source: what SQL can say is pushed down, the rest is applied here."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import pyarrow as pa
import trio

from caraway.core import position
from caraway.core.sqltext import Statement, quote, select
from caraway.errors import SourceError, StoreError
from caraway.flight.client import FlightClient
from caraway.kernels import conform, filter_batch
from caraway.model import Arrival, Cursor, ReadRequest

SCHEMA_SECONDS = 60.0
HEARTBEAT_SECONDS = 3.0
"""Fine enough to tell a lag by; 500 idle subscriptions cost a tenth of a core at 2 s, measured."""


class SpiceSource:
    """The port `StreamSource` over Flight.

    Batches of `read` have the schema that `schema()` told last, whatever the stream says. `heartbeat` is the greatest
    number of seconds without a word that a caraway is asked for.
    """

    def __init__(self, client: FlightClient, table: tuple[str, ...], *, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self._client = client
        self._table = table
        self._heartbeat = heartbeat
        self._schema: pa.Schema | None = None

    async def schema(self) -> pa.Schema:
        """As GetSchema tells it; SourceError UnableToGetSchema if the upstream refuses."""
        with trio.move_on_after(SCHEMA_SECONDS):
            self._schema = await self._get_schema()
            return self._schema
        raise SourceError(
            f"The schema of {self._name} did not come within {SCHEMA_SECONDS:.0f} seconds.",
            remedy="Check the upstream's health; it may be busy, or loading the table.",
            code="UnableToGetSchema",
        )

    @asynccontextmanager
    async def read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        statement = select(self._table, request.columns, request.predicate, request.limit)
        async with (
            self._client.do_get(statement.sql) as batches,
            aclosing(self._rows(batches, statement, request)) as rows,
        ):
            yield rows

    def follow(self, cursor: Cursor | None) -> AbstractAsyncContextManager[AsyncIterator[Arrival]]:
        """As the port says; a Spice, which tells no rows of its copies, is asked to count them."""
        path, count = ".".join(self._table), f"SELECT count(*) FROM {self._name}"
        return self._client.subscribe(path, position.decode(cursor), heartbeat=self._heartbeat, count=count)

    async def version(self) -> str | None:
        """A Spice upstream tells no version."""
        return None

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _get_schema(self) -> pa.Schema:
        try:
            return await self._client.get_schema(select(self._table).sql)
        except SourceError as error:
            if error.code != "UnableToQuery":
                raise
            raise SourceError(
                f"The upstream does not tell the schema of {self._name}: {error.message}",
                remedy=error.remedy,
                transient=error.transient,
                retry_after=error.retry_after,
                code="UnableToGetSchema",
            ) from error

    async def _rows(
        self, batches: AsyncIterator[pa.RecordBatch], statement: Statement, request: ReadRequest
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        left = request.limit
        async for batch in batches:
            rows = self._shaped(batch, statement, request.columns)
            if left is not None:
                rows = rows.slice(0, left)
                left -= rows.num_rows
            if rows.num_rows:
                yield rows
            if left == 0:
                return

    def _shaped(self, batch: pa.RecordBatch, statement: Statement, columns: tuple[str, ...] | None) -> pa.RecordBatch:
        try:
            rows = filter_batch(batch, statement.rest)
            if self._schema is None:
                return rows if columns is None else rows.select(list(columns))
            if columns == ():
                return rows.select([])
            return conform(rows, _projected(self._schema, columns))
        except (StoreError, KeyError) as error:
            raise SourceError(
                f"{self._name} sent rows that do not fit its schema: {error}",
                remedy="If the table was changed at the upstream, refresh the dataset or restart to take its schema.",
                transient=False,
                code="SchemaMismatch",
            ) from error

    @property
    def _name(self) -> str:
        return ".".join(map(quote, self._table))

    def __repr__(self) -> str:
        return f"SpiceSource({self._name} at {self._client!r})"


def _projected(schema: pa.Schema, columns: tuple[str, ...] | None) -> pa.Schema:
    return schema if columns is None else pa.schema([schema.field(name) for name in columns], schema.metadata)
