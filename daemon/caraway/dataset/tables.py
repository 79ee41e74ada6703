"""What SQL can name, composed of what the dataset actors publish; and pinned snapshots of it for one query."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import trio

from caraway.errors import QueryError, QueryFailure
from caraway.latest import Latest
from caraway.model import Catalog, Generation, Pinned, ScanRequest, TableInfo, ViewInfo


class Table(Protocol):
    """What a dataset actor offers to queries; `table` is None until its schema is known."""

    @property
    def table(self) -> Latest[TableInfo | None]: ...

    def resolve(self, scan: ScanRequest) -> AbstractAsyncContextManager[Pinned]: ...

    @property
    def generation(self) -> Generation | None: ...


class DatasetTables:
    """`ports.Tables` over the datasets and views of one pod; `run` keeps the catalog up to date."""

    def __init__(self, tables: Mapping[str, Table], views: Iterable[ViewInfo] = ()) -> None:
        self._tables = tables
        self._views = tuple(views)
        self._catalog = Latest(self._compose(0))

    @property
    def catalog(self) -> Latest[Catalog]:
        return self._catalog

    async def run(self) -> None:
        """Publish the catalog again whenever a table appears or changes."""
        async with trio.open_nursery() as nursery:
            for table in self._tables.values():
                nursery.start_soon(self._follow, table.table)

    @asynccontextmanager
    async def resolve(self, scans: Sequence[ScanRequest]) -> AsyncIterator[Sequence[Pinned]]:
        async with AsyncExitStack() as pins:
            yield await _entered(pins, [self._table(scan).resolve(scan) for scan in scans])

    def generation(self, table: str) -> Generation | None:
        found = self._tables.get(table)
        return found.generation if found is not None else None

    def _table(self, scan: ScanRequest) -> Table:
        try:
            return self._tables[scan.table]
        except KeyError:
            raise QueryError(f"table '{scan.table}' not found", QueryFailure.NOT_FOUND) from None

    async def _follow(self, table: Latest[TableInfo | None]) -> None:
        seen = table.value
        self._publish()
        while True:
            seen = await table.wait_until(lambda value, seen=seen: value != seen)  # type: ignore[misc]
            self._publish()

    def _publish(self) -> None:
        fresh = self._compose(self._catalog.value.version)
        if fresh != self._catalog.value:
            self._catalog.publish(self._compose(fresh.version + 1))

    def _compose(self, version: int) -> Catalog:
        known = {name: table.table.value for name, table in self._tables.items()}
        there = tuple(info for info in known.values() if info is not None)
        return Catalog(version, there, self._views, tuple(name for name, info in known.items() if info is None))


async def _entered(pins: AsyncExitStack, contexts: Sequence[AbstractAsyncContextManager[Pinned]]) -> list[Pinned]:
    """All of them, beside each other, since each may wait for its source; the first QueryError ends the others."""
    if len(contexts) == 1:
        return [await pins.enter_async_context(contexts[0])]
    entered: dict[int, Pinned] = {}
    failures: list[QueryError] = []

    async def enter(place: int, context: AbstractAsyncContextManager[Pinned]) -> None:
        try:
            entered[place] = await pins.enter_async_context(context)
        except QueryError as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for place, context in enumerate(contexts):
            nursery.start_soon(enter, place, context)
    if failures:
        raise failures[0]
    return [entered[place] for place in range(len(contexts))]
