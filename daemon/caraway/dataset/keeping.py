"""Keeps a dataset that is written to and has no source to be fresh with: its store, and the store's upkeep.

writes ──▶ WriteQueue ──▶ store        one task, so that commits, retention and maintenance never meet
"""

from typing import NoReturn

import trio

from caraway.core.retry import backoff
from caraway.core.symptom import Cause
from caraway.dataset.bench import Bench
from caraway.dataset.link import Link
from caraway.dataset.report import Phase
from caraway.dataset.writing import WriteQueue
from caraway.errors import ConfigError, SourceError, StoreError
from caraway.model import DatasetStatus, RefreshOverrides
from caraway.ports import Accelerator


class Keeping:
    """The driver of a `memory:` dataset; a `Driver`."""

    def __init__(self, bench: Bench, writes: WriteQueue) -> None:
        self._bench = bench
        self._writes = writes

    def __repr__(self) -> str:
        return f"Keeping({self._writes!r})"

    def request_refresh(self, overrides: RefreshOverrides) -> None:  # noqa: ARG002
        raise self._no_source()

    def set_refresh_sql(self, text: str) -> None:  # noqa: ARG002
        raise self._no_source()

    def suspected(self, link: Link, error: SourceError) -> None:
        """Nothing reads it."""

    def current(self) -> DatasetStatus:
        return self._bench.report.current()

    def proven(self, now: float) -> None:
        """It is never behind: it is its own source."""

    def cause(self) -> Cause:
        raise AssertionError(f"dataset {self._bench.config.name} has no source to be behind")

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        await self._bench.open_stored()
        self._bench.report.proven_at = None  # the time since the last write is no lag
        self._bench.publish()
        task_status.started()
        while True:
            with self._writes.open():  # what is written while the store opens waits for that
                if await self._opened():
                    await self._keep()
            await trio.sleep(backoff(self._bench.report.failures, self._bench.shared.draw()))

    async def _keep(self) -> NoReturn:
        while True:
            self._bench.publish()
            await self._turn()

    async def _turn(self) -> None:
        """Wait for writes, commit a group of them, and look after the store."""
        with trio.move_on_at(self._bench.upkeep.deadline):
            await self._writes.wait_posted()
        store = self._bench.binding.store
        if store is not None and self._writes.waiting:
            await self._commit(store)
        await self._bench.upkeep.run()

    async def _commit(self, store: Accelerator) -> None:
        report = self._bench.report
        trouble = await self._writes.commit(store)
        if trouble is not None:
            report.failed(Phase.STORE, trouble)
            return
        report.succeeded(Phase.STORE)
        report.last_refresh = self._bench.shared.wall()
        self._bench.upkeep.committed()

    async def _opened(self) -> bool:
        """Open the store with the declared columns; whether that succeeded."""
        report = self._bench.report
        try:
            await self._attempt()
        except (SourceError, StoreError, ConfigError) as error:
            report.failures += 1
            report.failed(Phase.REFRESH, error)
            self._bench.publish()
            return False
        report.succeeded(Phase.REFRESH, Phase.STORE, Phase.CRASH)
        report.failures = 0
        return True

    async def _attempt(self) -> None:
        await self._bench.binding.connect(None)
        store = self._bench.binding.store
        if store is not None and store.snapshot.value is None:
            await store.commit([], None)  # what is only written to is complete when it is empty

    def _no_source(self) -> ConfigError:
        return ConfigError(f"Dataset {self._bench.config.name} is written to and has no source to refresh from")
