"""A disk in memory that forgets what was not synced when its machine loses power.

Writes are seen at once and are durable only after a sync; a new or renamed file has its name for good only after a
sync of the folder. A crash keeps of the rest a piece that ends anywhere, sometimes with zeros in it or behind, or
nothing.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import pyarrow as pa
import trio

from caraway.accelerators.parquet.wal import Piece

HOLES = (16, 512)
"""Bytes that a disk loses at a place, though it kept what came later."""


@dataclass
class File:
    """What is seen of a file, of which the first `synced` bytes survive anything."""

    data: bytearray = field(default_factory=bytearray)
    synced: int = 0


class PowerCut(BaseException):
    """This process is dead: what it still does happens nowhere."""


class Disk:
    """Files of one machine, which outlive its processes."""

    def __init__(self, rng: Random) -> None:
        self.names: dict[str, File] = {}
        self.full = False
        self.slow = 0.0
        """Seconds that each sync takes on top of its usual time."""
        self._rng = rng
        self._durable: dict[str, File] = {}

    def crash(self) -> None:
        """What is left when the power comes back."""
        names = self.names if self._rng.random() < 0.5 else self._durable
        self.names = {name: File(bytearray(kept := self._survivor(file)), len(kept)) for name, file in names.items()}
        self._durable = dict(self.names)
        self.full, self.slow = False, 0.0

    def wipe(self) -> None:
        """Somebody emptied it."""
        self.names, self._durable = {}, {}

    def sync_folder(self) -> None:
        self._durable = dict(self.names)

    def _survivor(self, file: File) -> bytes:
        loose = len(file.data) - file.synced
        end = file.synced + self._rng.choice([0, loose, self._rng.randint(0, loose)])
        kept = file.data[:end] + bytes(self._rng.choice([0, 0, loose]))
        if loose and self._rng.random() < 0.5:  # sectors are written in any order
            first = self._rng.randrange(file.synced, len(file.data))
            last = min(first + self._rng.choice(HOLES), len(kept))
            kept[first:last] = bytes(max(0, last - first))
        return bytes(kept)

    def __repr__(self) -> str:
        return f"<Disk { ({name: (len(file.data), file.synced) for name, file in self.names.items()}) }>"


class Mount:
    """A disk as one process uses it, until that is dead; `step` is called before each operation and may end it."""

    def __init__(self, disk: Disk, step: Callable[[], None], rng: Random) -> None:
        self.dead = trio.Event()
        self._disk = disk
        self._step = step
        self._rng = rng

    async def write(self, name: str, offset: int, pieces: Sequence[Piece]) -> int:
        """Put pieces into a file, one after the other; the offset behind them. OSError for a full disk."""
        for piece in pieces:
            self._begin()
            file = self._disk.names.setdefault(name, File())
            if self._disk.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            file.data[offset:] = memoryview(piece)
            file.synced = min(file.synced, offset)
            offset += len(memoryview(piece))
        return offset

    async def sync(self, name: str) -> None:
        """Make what a file holds now durable."""
        file = self._disk.names[name]
        length = len(file.data)
        await self._work()
        file.synced = max(file.synced, min(length, len(file.data)))

    async def sync_folder(self) -> None:
        await self._work()
        self._disk.sync_folder()

    def rename(self, name: str, target: str) -> None:
        self._begin()
        self._disk.names[target] = self._disk.names.pop(name)

    def truncate(self, name: str, length: int) -> None:
        self._begin()
        file = self._disk.names[name]
        del file.data[length:]
        file.synced = min(file.synced, length)

    def remove(self, name: str) -> None:
        self._begin()
        self._disk.names.pop(name, None)

    def read(self, name: str) -> pa.Buffer | None:
        """All of a file; None where there is none."""
        self._begin()
        file = self._disk.names.get(name)
        return pa.py_buffer(bytes(file.data)) if file is not None else None

    def list(self) -> list[str]:
        return list(self._disk.names)

    def _begin(self) -> None:
        self._step()
        if self.dead.is_set():
            raise PowerCut

    async def _work(self) -> None:
        """The time that a sync takes, in which the power may go."""
        self._begin()
        with trio.move_on_after(self._rng.uniform(0.0002, 0.004) + self._disk.slow):
            await self.dead.wait()
        self._begin()
