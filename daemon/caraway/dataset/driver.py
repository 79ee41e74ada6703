"""What the task of a dataset does, by its mode: refresh it, follow a stream, or keep what is written to it."""

from typing import Protocol

import trio

from caraway.dataset.lagging import Evidence
from caraway.dataset.link import Link
from caraway.errors import SourceError
from caraway.model import DatasetStatus, RefreshOverrides


class Driver(Evidence, Protocol):
    """Driven by one actor: `run` is the actor's task, all else is called from other tasks and does not wait."""

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Serve what is stored, `started` once that is open, and keep it fresh until cancelled.

        Run again after a bug ended it, it goes on from what is stored.
        """
        ...

    def request_refresh(self, overrides: RefreshOverrides) -> None:
        """Ask for one refresh, which starts after this call; ConfigError for one that is not possible."""
        ...

    def set_refresh_sql(self, text: str) -> None:
        """What is selected from now on; ConfigError."""
        ...

    def suspected(self, link: Link, error: SourceError) -> None:
        """A reader met its first failure at the source."""
        ...

    def current(self) -> DatasetStatus:
        """The status with what changes without being published."""
        ...
