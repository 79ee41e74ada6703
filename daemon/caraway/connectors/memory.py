"""`from: memory:<name>`: a table that is only written to; there is nothing to read at its source."""

from collections.abc import AsyncIterator, Generator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import pyarrow as pa
import trio

from caraway.config.model import Dataset
from caraway.config.sqltypes import schema_of
from caraway.connectors.draw import draw, needed_columns
from caraway.errors import ConfigError, ConfigProblem
from caraway.model import ReadRequest


class MemorySource:
    """An empty table of a declared schema."""

    def __init__(self, schema: pa.Schema, *, dataset: str) -> None:
        self._schema = schema
        self._dataset = dataset
        self._limiter = trio.CapacityLimiter(1)

    async def schema(self) -> pa.Schema:
        return self._schema

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        return self._read(request)

    @asynccontextmanager
    async def _read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        needed_columns(self._schema, request, dataset=self._dataset)
        async with aclosing(draw(_nothing(), request, self._limiter, dataset=self._dataset)) as rows:
            yield rows

    async def version(self) -> str | None:
        return "empty"

    async def aclose(self) -> None:
        pass

    def __repr__(self) -> str:
        return f"MemorySource({self._dataset!r}, {self._schema.names})"


def _nothing() -> Generator[pa.RecordBatch, None, None]:
    yield from ()


async def open_memory_source(dataset: Dataset) -> MemorySource:
    """The source of a `memory:` dataset; its `columns` declare the schema, or ConfigError."""
    if not dataset.columns:
        message = "a memory dataset declares its columns: [{name: .., type: ..}]"
        raise ConfigError(ConfigProblem(message, f"datasets[{dataset.name}].columns"))
    return MemorySource(schema_of(dataset.columns), dataset=dataset.name)
