"""What a worker process is started with."""

from dataclasses import dataclass
from pathlib import Path

from caraway.config.model import QueryLimits

BASE_MEMORY = 384 * 1024**2
"""What the interpreter, its libraries and their threads, whose stacks count as a whole, may take beside the pool."""
SLACK = 1.25
"""DataFusion does not account for every byte; beyond the pool by this factor the kernel ends it."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`directory` is private to the worker: its socket, its links, its spill files. Sizes in bytes."""

    directory: Path
    pool: int
    hard_limit: int
    partitions: int
    spill_compression: str = "zstd"

    @property
    def socket(self) -> Path:
        return self.directory / "socket"


def worker_settings(limits: QueryLimits, directory: Path, *, usable: int, cores: int) -> WorkerSettings:
    """The share of one worker of what `runtime.query` allows on a machine with `usable` bytes of memory."""
    total = limits.memory_limit if limits.memory_limit is not None else usable * 9 // 10
    pool = total // limits.workers
    return WorkerSettings(
        directory=directory,
        pool=pool,
        hard_limit=min(int(pool * SLACK) + BASE_MEMORY, max(usable, pool)),
        partitions=limits.target_partitions or cores,
        spill_compression=limits.spill_compression,
    )
