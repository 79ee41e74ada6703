"""What the task of a dataset works with, whatever keeps the dataset fresh."""

from dataclasses import dataclass

from caraway.config.model import Dataset, RefreshSql
from caraway.config.sql import parse_refresh_sql
from caraway.core.checkpoint import Checkpoint, decode
from caraway.dataset.binding import Binding
from caraway.dataset.fitting import check_columns
from caraway.dataset.report import Phase, Report
from caraway.dataset.settings import Settings
from caraway.dataset.shared import Shared
from caraway.dataset.upkeep import Upkeep
from caraway.errors import ConfigError, StoreError
from caraway.model import DatasetStatus


@dataclass(frozen=True, slots=True)
class Bench:
    """The parts of one dataset; its task alone changes them."""

    config: Dataset
    settings: Settings
    binding: Binding
    report: Report
    upkeep: Upkeep
    shared: Shared

    async def open_stored(self) -> Checkpoint | None:
        """Serve what an earlier run left, and start its upkeep; what that run noted beside the rows."""
        try:
            await self.binding.open_stored()
        except (StoreError, ConfigError) as error:
            self.report.failed(Phase.STORE, error)
        stored = self.stored()
        if stored is not None:
            self.report.last_refresh, self.report.proven_at = stored.refreshed_at, stored.proven_at
        self.upkeep.start()
        return stored

    def stored(self) -> Checkpoint | None:
        snapshot = self.binding.snapshot
        return decode(snapshot.cursor) if snapshot is not None else None

    def parsed(self, text: str) -> RefreshSql:
        """A refresh_sql that fits the table; ConfigError."""
        parsed = parse_refresh_sql(text, self.config.name)
        if self.binding.schema is not None:
            check_columns(self.binding.schema, parsed, self.config.name)
        return parsed

    def doing(self, activity: str) -> None:
        self.report.activity = activity
        self.publish()

    def publish(self) -> None:
        """Make what is so now the status that others read."""
        self._observe()
        self.report.publish()

    def current(self) -> DatasetStatus:
        """What is so now, for who asks alone."""
        self._observe()
        return self.report.current()

    def _observe(self) -> None:
        report, binding = self.report, self.binding
        report.loaded = report.loaded or binding.loaded
        report.resolved = binding.schema is not None
        report.snapshot = binding.snapshot
