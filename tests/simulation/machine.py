"""A machine that never fails, for what is not about failures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from caraway.model import Change, Snapshot, TableSpec
from simulation.disk import Disk, Mount
from simulation.disk_store import DiskStore, open_disk_store


class NoBooks:
    """A clerk who writes nothing down."""

    def begins(self, epoch: str | None, changes: Sequence[Change]) -> None:
        pass

    def published(self, snapshot: Snapshot) -> None:
        pass

    def refused(self) -> None:
        pass


@dataclass
class Machine:
    rng: Random = field(default_factory=lambda: Random(1))

    def __post_init__(self) -> None:
        self.disk = Disk(self.rng)

    async def open(self, spec: TableSpec, *, create: bool) -> DiskStore | None:
        mount = Mount(self.disk, lambda: None, self.rng)
        return await open_disk_store(mount, spec, self.rng, NoBooks(), create=create)
