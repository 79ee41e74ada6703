"""Which snapshots somebody still reads."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from caraway.errors import StoreError
from caraway.model import Snapshot


class Pins:
    """Counts the readers of each state of one dataset; belongs to the task that writes it."""

    def __init__(self) -> None:
        self._held: Counter[tuple[str, int]] = Counter()

    @contextmanager
    def hold(self, snapshot: Snapshot | None, dataset: str) -> Iterator[Snapshot]:
        """Keep a snapshot readable until the context ends; StoreError where there is none."""
        if snapshot is None:
            raise StoreError(f"Dataset {dataset} holds no data yet.")
        key = snapshot.epoch, snapshot.generation
        self._held[key] += 1
        try:
            yield snapshot
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    def epochs(self) -> frozenset[str]:
        """The epochs that are read."""
        return frozenset(epoch for epoch, _ in self._held)

    def oldest(self, epoch: str, current: int) -> int:
        """The lowest generation of an epoch that is read or may be pinned from now on."""
        return min((generation for held, generation in self._held if held == epoch), default=current)

    def __repr__(self) -> str:
        return f"Pins({dict(self._held)!r})"
