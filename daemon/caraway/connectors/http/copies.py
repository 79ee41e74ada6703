"""Files that were fetched, on our disk for as long as somebody reads them."""

import errno
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from caraway.connectors.http.answers import Validators
from caraway.errors import SourceError

_SHARE_LEFT, _MOST_LEFT = 0.02, 1024**3
"""A download leaves so much of the disk to the datasets: a share of it, and not more bytes than those."""
_LOOK_EVERY = 16 * 1024**2
"""Bytes written between two looks at what is left: others write, too."""
_RUN = secrets.token_hex(8)
"""Names of copies begin so; those of an earlier run do not."""
_PACKED = (
    (re.compile(rb"\x1f\x8b"), ".gz"),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), ".bz2"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), ".zst"),
)
"""How packed files begin; the second number of bz2 is that of an empty one."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(slots=True, eq=False)
class Copy:
    """A file as it was on the server `at` a moment of trio's clock; gone when it is neither wanted nor read."""

    path: Path
    size: int
    validators: Validators
    at: float
    read: bool = False
    wanted: bool = True
    readers: int = 0

    @contextmanager
    def held(self) -> Iterator[Self]:
        """Keep the file until the context ends."""
        self.read = True
        self.readers += 1
        try:
            yield self
        finally:
            self.readers -= 1
            self._remove_if_unused()

    def release(self) -> None:
        """Nobody else will want it."""
        self.wanted = False
        self._remove_if_unused()

    def _remove_if_unused(self) -> None:
        if not self.wanted and not self.readers:
            self.path.unlink(missing_ok=True)


class Download:
    """A file on its way in; every method blocks, and fails with a SourceError."""

    def __init__(self, directory: Path, expected: int, dataset: str) -> None:
        self.size = 0
        self._directory = directory
        self._dataset = dataset
        self._looked = 0
        self._start = b""
        with self._errors():
            _prepare(directory)
            self._check_room(expected)
            self._path = directory / f"{_RUN}-{secrets.token_hex(8)}"
            self._file = self._path.open("wb")

    def write(self, piece: bytes) -> None:
        with self._errors():
            if self.size - self._looked >= _LOOK_EVERY:
                self._looked = self.size
                self._check_room(len(piece))
            self._start = self._start or piece[:16]
            self._file.write(piece)
            self.size += len(piece)

    def finish(self) -> Path:
        """The file under a name that tells how it is packed: servers unpack what names say is packed, and packed what
        they do not."""
        with self._errors():
            self._file.close()
            ending = next((ending for packed, ending in _PACKED if packed.match(self._start)), "")
            return self._path.rename(self._path.with_name(self._path.name + ending))

    def discard(self) -> None:
        with suppress(OSError):  # what is still buffered may not fit either
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _check_room(self, size: int) -> None:
        disk = shutil.disk_usage(self._directory)
        room = disk.free - min(int(disk.total * _SHARE_LEFT), _MOST_LEFT)
        if size > room:
            raise self._full(f"{max(room, 0):,} bytes may be used of it, {size:,} are needed")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise self._full(str(error)) from error
            raise SourceError(f"{self._dataset}: a download can't be kept in {self._directory}: {error}.") from error

    def _full(self, why: str) -> SourceError:
        return SourceError(
            f"{self._dataset}: the disk of {self._directory} has no room for the file ({why}).",
            remedy="Free some space there; the file is fetched again by itself.",
        )


def _prepare(directory: Path) -> None:
    """Make the folder, without what an earlier run left in it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.suffix != ".json" and not path.name.startswith(_RUN):
            path.unlink()
