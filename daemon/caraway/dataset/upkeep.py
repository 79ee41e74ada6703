"""What a store needs besides refreshes: expired rows removed, and its own maintenance."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pyarrow as pa
import trio

from caraway.config.model import Dataset
from caraway.core.predicate import Predicate, bind_now
from caraway.core.window import expired
from caraway.dataset.binding import Binding
from caraway.dataset.fetch import nanos
from caraway.dataset.report import Phase, Report
from caraway.dataset.settings import Settings
from caraway.dataset.shared import Shared
from caraway.errors import ConfigError, StoreError
from caraway.events import RetentionBlind, RetentionFinished
from caraway.model import DeleteWhere

Remove: TypeAlias = Callable[[Predicate], Awaitable[int]]
"""Removes stored rows for which a predicate is true; how many rows went. StoreError."""

MAINTAIN_EVERY = 60.0
"""Seconds between calls of a store's maintenance while nothing is committed: bounds of age come due by themselves."""
MAINTAIN_COMMITS = 256
MAINTAIN_ROWS = 512 * 1024
MAINTAIN_BYTES = 32 * 1024**2
"""Commits, and rows and bytes in them, after which maintenance does not wait for that: a reader pays for what they
leave, and the disk for what they replaced."""


class Upkeep:
    """Retention ticks at once and then every interval, counted from the end of the last; driven by the actor's task."""

    def __init__(self, config: Dataset, settings: Settings, binding: Binding, report: Report, shared: Shared) -> None:
        self._name = config.name
        self._settings = settings
        self._binding = binding
        self._report = report
        self._shared = shared
        self.remove: Remove = self._remove_rows
        """How retention removes; for who has more to do with it than to commit."""
        self._evict_at = self._maintain_at = float("inf")
        self._commits = self._rows = self._bytes = 0
        evicts = config.time_column is not None and settings.evicts_every < float("inf")
        self._column = config.time_column.name if evicts and config.time_column is not None else None
        self._blind = False

    @property
    def deadline(self) -> float:
        """When `run` has something to do."""
        return min(self._evict_at, self._maintain_at)

    def start(self) -> None:
        now = trio.current_time()
        if self._settings.accelerated:
            self._maintain_at = now + MAINTAIN_EVERY
            self._evict_at = now if self._settings.evicts_every < float("inf") else float("inf")

    def committed(self, rows: int = 0, size: int = 0) -> None:
        """A commit of so many rows was made; `size` is their bytes, where they replace others."""
        self._commits += 1
        self._rows += rows
        self._bytes += size
        if self._commits >= MAINTAIN_COMMITS or self._rows >= MAINTAIN_ROWS or self._bytes >= MAINTAIN_BYTES:
            self._maintain_at = trio.current_time()

    def note(self, batch: pa.RecordBatch) -> None:
        """Rows are about to be stored; told once a dataset where retention will never see some of them."""
        if self._column is None or self._blind:
            return
        missing = batch.column(self._column).null_count
        self._blind = missing > 0
        if self._blind:
            self._shared.emit(RetentionBlind(self._name, self._column, missing))

    async def run(self) -> None:
        """Do what is due."""
        if self._evict_at <= trio.current_time():
            await self._evict()
            self._evict_at = trio.current_time() + self._settings.evicts_every
        if self._maintain_at <= trio.current_time():
            self._commits = self._rows = self._bytes = 0
            await self._maintain()
            self._maintain_at = trio.current_time() + MAINTAIN_EVERY

    async def _evict(self) -> None:
        try:
            if self._binding.snapshot is not None:
                await self._evict_expired()
        except (StoreError, ConfigError) as error:
            self._report.failed(Phase.RETENTION, error)
        else:
            self._report.succeeded(Phase.RETENTION)

    async def _evict_expired(self) -> None:
        acceleration, now = self._settings.acceleration, nanos(self._shared.wall())
        predicate = expired(self._binding.time, now, acceleration.retention_period, acceleration.retention_sql)
        if predicate is not None and (gone := await self.remove(bind_now(predicate, now))):
            self._shared.emit(RetentionFinished(self._name, gone))

    async def _remove_rows(self, predicate: Predicate) -> int:
        store, before = self._binding.store, self._binding.snapshot
        if store is None or before is None:
            return 0
        after = await store.commit([DeleteWhere(predicate)], before.cursor)
        return before.rows - after.rows

    async def _maintain(self) -> None:
        try:
            if self._binding.store is not None:
                await self._binding.store.maintain()
        except StoreError as error:
            self._report.failed(Phase.STORE, error)
        else:
            self._report.succeeded(Phase.STORE)
